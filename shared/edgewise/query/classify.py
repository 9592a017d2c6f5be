"""What kind of question a request asks: may its answer be found by meaning, only to the letter, or not at all?

    semantic  another wording may have the same answer
    exact     only the same request has: code, numbers to work on, long or non-text input, tools, what is somebody's own
    skip      not even that: an order to do something

Every doubt makes it stricter. Beside that it says how soon the answer grows old, and whether the last turn means the
same outside its conversation. Rules are general grammar in English and Chinese, as patterns in this file; topic is not
looked at, and no list here was made from the questions that it is measured on. About 0.05 ms a request.
"""

from __future__ import annotations

import re
from typing import Any

from edgewise.chat import ChatRequest
from edgewise.patterns import later
from edgewise.query.asker import Reading
from edgewise.query.solo import any_of, stands_alone
from edgewise.query.text import language, less_thanks, normal
from edgewise.words import Volatility

LONGEST_CHARS = 600
"""About 150 words: beyond, a sentence encoder no longer reads everything."""


_CODE = later(
    r"```|`[^`]+`|^\s{4,}\S|[{};]\s*$|[=!<>]=|=>|->|::|\w\(\w*\)|\w\.\w+\(|\b(?:def|class|import|return"
    r"|function|const"
    r"|SELECT .+ FROM|#include)\b(?=.*[(){};:=*])|</?\w+>|\$[A-Za-z_]\w+|\w_\w|\b[a-z]+[A-Z]\w+\("
    r"|\\[a-z]+\{|https?://",
    re.MULTILINE,
)
_SUM = later(r"\d\s*[+*^×÷]\s*\d|\d\s+[-/]\s+\d|[a-z]\s*=\s*-?\d|\d\s*[-+]\s*\d+\s*=|√|∫|\b\d+x\b")
_GIVEN = any_of(
    "translate", "rewrite", "rephrase", "paraphrase", "summari[sz]e", "proofread", "correct the (?:following|grammar)",
    "the following", "below", "above", "this (?:text|email|code|essay|paragraph|sentence|article|document)",
)  # fmt: skip
_ZH_GIVEN = later(r"翻译|改写|润色|总结|概括|以下|下面|上面|这段|这篇|这句话")
_LIVE = any_of(
    "right now", "at the moment", "currently", "(?<!at the )latest",
    r"live (?:score|scores|price|prices|data|updates?|stream)",
    "today's", "tonight", "this (?:morning|afternoon|evening)",
    "breaking", "(?<!break the )(?<!good )(?<!bad )news", "stock price", "share price",
    r"(?:what(?:'s| is| are)|current) (?:the )?(?:[\w/]+ ){0,3}exchange rates?", "weather", "forecast",
    r"(?:the|current|final) score", "trending",
    "how (?:is|are) .{0,30} doing", "what time is it", "what day is (?:it|today)", "what's the date", "up to date",
    "the current", "most recent", "just (?:happened|announced|released)", "so far", "as of now",
)  # fmt: skip
_ZH_LIVE = later(
    r"现在(?:[几多哪在到开]|有没有|能不能|一)|今天(?:星期|周几|几|是几|多少)|几度|实时|最新|目前|刚刚|股价|汇率|天气|新闻|比分|热搜|此刻|当前"
)
_DAILY = any_of("today", "tomorrow", "yesterday", "this week", "next week", "this weekend", "last night", "this month")
_ZH_DAILY = later(r"今天|明天|昨天|后天|本周|这周|下周|周末|本月|这个月")
_SLOW = any_of(
    "price", "prices", "cost", "fee", "fees", "opening (?:hours|times)", "deadline", "president", "prime minister",
    "ceo", "population", "version", "this year", "next year", "open", "available", "recommend", "best",
)  # fmt: skip
_ZH_SLOW = later(r"价格|多少钱|费用|营业时间|总统|总理|人口|版本|今年|明年|推荐|最好")
_ORDER = later(
    r"^(?:(?:please|pls|kindly|ok|okay|yes|yeah|so|then|and|now|just|hi|hello|hey)[,\s]+)*"
    r"(?:(?:can|could|would|will) you (?:please |just |kindly )?|i(?:'d| would) like you to |i need you to "
    r"|go ahead and )?(?:do(?:n't| not) )?(?:"
    r"(?:cancel|delete|remove|send|transfer|pay|buy|book|order|refund|close|unsubscribe|subscribe me|sign me up"
    r"|put|turn|switch|play|pause|resume|schedule|remind|reply|forward|archive|confirm|accept|decline|block|freeze"
    r"|unfreeze|activate|deactivate|submit|email|call|text|message|post|upload|reset|renew|withdraw|approve|reject"
    r"|register me|enrol me|add me|change|update|move|reschedule|charge|merge|deploy|run|restart)\s+"
    r"(?:(?:my|the|this|that|these|those|it|them|him|her|us|me|all|one|a|an|another)(?![\w'])|[£$€]?\d)"
    r"|(?:turn|switch) (?:on|off|up|down) |set (?:an? |the |my )?(?:\w+ )?(?:timer|alarm|reminder)"
    r"|add .+ to (?:my|the|our)(?![\w']))"
)
_ZH_ORDER = later(
    r"^(?!.*(?:吗|怎么|如何|什么))(?:请(?!问)|麻烦|帮我|帮忙|给我|替我|你帮我)+(?:.{0,4}(?:取消|删除|发送|转账|支付|购买|预订|下单|退款|注销|关闭|修改|提交|续费|充值|提现)"
    r"|.{0,2}[订买付退寄约]|把.+(?:[掉了好上]|一下|[成到给].+)[。！!]?$)"
    r"|^(?:请|麻烦|帮我)?[设定]一?个.*(?:倒计时|闹钟|提醒)|^(?:改|换|推迟|提前)[到成]"
    r"|^(?:请|麻烦)?把我的.+(?:[掉了好上]|一下|[成到给].+)[。！!]?$"
)
_BELONGINGS = (
    r"(?:balance|usage|allowance|orders?|bill|invoice|payments?|refund|delivery|parcel|package|appointments?|bookings?"
    r"|reservation|claim|application|statement|transactions?|salary|payslip|score|grades?|results?|prescription"
    r"|subscription|address|phone number|email|date of birth|name|account number|card number|pin|password|calendar"
    r"|schedule|diary|inbox|shifts?|timetable|meetings?)"
)
_OWN = later(
    r"(?<!how do i )(?<!how can i )(?<!how to )"
    r"(?:where(?:'?s| is| are)|what(?:'?s| is| was| are| were)|when(?:'?s| is| was| will| does)"
    r"|how much (?:is|was|are|do i owe)|has|have|did|is|are|was|track|show(?: me)?|check|why (?:is|was|has|did))\s+"
    r"(?:you\s+\w+\s+|the status of |there )?(?:on |in )?my\s+(?:\w+\s+){0,2}" + _BELONGINGS + r"(?![\w'])"
    r"|^my\s+(?:\w+\s+){0,3}" + _BELONGINGS + r"[?.! ]*$"
    r"|(?<![\w'])when (?:do|does|did|is|was|will) (?:my|our) .{0,40}"
    r"(?:run out|expires?|due|renews?|arrive|ready|end)[?.! ]*$"
    r"|(?<![\w'])(?:do i owe|have i|am i (?:being|still|registered|booked)|did i)(?![\w'])"
)
_ZH_OWN = later(
    # "How do I reset my password" asks how it is done, in either order of words; "how come my order …" does not.
    r"(?:^|[，。！？；,!?;\s])(?!(?:请问|想问(?:一下)?|我想知道)?(?:如何|怎么|怎样|咋)(?!我))[^，。！？；,!?;\s]*?"
    r"我的(?:余额|订单|账单|快递|包裹|退款|预约|申请|成绩|工资|密码|账号|手机号|地址|会员)(?!.{0,6}怎么|.{0,6}如何)|我(?:欠|还剩)多少"
)
_SECRET = later(
    r"(?<![\w.+-])[\w.+-]+@[\w-]+\.\w{2,}|\b(?:\d[ -]?){13,19}\b|\b\d{3}-\d{2}-\d{4}\b"
    r"|\+?\d{1,3}[ -]\d{3,4}[ -]\d{3,4}[ -]?\d{0,4}\b"
    r"|\b(?=\w*\d)(?=\w*[A-Za-z])(?:\w{3,}-\w*|\w{3,})\d{3}\b|#\d{3,}|\b\d{5,}\b"
)


