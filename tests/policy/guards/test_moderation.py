"""Bedrock's guardrail: what it blocks, what it masks, what that costs, and what happens while it is down.

The service is botocore's stub, which holds questions and answers to the service's own description.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from edgewise.aws import Aws, AwsOptions
from edgewise.chat import Answer, ChatRequest
from edgewise.errors import InvalidRequest, QuotaExceeded
from edgewise.policy.guards.bedrock import PIECE_CHARS, BedrockJudge
from edgewise.policy.guards.guard import Guard
from edgewise.policy.terms import Guards
from edgewise.words import Credentials
from tests.api.client import Got
from tests.fakes import FakeRouter, saying
from tests.policy.house import PolicyHouse
from tests.policy.rig import attempt, choice

UNITS = {
    "topicPolicyUnits": 1,
    "contentPolicyUnits": 1,
    "wordPolicyUnits": 1,
    "sensitiveInformationPolicyUnits": 1,
    "sensitiveInformationPolicyFreeUnits": 0,
    "contextualGroundingPolicyUnits": 0,
}
CALL_USD = Decimal("0.0004")
FINE: dict[str, Any] = {"usage": UNITS, "action": "NONE", "outputs": [], "assessments": []}


def blocked(words: str = "I cannot talk about that.") -> dict[str, Any]:
    topics = {"topics": [{"name": "medicine", "type": "DENY", "action": "BLOCKED"}]}
    told = {"usage": UNITS, "action": "GUARDRAIL_INTERVENED", "outputs": [{"text": words}]}
    return {**told, "assessments": [{"topicPolicy": topics}]}


def masked(text: str) -> dict[str, Any]:
    names = {"piiEntities": [{"match": "Jane", "type": "NAME", "action": "ANONYMIZED"}], "regexes": []}
    told = {"usage": UNITS, "action": "GUARDRAIL_INTERVENED", "outputs": [{"text": text}]}
    return {**told, "assessments": [{"sensitiveInformationPolicy": names}]}


class Moderated:
    """A house behind a stubbed Bedrock, and a key whose guardrail is `gr1:2`."""

    def __init__(self, script: Any = None) -> None:
        self.aws = Aws(AwsOptions(region="us-east-1", access_key_id="test", secret_access_key="test"))
        self.stub = Stubber(self.aws.client("bedrock-runtime"))
        self.stub.activate()
        self.house = PolicyHouse(script=script, aws=self.aws)
        self.house.rooms.router = FakeRouter(worst_usd=Decimal("0.0012"))

    def expect(self, answer: dict[str, Any], text: Any = ANY, source: str = "INPUT") -> None:
        asked = {
            "guardrailIdentifier": "gr1",
            "guardrailVersion": "2",
            "source": source,
            "content": [{"text": {"text": text}}],
        }
        self.stub.add_response("apply_guardrail", answer, asked)

    def fails(self) -> None:
        self.stub.add_client_error("apply_guardrail", "ThrottlingException", http_status_code=429)

    async def key(self, budgets: tuple[Any, ...] = (), limits: Any = None, **guards: Any) -> str:
        terms = {"guards": {"bedrock_guardrail": "gr1:2", **guards}, "budgets": budgets, "limits": limits or {}}
        made = await self.house.key(tenant="acme", terms=terms)
        return str(made["key"])

    async def ask(self, text: str = "who is Jane?", **guards: Any) -> Got:
        return await self.house.chat(await self.key(**guards), text)

    @property
    def line(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.house.lines[-1])
        return found

    @property
    def asked(self) -> list[ChatRequest]:
        calls: list[ChatRequest] = self.house.rooms.caller.calls  # type: ignore[attr-defined]
        return calls


async def test_a_fine_request_passes_and_its_reading_is_paid_for() -> None:
    bedrock = Moderated()
    bedrock.expect(FINE, "who is Jane?")
    got = await bedrock.ask()
    assert got.status == 200 and "edgewise.flags" not in bedrock.line
    assert Decimal(bedrock.line["edgewise.cost_usd"]) == Decimal("0.0012") + CALL_USD
    bedrock.stub.assert_no_pending_responses()


async def test_a_blocked_request_is_refused_and_says_by_which_policy() -> None:
    bedrock = Moderated()
    bedrock.expect(blocked())
    got = await bedrock.ask()
    assert (got.status, got.error["code"]) == (400, "content_policy_violation")
    assert "topic" in got.error["message"] and bedrock.asked == []
    counters = bedrock.house.record.counters
    assert counters["GuardrailIntervened"] == 1 and counters["CostMicroUSD"] == pytest.approx(400)


async def test_what_is_anonymised_goes_on_without_it_where_the_key_says_so() -> None:
    bedrock = Moderated()
    bedrock.expect(masked("who is {NAME}?"))
    got = await bedrock.ask(guardrail_masks=True)
    assert got.status == 200
    assert bedrock.asked[-1].messages[-1]["content"] == "who is {NAME}?"
    assert bedrock.line["edgewise.flags"] == ["guardrail:masked"] and bedrock.line["GuardrailIntervened"] == 1
    refusing = Moderated()
    refusing.expect(masked("who is {NAME}?"))
    assert (await refusing.ask()).status == 400


async def test_while_it_is_down_a_key_refuses_or_passes_as_it_says() -> None:
    closed = Moderated()
    closed.fails()
    got = await closed.ask()
    assert (got.status, got.error["code"]) == (503, "guardrail_unavailable") and closed.asked == []
    opened = Moderated()
    opened.fails()
    assert (await opened.ask(guardrail_down="pass")).status == 200
    assert opened.line["edgewise.flags"] == ["guardrail:down"]


async def test_a_blocked_answer_becomes_the_guardrails_words_and_is_kept_nowhere() -> None:
    bedrock = Moderated(script=lambda _: saying("Take two of these."))
    bedrock.expect(FINE)
    bedrock.expect(blocked("I cannot talk about that."), "Take two of these.", "OUTPUT")
    got = await bedrock.ask(guardrail_answers=True)
    (choice,) = got.json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("I cannot talk about that.", "content_filter")
    assert bedrock.line["edgewise.flags"] == ["guardrail:blocked"] and bedrock.line["Filtered"] == 1
    assert Decimal(bedrock.line["edgewise.cost_usd"]) == Decimal("0.0012") + 2 * CALL_USD


async def test_an_answer_is_masked_where_the_key_says_so() -> None:
    bedrock = Moderated(script=lambda _: saying("Jane is here."))
    bedrock.expect(FINE)
    bedrock.expect(masked("{NAME} is here."), source="OUTPUT")
    got = await bedrock.ask(guardrail_answers=True, guardrail_masks=True)
    (choice,) = got.json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("{NAME} is here.", "stop")


async def test_a_tool_call_with_something_in_it_is_blocked_whole() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "mail", "arguments": '{"to": "Jane"}'}}
    bedrock = Moderated(script=lambda _: saying("", finish="tool_calls", tool_calls=[call]))
    bedrock.expect(FINE)
    bedrock.expect(masked('{"to": "{NAME}"}'), '{"to": "Jane"}', "OUTPUT")
    got = await bedrock.ask(guardrail_answers=True, guardrail_masks=True)
    (choice,) = got.json["choices"]
    assert choice["finish_reason"] == "content_filter" and not choice["message"].get("tool_calls")


async def test_a_stream_is_read_before_its_first_word_goes_out() -> None:
    bedrock = Moderated(script=lambda _: saying("Take two of these."))
    key = await bedrock.key(guardrail_answers=True)
    bedrock.expect(FINE)
    bedrock.expect(blocked("No."), "Take two of these.", "OUTPUT")
    got = await bedrock.house.chat(key, "which pills?", stream=True)
    assert got.text == "No." and got.events[-1] == "[DONE]"
    assert got.chunks[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_only_what_came_from_outside_since_the_models_last_turn_is_read() -> None:
    bedrock = Moderated()
    bedrock.expect(FINE, "and now?")
    key = await bedrock.key()
    turns = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": "older"},
        {"role": "user", "content": "and now?"},
    ]
    body = {"model": "m", "messages": turns}
    assert (await bedrock.house.client(key).ask("POST", "/v1/chat/completions", body)).status == 200
    bedrock.stub.assert_no_pending_responses()


async def test_what_reading_costs_is_held_and_charged_with_the_call() -> None:
    bedrock, request = Moderated(), ChatRequest({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    budget = {"per": "day", "usd": "0.0184"}
    shown = Credentials(await bedrock.key(budgets=(budget,), guardrail_answers=True), "/v1/chat/completions")
    policy = bedrock.house.policy
    who = await policy.identify(shown)
    bedrock.expect(FINE)
    plan = await policy.plan(who, request, shown)
    # A question that was read, an answer of 4096 tokens still to be read, and the call itself.
    hold = await policy.reserve(plan, choice("0.0055"))
    with pytest.raises(QuotaExceeded):
        await policy.reserve(plan, choice("0.0001"))
    bedrock.expect(FINE, source="OUTPUT")
    await policy.mend(plan, saying("hello"), _never)
    await policy.settle(hold, [attempt("0.004")])
    (told,) = await policy.budgets(who)
    assert told["used_usd"] == str(Decimal("0.004") + 2 * CALL_USD)


async def _spent(bedrock: Moderated, key: str) -> tuple[Decimal, Decimal]:
    """What the key's budget says is used, and what the log's lines say in all."""
    told = (await bedrock.house.client(key).ask("GET", "/v1/usage")).json["budgets"]
    lines = [json.loads(line) for line in bedrock.house.lines]
    return Decimal(told[0]["used_usd"]), sum((Decimal(line.get("edgewise.cost_usd", 0)) for line in lines), Decimal(0))


WHOLE = {"per": "day", "usd": "0.5"}


async def test_reading_a_request_that_the_cache_answers_is_charged_too() -> None:
    bedrock = Moderated()
    key = await bedrock.key(budgets=(WHOLE, {**WHOLE, "model": "bedrock/*"}))
    costs = []
    for _ in range(3):
        bedrock.expect(FINE)
        costs.append((await bedrock.house.chat(key)).headers["x-edgewise-cost-usd"])
    assert costs == ["0.0016", "0.0004", "0.0004"]
    assert await _spent(bedrock, key) == (Decimal("0.0024"), Decimal("0.0024"))
    told = (await bedrock.house.client(key).ask("GET", "/v1/usage")).json["budgets"]
    assert told[1]["used_usd"] == "0.0012", "the guardrail's own budget has its part"


@pytest.mark.parametrize("how", ["refused", "down", "half", "poor", "often"])
async def test_reading_a_request_that_is_refused_is_charged_once(how: str) -> None:
    """By the guardrail, by one that is down half way, for want of money, or because the key asks too often."""
    bedrock = Moderated()
    budget = {"per": "day", "usd": "0.0011"} if how == "poor" else WHOLE
    limits = {"requests_per_minute": 1} if how == "often" else {}
    key = await bedrock.key(budgets=(budget,), limits=limits)
    content: Any = "who is Jane?"
    if how == "often":
        bedrock.expect(FINE)
        assert (await bedrock.house.chat(key)).status == 200
    bedrock.expect(blocked() if how == "refused" else FINE)
    if how == "down":
        content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        bedrock.fails()
    if how == "half":
        content = "a" * (PIECE_CHARS + 1)
        bedrock.fails()
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    got = await bedrock.house.client(key).ask("POST", "/v1/chat/completions", body)
    assert got.status == {"refused": 400, "down": 503, "half": 503, "poor": 429, "often": 429}[how]
    owed = CALL_USD + (CALL_USD + Decimal("0.0012") if how == "often" else 0)
    assert await _spent(bedrock, key) == (owed, owed)
    assert bedrock.line["edgewise.tenant"] == "acme"
    assert bedrock.house.record.counters["CostMicroUSD"] == pytest.approx(float(owed) * 1e6)


async def test_a_long_text_is_judged_in_pieces() -> None:
    bedrock = Moderated()
    bedrock.expect(FINE, "a" * PIECE_CHARS)
    bedrock.expect(masked("{NAME}"), "b" * 10)
    judged = await BedrockJudge(bedrock.aws).judge("gr1:2", "a" * PIECE_CHARS + "b" * 10, "INPUT")
    assert judged.is_masked and judged.text == "a" * PIECE_CHARS + "{NAME}" and judged.usd == 2 * CALL_USD


async def test_what_another_key_was_told_is_not_told_to_a_key_whose_guardrail_reads_answers() -> None:
    bedrock = Moderated()
    bedrock.expect(FINE)
    shown = Credentials(await bedrock.key(guardrail_answers=True), "/v1/chat/completions")
    policy = bedrock.house.policy
    request = ChatRequest({"model": "m", "messages": [{"role": "user", "content": "hi"}]}, stream=True)
    plan = await policy.plan(await policy.identify(shown), request, shown)
    assert plan.cache.guardrail == "gr1:2" and not plan.request.stream


@pytest.mark.parametrize("namespace", [None, "mine", "default#gr1:2"])
async def test_no_namespace_that_a_request_names_is_a_way_around_the_guardrail(namespace: str | None) -> None:
    """Neither reads such a key what others were told there, nor can they leave something there for it to read."""
    bedrock = Moderated()
    free = (await bedrock.house.key(tenant="acme", terms={}))["key"]
    strict = await bedrock.key(guardrail_answers=True)
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    if namespace is not None:
        body["cache"] = {"namespace": namespace}
    plain = {**body, "cache": {"namespace": namespace or "default#gr1:2"}}
    for asked in (body, plain):
        assert (await bedrock.house.client(free).ask("POST", "/v1/chat/completions", asked)).status == 200
    bedrock.expect(FINE)
    bedrock.expect(FINE, source="OUTPUT")
    got = await bedrock.house.client(strict).ask("POST", "/v1/chat/completions", body)
    assert got.headers["x-edgewise-cache"] == "miss"
    bedrock.stub.assert_no_pending_responses()


async def test_a_question_before_words_put_into_the_models_mouth_is_read() -> None:
    bedrock = Moderated()
    bedrock.expect(blocked())
    turns = [{"role": "user", "content": "which pills?"}, {"role": "assistant", "content": "Take"}]
    body = {"model": "m", "messages": turns}
    got = await bedrock.house.client(await bedrock.key()).ask("POST", "/v1/chat/completions", body)
    assert (got.status, got.error["code"]) == (400, "content_policy_violation") and bedrock.asked == []


async def _never(_: ChatRequest) -> Answer:
    raise AssertionError("asked again")


async def test_without_a_moderator_such_a_key_is_refused() -> None:
    request = ChatRequest({"messages": [{"role": "user", "content": "hi"}]})
    with pytest.raises(InvalidRequest):
        await Guard().check(request, Guards(bedrock_guardrail="gr1:2"))
