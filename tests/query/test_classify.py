"""What may be matched by meaning, what only to the letter, what not at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.chat import ChatRequest
from edgewise.query.classify import Meaningful, classify, read_turn
from edgewise.query.solo import stands_alone
from edgewise.query.text import language, less_thanks, normal


def asked(text: Any, **body: Any) -> ChatRequest:
    return ChatRequest({"model": "m", "messages": [{"role": "user", "content": text}], **body})


@pytest.mark.parametrize(
    ("text", "nearness", "reason"),
    [
        ("How do I bake sourdough bread?", "semantic", ""),
        ("怎么烤酸面包？", "semantic", ""),
        ("Cancel my subscription please", "skip", "action"),
        ("Could you transfer £50 to Anna?", "skip", "action"),
        ("帮我取消订单", "skip", "action"),
        ("What is my account balance?", "exact", "personal"),
        ("我的余额是多少", "exact", "personal"),
        ("你好，我的快递到了吗", "exact", "personal"),
        ("怎么我的订单还没到？", "exact", "personal"),
        ("如何重置我的密码？", "semantic", ""),
        ("请问怎样修改我的手机号", "semantic", ""),
        ("Where is order 48213?", "exact", "personal"),
        ("What is the weather in Oslo?", "exact", "freshness"),
        ("北京现在几点？", "exact", "freshness"),
        ("Why does `x = y` fail?", "exact", "code"),
        ("What is 12 * 7?", "exact", "code"),
        ("Translate good morning to French", "exact", "given-text"),
        ("Wo finde ich den Bahnhof in München?", "exact", "language"),
        ("word " * 200, "exact", "long"),
        ("turn off the hall lights", "skip", "action"),
        ("把我的闹钟关掉", "skip", "action"),
        ("请问可以用现金付款吗", "semantic", ""),
        ("my current balance", "exact", "personal"),
        ("How do I check my data usage?", "semantic", ""),
        ("low carb breakfast ideas", "semantic", ""),
        ("resultados liga ayer por equipo", "exact", "language"),
        ("tides at 3-4 metres, is swimming safe?", "semantic", ""),
    ],
)
def test_kinds_of_questions(text: str, nearness: str, reason: str) -> None:
    reading = classify(asked(text))
    assert (reading.nearness, reading.reason) == (nearness, reason)


def test_what_stands_around_the_text_can_forbid_meaning() -> None:
    """Tools, images, several choices, and a last turn that is not the user's."""
    text = "How do I bake bread?"
    assert classify(asked(text, tools=[{"type": "function"}])).reason == "tools"
    assert classify(asked(text, n=2)).reason == "choices"
    image = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert classify(asked(image)).reason == "not-text"
    assert classify(asked([{"type": "text", "text": text}])).nearness == "semantic"
    answered = ChatRequest({"messages": [{"role": "assistant", "content": text}]})
    assert classify(answered).reason == "no-question"


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("Who wrote Hamlet?", "static"),
        ("How much does a passport cost?", "slow"),
        ("Is the museum free tomorrow?", "daily"),
        ("What are the latest headlines?", "live"),
        ("I live in Rome, how do I vote?", "static"),
    ],
)
def test_how_soon_an_answer_grows_old(text: str, age: str) -> None:
    assert classify(asked(text)).volatility == age


@pytest.mark.parametrize(
    "text",
    [
        "What documents do I need for a Swedish work visa?",
        "By the way, do you offer wedding catering for vegans?",
        "Is there a bus from Leeds to Whitby?",
        "Is there a cloakroom near platform nine, and how much is it?",
        "申请护照需要带哪些材料？",
        "how many legs does a lobster have",
        "Is it safe to reheat cooked rice?",
        "Why do owls blink slowly when you feed them?",
        "Who was the first person to ski across Greenland?",
        "什么是质数",
    ],
)
def test_a_turn_that_stands_alone(text: str) -> None:
    assert stands_alone(text)


@pytest.mark.parametrize(
    "text",
    [
        "How much is it?",
        "yes please",
        "And the second one?",
        "When will the refund arrive?",
        "Is that still possible?",
        "so what do I owe in total?",
        "Is there a late cancellation charge?",
        "Could you list everything I've ordered today?",
        "go ahead",
        "那个多少钱？",
        "好的",
        "Am I allowed to bring eight guests to dinner?",
        "are pets allowed",
        "哪一年结束的",
        "国家规定我每年有几天年假",
        "如果是负数呢",
    ],
)
def test_a_turn_that_leans_on_what_came_before(text: str) -> None:
    assert not stands_alone(text)


def test_an_acknowledgement_before_the_question_is_not_a_part_of_it() -> None:
    """Unless the turn before asked something: then "great" is the answer to that."""

    def talk(before: str) -> ChatRequest:
        earlier = [{"role": "user", "content": "hm"}, {"role": "assistant", "content": before}]
        return ChatRequest(
            {"model": "m", "messages": [*earlier, {"role": "user", "content": "Great tip, thanks. Who wrote Hamlet?"}]}
        )

    noted = classify(talk("Use a whisk."))
    assert (noted.alone, noted.asked) == (True, "Who wrote Hamlet?")
    answered = classify(talk("Shall I order a whisk?"))
    assert (answered.alone, answered.asked) == (False, "Great tip, thanks. Who wrote Hamlet?")


@pytest.mark.parametrize("text", ["ok", "Thanks!", "谢谢", "Yes. Who wrote Hamlet?", "Greatest hits of 1990?"])
def test_what_is_no_acknowledgement_stays(text: str) -> None:
    assert less_thanks(text) == text


def test_a_leaning_turn_may_still_match_inside_its_conversation() -> None:
    reading = read_turn("How much is it?", within=True)
    assert (reading.nearness, reading.reason, reading.alone) == ("semantic", "conversation", False)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I pay?", "how do i pay"),
        ("Hi there, how do I pay? Thanks!", "How do I pay??"),
        ("  How  do I\npay …", "how do i pay?"),
        ("请问怎么付款？谢谢", "怎么付款"),
        ("ＨＯＷ do I pay?", "how do I pay?"),
    ],
)
def test_spellings_of_one_question_share_a_normal_form(a: str, b: str) -> None:
    assert normal(a) == normal(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [("How do I pay?", "How do I not pay?"), ("`A`", "`a`"), ("5 kg", "5.0 kg"), ("C", "C++")],
)
def test_the_normal_form_drops_no_word(a: str, b: str) -> None:
    assert normal(a) != normal(b)


@given(st.text(max_size=80))
def test_any_text_is_read_and_its_normal_form_is_stable(text: str) -> None:
    reader = Meaningful()
    assert reader.read(asked(text)).nearness in ("semantic", "exact", "skip")
    assert normal(normal(text)) == normal(text) or len(text) > 0
    assert language(text) in ("en", "zh", "other")