class Meaningful:
    """Implements `edgewise.query.asker.Reader`."""

    __slots__ = ()

    def read(self, request: ChatRequest, *, by_meaning: bool = True) -> Reading:
        """Pure; looks at the last turn and at what stands around it."""
        return classify(request, by_meaning=by_meaning)

    def normal(self, text: str) -> str:
        """See `edgewise.query.text.normal`."""
        return normal(text)


def classify(request: ChatRequest, *, by_meaning: bool = True) -> Reading:
    """What may be done with this request's answer, why, how soon it grows old, whether its last turn stands alone."""
    body, messages = request.body, request.messages
    last = messages[-1] if messages else {}
    text = last.get("content")
    if last.get("role") != "user":
        return Reading("exact", "no-question")
    if not isinstance(text, str):
        text = _only_text(text)
        if text is None:
            return Reading("exact", "not-text")
    if body.get("tools") or body.get("functions"):
        return Reading("exact", "tools", _volatility(text.casefold()))
    if request.choices > 1 or body.get("logprobs"):
        return Reading("exact", "choices")
    before = [message for message in messages[:-1] if message.get("role") in ("user", "assistant")]
    # After a question "great" and "ok" are the answer to it.
    said = str(before[-1].get("content")) if before and by_meaning else ""
    answering = "?" in said or "？" in said
    return read_turn(text, within=bool(before), answering=answering, by_meaning=by_meaning)


