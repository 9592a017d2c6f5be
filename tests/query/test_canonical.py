"""The exact key: everything that can change the answer is in it, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgewise.chat import CacheAsk, ChatRequest
from edgewise.query.asker import ExactAsker, Reading
from edgewise.query.canonical import UNHEARD, USUAL, canonical
from edgewise.query.classify import read_turn
from edgewise.words import CachePolicy, Model, Plan, Principal, Query, Target

TARGET = Target("openai/m", (Model("openai", "m"),))


class AnyReader:
    """Every last turn may match by meaning; case and spacing don't count."""

    def __init__(self, *, alone: bool = True) -> None:
        self.alone = alone

    def read(self, request: ChatRequest, *, by_meaning: bool) -> Reading:
        return Reading("semantic", alone=self.alone)

    def normal(self, text: str) -> str:
        return " ".join(text.lower().split())


def asked(
    body: dict[str, Any],
    *,
    tenant: str = "t",
    target: Target = TARGET,
    cache: CachePolicy | None = None,
    ask: CacheAsk | None = None,
    reader: Any = None,
) -> Query:
    request = ChatRequest(body, cache=ask or CacheAsk())
    plan = Plan(Principal(tenant, "k"), request, cache=cache or CachePolicy())
    return ExactAsker(reader).query(plan, target)


def key(body: dict[str, Any], **rest: Any) -> str:
    return asked(body, **rest).key


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant"]), "content": st.text(max_size=10)},
        optional={"name": st.text(max_size=4), "tool_calls": st.lists(values, max_size=2)},
    ),
    min_size=1,
    max_size=3,
)
bodies = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": messages},
    optional={
        "temperature": st.floats(0, 2),
        "seed": st.integers(0, 9),
        "tools": st.lists(values, max_size=2),
        "response_format": values,
        "n": st.integers(1, 3),
        "new_field": values,
    },
)


def same(a: Any, b: Any) -> bool:
    """Equal as the provider reads it: by JSON text with sorted keys, 1 and 1.0 being one number."""
    return bool(
        orjson.dumps(canonical(a), option=orjson.OPT_SORT_KEYS)
        == orjson.dumps(canonical(b), option=orjson.OPT_SORT_KEYS)
    )


@given(body=bodies, field=st.sampled_from(["temperature", "seed", "tools", "new_field", "stop"]), value=values)
def test_any_change_to_a_forwarded_field_changes_the_key(body: dict[str, Any], field: str, value: Any) -> None:
    other = {**body, field: value}
    before, after = body.get(field, "absent"), value
    assume(type(before) is not type(after) or before != after)
    assume(not (isinstance(before, int | float) and isinstance(after, int | float) and before == after))
    assume(orjson.dumps(before) != orjson.dumps(after))
    assert key(body) != key(other)


@given(body=bodies, data=st.data())
def test_any_change_anywhere_in_the_messages_changes_the_key(body: dict[str, Any], data: st.DataObject) -> None:
    other = copy.deepcopy(body)
    message = data.draw(st.sampled_from(other["messages"]))
    field = data.draw(st.sampled_from(["role", "content", "name", "extra"]))
    message[field] = message.get(field, "") + "!"
    assert key(body) != key(other)


@given(body=bodies, data=st.data())
def test_the_order_of_keys_never_changes_the_key(body: dict[str, Any], data: st.DataObject) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            names = data.draw(st.permutations(list(value)))
            return {name: shuffled(value[name]) for name in names}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert key(body) == key(shuffled(body))


@given(
    body=bodies,
    tenants=st.lists(st.text(max_size=8), min_size=2, max_size=2, unique=True),
    namespace=st.text(max_size=8),
)
def test_tenants_never_share_a_key(body: dict[str, Any], tenants: list[str], namespace: str) -> None:
    one, other = tenants
    ask = CacheAsk(namespace=namespace or None)
    assert key(body, tenant=one, ask=ask) != key(body, tenant=other, ask=ask)


@given(
    body=bodies,
    one=st.tuples(st.text(max_size=6), st.text(max_size=6)),
    other=st.tuples(st.text(max_size=6), st.text(max_size=6)),
)
def test_no_tenant_and_namespace_are_mistaken_for_another_pair(
    body: dict[str, Any], one: tuple[str, str], other: tuple[str, str]
) -> None:
    assume(one != other)
    keys = [key(body, tenant=t, cache=CachePolicy(namespace=n)) for t, n in (one, other)]
    assert keys[0] != keys[1]


def test_a_shared_namespace_is_one_for_all_and_is_no_tenants() -> None:
    body = {"messages": [{"role": "user", "content": "x"}]}
    shared = CachePolicy(namespace="faq", shared=True)
    assert key(body, tenant="a", cache=shared) == key(body, tenant="b", cache=shared)
    assert key(body, tenant="shared:faq", cache=CachePolicy(namespace="faq")) != key(body, tenant="a", cache=shared)
    assert asked(body, cache=shared).tenant == "shared:faq"


def test_a_namespace_that_the_request_names_is_not_shared_by_that() -> None:
    body = {"messages": [{"role": "user", "content": "x"}]}
    shared = CachePolicy(namespace="faq", shared=True)
    mine = CacheAsk(namespace="mine")
    assert asked(body, tenant="a", cache=shared, ask=mine).tenant == "a"
    assert key(body, tenant="a", cache=shared, ask=mine) != key(body, tenant="b", cache=shared, ask=mine)


