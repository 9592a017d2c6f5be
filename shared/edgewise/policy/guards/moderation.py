"""What a key's guardrail makes of requests and answers: refused, masked, or let through while it is down.

A request is read from the model's last turn on: what is older was read when it was new. An answer that is blocked
becomes the guardrail's own words with `content_filter` as its end, as at Bedrock itself: it was paid for, its client
learns why it has no text, and no cache keeps it. Parts of a tool call cannot be masked, so there the call is blocked.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from edgewise.chat import Answer, ChatRequest, text_of
from edgewise.errors import ContentRefused, Unavailable
from edgewise.policy.guards.bedrock import Judgement, Source
from edgewise.policy.texts import FROM_OUTSIDE, arguments_of, changed, input_texts
from edgewise.words import Late

if TYPE_CHECKING:
    from edgewise.policy.terms import Guards

Signal = Callable[[str, float], None]

MASKED = "guardrail:masked"
BLOCKED = "guardrail:blocked"
DOWN = "guardrail:down"


class Judge(Protocol):
    """A service that judges text. Raises `Unavailable`."""

    async def judge(self, guardrail: str, text: str, source: Source) -> Judgement: ...


class Moderator:
    """`late` is told what is noticed and paid, also when the request is refused."""

    def __init__(self, judge: Judge, signal: Signal) -> None:
        self._judge = judge
        self._signal = signal

    async def request(self, request: ChatRequest, guards: Guards, late: Late) -> ChatRequest:
        """The request that may go on. Raises ContentRefused, Unavailable."""
        masks: dict[str, str] = {}
        for text in dict.fromkeys(_new_texts(request)):
            judged = await self._ask(text, "INPUT", guards, late)
            if not judged.kinds:
                continue
            if not (judged.is_masked and guards.guardrail_masks):
                self._signal("GuardrailIntervened", 1)
                raise ContentRefused(f"The guardrail of this key refused the request: {', '.join(judged.kinds)}.")
            masks[text] = judged.text
            _flag(late, MASKED)
        return changed(request, lambda text: masks.get(text, text)) if masks else request

    async def answer(self, answer: Answer, guards: Guards, late: Late) -> Answer:
        """The answer that may be told. Raises Unavailable."""
        choices = [await self._choice(choice, guards, late) for choice in answer.choices]
        return answer if choices == answer.choices else Answer({**answer.completion, "choices": choices})

    async def _choice(self, choice: dict[str, Any], guards: Guards, late: Late) -> dict[str, Any]:
        message = choice["message"]
        text = text_of(message.get("content"))
        calls = [each for call in message.get("tool_calls") or () for _, _, each in arguments_of(call)]
        whole = "\n".join(each for each in (text, *calls) if each)
        judged = await self._ask(whole, "OUTPUT", guards, late) if whole else Judgement()
        if not judged.kinds:
            return choice
        if judged.is_masked and guards.guardrail_masks and not calls:
            _flag(late, MASKED)
            return {**choice, "message": {**message, "content": judged.text}, "logprobs": None}
        _flag(late, BLOCKED)
        said = judged.text if not judged.is_masked else ""
        kept = {name: value for name, value in message.items() if name not in ("tool_calls", "reasoning_content")}
        return {
            **choice,
            "message": {**kept, "content": said},
            "logprobs": None,
            "finish_reason": "content_filter",
        }

    async def _ask(self, text: str, source: Source, guards: Guards, late: Late) -> Judgement:
        assert guards.bedrock_guardrail is not None
        try:
            judged = await self._judge.judge(guards.bedrock_guardrail, text, source)
        except Unavailable as error:
            late.spent_usd += error.spent_usd or 0
            if guards.guardrail_down == "refuse":
                raise
            _flag(late, DOWN)
            return Judgement(usd=Decimal(0))
        late.spent_usd += judged.usd
        return judged


def _flag(late: Late, flag: str) -> None:
    if flag not in late.flags:
        late.flags += (flag,)


def _new_texts(request: ChatRequest) -> list[str]:
    """What came from outside since the model's last turn."""
    texts: list[str] = []
    answered = False
    for message in request.messages:
        if message.get("role") == "assistant":
            # Answered only if somebody goes on from there: at the end it is an answer's beginning, made by the client.
            answered = True
        elif message.get("role") in FROM_OUTSIDE:
            if answered:
                texts.clear()
                answered = False
            content = message.get("content")
            texts += [content] if isinstance(content, str) else _parts(content)
    return [text for text in [*texts, *input_texts(request)] if text]


def _parts(content: Any) -> list[str]:
    """Each by itself, so that what comes back for it can take its place."""
    return [text_of([part]) for part in content] if isinstance(content, list) else []