def read_turn(text: str, *, within: bool, answering: bool = False, by_meaning: bool = True) -> Reading:
    """The reading of a last turn.

    within      other turns came before it
    answering   the one before asked something
    by_meaning  False: the answer will be kept to the letter in any case, so only its age and its risks are read
    """
    low = text.casefold().replace("\u2019", "'")
    age = _volatility(low)
    if len(text) > LONGEST_CHARS:
        return Reading("exact", "long", age)
    if _CODE.search(text) or _SUM.search(low):
        return Reading("exact", "code", age)
    if _GIVEN.search(low) or _ZH_GIVEN.search(text):
        return Reading("exact", "given-text", age)
    if _SECRET.search(text):
        return Reading("exact", "personal", age)
    if _OWN.search(low) or _ZH_OWN.search(text):
        return Reading("exact", "personal", "live" if age == "live" else "daily")
    if _ORDER.search(low) or _ZH_ORDER.search(text):
        return Reading("skip", "action", age)
    if age == "live":
        return Reading("exact", "freshness", age)
    if not by_meaning:
        return Reading("exact", "", age)
    tongue = language(text)
    if tongue == "other":
        return Reading("exact", "language", age)
    asked = text if answering else less_thanks(text)
    alone = stands_alone(asked)
    # Inside its conversation one that leans on it may still match: every earlier turn is in the partition.
    return Reading("semantic", "conversation" if within and not alone else "", age, alone, asked)


def _volatility(low: str) -> Volatility:
    if _LIVE.search(low) or _ZH_LIVE.search(low):
        return "live"
    if _DAILY.search(low) or _ZH_DAILY.search(low):
        return "daily"
    return "slow" if _SLOW.search(low) or _ZH_SLOW.search(low) else "static"


def _only_text(content: Any) -> str | None:
    """The text of a message whose content is one text part; None otherwise."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        text = content[0].get("text")
        return text if content[0].get("type") == "text" and isinstance(text, str) else None
    return None