def test_the_resolved_target_counts_and_the_name_that_led_there_does_not() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    assert key(body) == key({**body, "model": "openai/m"})
    assert key(body) != key(body, target=Target("openai/other", ()))


def test_fields_that_change_no_answer_are_not_in_the_key_and_each_says_why() -> None:
    body = {"messages": [{"role": "user", "content": "x"}]}
    for name, reason in UNHEARD.items():
        assert reason
        assert key(body) == key({**body, name: "anything"})
    assert key(body) != key({**body, "never_heard_of": 1})


def test_two_spellings_of_one_request_are_one() -> None:
    text = {"messages": [{"role": "user", "content": "x"}], "temperature": 0}
    part = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "temperature": 0.0}
    assert key(text) == key(part)
    assert key(text) == key({**text, "temperature": -0.0})
    marked = [{"type": "text", "text": "x", "prompt_cache_breakpoint": {}}]
    assert key(text) != key({**text, "messages": [{"role": "user", "content": marked}]})


def test_a_default_that_is_the_same_everywhere_may_be_said() -> None:
    body = {"messages": [{"role": "user", "content": "x"}]}
    for name, usual in USUAL.items():
        assert key(body) == key({**body, name: usual})
    for name, other in (("n", 2), ("logprobs", True), ("response_format", {"type": "json_object"}), ("temperature", 1)):
        assert key(body) != key({**body, name: other})


@given(a=bodies, b=bodies)
def test_equal_keys_mean_equal_requests(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (key(a) == key(b)) == same(a, b)


def conversation(*turns: str, system: str = "be kind", last: str = "What is it?") -> dict[str, Any]:
    roles = ["user", "assistant"] * len(turns)
    earlier = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *earlier, {"role": "user", "content": last}]}


SEMANTIC = CachePolicy(mode="semantic")


def near(body: dict[str, Any], **rest: Any) -> Query:
    return asked(body, cache=SEMANTIC, reader=AnyReader(alone=rest.pop("alone", True)), **rest)


def test_only_the_last_turn_may_differ_within_a_partition() -> None:
    one, other = near(conversation()), near(conversation(last="WHAT is  it?"))
    assert one.key != other.key
    assert one.partition == other.partition and one.text_key == other.text_key
    assert (one.text, one.nearness) == ("What is it?", "semantic")
    for changed in (
        conversation(system="be rude"),
        conversation("hi", "hello"),
        {**conversation(), "temperature": 1},
        {**conversation(), "tools": []},
        {**conversation(), "last": {}},
    ):
        assert near(changed).partition != one.partition
        assert near(changed).text_key != one.text_key
    assert near(conversation(), tenant="u").partition != one.partition


def test_a_turn_that_stands_alone_may_match_outside_its_conversation() -> None:
    inside, outside = near(conversation("hi", "hello")), near(conversation())
    assert inside.solo_partition == outside.partition
    assert outside.solo_partition is None
    assert near(conversation("hi", "hello"), alone=False).solo_partition is None
    assert near(conversation("hi", "hello", system="x")).solo_partition != outside.partition


def test_meaning_is_asked_for_by_policy_and_can_be_refused_by_the_request() -> None:
    body = conversation()
    assert asked(body, reader=AnyReader()).partition is None
    assert asked(body, cache=SEMANTIC, reader=AnyReader(), ask=CacheAsk(semantic=False)).partition is None
    assert asked(body, cache=SEMANTIC).nearness == "exact"
    image = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}
    assert near(image).nearness == "exact"
    prefilled = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    assert near(prefilled).partition is None


def test_a_request_is_read_once_however_often_it_is_asked() -> None:
    class Counting(AnyReader):
        reads = 0

        def read(self, request: ChatRequest, *, by_meaning: bool) -> Reading:
            self.reads += 1
            return super().read(request, by_meaning=by_meaning)

    reader = Counting()
    asker = ExactAsker(reader)

    def ask(policy: CachePolicy, last: str = "What is it?", wish: CacheAsk | None = None) -> Query:
        request = ChatRequest(conversation(last=last), cache=wish or CacheAsk())
        return asker.query(Plan(Principal("t", "k"), request, cache=policy), TARGET)

    assert ask(SEMANTIC) == ask(SEMANTIC) and reader.reads == 1
    assert ask(SEMANTIC, "Who is it?").text == "Who is it?"
    assert ask(CachePolicy()).partition is None
    assert ask(SEMANTIC, wish=CacheAsk(semantic=False)).partition is None
    assert reader.reads == 3


@pytest.mark.parametrize("text", ["What is the weather today?", "Delete my account.", "Who wrote Emma?", "And her?"])
def test_a_turn_kept_to_the_letter_is_read_for_its_age_and_risk_alone(text: str) -> None:
    """What costs most of a reading is only for those who match by meaning; the rest must not differ."""
    whole, short = (read_turn(text, within=True, by_meaning=by_meaning) for by_meaning in (True, False))
    assert short.volatility == whole.volatility
    assert (short.nearness == "skip") is (whole.nearness == "skip")
