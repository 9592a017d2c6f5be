"""The scripted provider: the contract, its recipe language, and what it answers when told nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.clock import Deadline, FakeClock
from edgewise.errors import UpstreamRateLimited, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from edgewise.provider.port import Call, Provider
from edgewise.provider.scripted import Scripted
from edgewise.provider.scripted.instance import Hints, instance
from edgewise.words import Model
from tests.provider.contract import CLOCK, TOOL, ProviderContract, call, folded, streamed
from tests.upstream import Manner


@dataclass
class ByRecipe:
    """A rig that writes a manner down as a recipe."""

    provider: Provider
    model: Model

    def arrange(self, manner: Manner) -> dict[str, Any]:
        words = []
        if manner.text is not None:
            words.append(f'text="{manner.text}"')
        if manner.tool is not None:
            words.append(f"tool={manner.tool[0]} args='{manner.tool[1]}'")
        if manner.status != 200:
            words.append(f"status={manner.status}")
        if "retry-after" in manner.headers:
            words.append(f"retry_after_s={manner.headers['retry-after']}")
        if manner.cut is not None:
            words.append(f"die={manner.cut}")
        if manner.gate is not None:
            words.append("latency_ms=60000" if manner.gate_at == "headers" else "token_ms=60000")
        return {"metadata": {"script": " ".join(words)}}

    async def ended_early(self) -> None:
        """There is no other side."""


@pytest.fixture
def rig() -> ByRecipe:
    return ByRecipe(Scripted(CLOCK), Model("scripted", "echo"))


class TestScripted(ProviderContract):
    """The port's contract."""


def user(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def said(rig: ByRecipe, text: Any, **body: Any) -> Any:
    return await rig.provider.complete(call(rig, messages=user(text), **body))


async def test_it_echoes_the_last_user_turn(rig: ByRecipe) -> None:
    assert (await said(rig, "Hello there")).text == "Hello there"
    assert (await said(rig, [{"type": "text", "text": "in parts"}])).text == "in parts"


async def test_a_recipe_is_read_from_the_prompt_and_cut_out_of_it(rig: ByRecipe) -> None:
    assert (await said(rig, "Tell me [[script finish=length]] more")).finish_reasons == ("length",)
    assert (await said(rig, "Tell me. [[script cached_tokens=5]]")).text == "Tell me."


async def test_a_recipe_is_read_from_the_model_id(rig: ByRecipe) -> None:
    rig.model = Model("scripted", "echo?text=All%20well&reasoning_tokens=7")
    answer = await said(rig, "?")
    assert answer.text == "All well" and answer.model == "echo" and answer.usage.reasoning_tokens == 7
    assert answer.usage.completion_tokens == 2 + 7


async def test_the_nearer_recipe_wins(rig: ByRecipe) -> None:
    rig.model = Model("scripted", "echo?text=model")
    assert (await said(rig, "x", metadata={"script": "text=metadata"})).text == "metadata"
    assert (await said(rig, "x [[script text=prompt]]", metadata={"script": "text=metadata"})).text == "prompt"


@pytest.mark.parametrize("script", ["latncy_ms=3", "tokens=many", "die=later", 'text="open'])
async def test_a_mistake_in_a_recipe_is_refused(rig: ByRecipe, script: str) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await said(rig, "x", metadata={"script": script})
    assert caught.value.status == 400 and caught.value.code == "invalid_script"


async def test_length_and_stops(rig: ByRecipe) -> None:
    long = await said(rig, "x [[script tokens=50]]")
    assert long.usage.completion_tokens == 50 and len(long.text.split()) == 50
    cut = await said(rig, "x [[script tokens=50]]", max_tokens=10)
    assert cut.usage.completion_tokens == 10 and cut.finish_reasons == ("length",)
    assert (await said(rig, "one two three", stop=["two"])).text == "one "


async def test_time_passes_by_the_clock() -> None:
    clock = FakeClock()
    rig = ByRecipe(Scripted(clock), Model("scripted", "echo?latency_ms=2000&token_ms=1000&tokens=4"))
    asked = Call(rig.model, {"messages": user("x")}, Deadline.after(clock, 60))
    times: list[float] = []

    async def read() -> None:
        async for piece in rig.provider.stream(asked):
            if piece["choices"] and piece["choices"][0]["delta"].get("content"):
                times.append(clock.time)

    begun, task = clock.time, asyncio.ensure_future(read())
    await clock.advance(10)
    await task
    assert [time - begun for time in times] == [2, 3, 4, 5]


async def test_a_deadline_in_the_script_s_way(clock: FakeClock) -> None:
    rig = ByRecipe(Scripted(clock), Model("scripted", "echo?latency_ms=9000"))
    asked = Call(rig.model, {"messages": user("x")}, Deadline.after(clock, 2))
    task = asyncio.ensure_future(rig.provider.complete(asked))
    await clock.advance(3)
    with pytest.raises(UpstreamTimeout):
        await task


async def test_failures_pass_after_so_many_times(rig: ByRecipe) -> None:
    script = {"script": "status=429 retry_after_s=2 code=slow times=2 message='not now'"}
    for _ in range(2):
        with pytest.raises(UpstreamRateLimited) as caught:
            await said(rig, "x", metadata=script)
        assert caught.value.retry_after_s == 2 and caught.value.message == "not now"
    assert (await said(rig, "x", metadata=script)).text == "x"
    with pytest.raises(UpstreamRateLimited):
        await said(rig, "another request", metadata=script)


async def test_several_choices_interleave_and_logprobs_tell_the_confidence(rig: ByRecipe) -> None:
    body: dict[str, Any] = {
        "n": 2,
        "logprobs": True,
        "top_logprobs": 1,
        "messages": user("a b [[script confidence=0.5]]"),
    }
    answer = folded(await streamed(rig, call(rig, **body)))
    whole = await rig.provider.complete(call(rig, **body))
    assert len(answer.choices) == 2 and answer.choices == whole.choices and answer.usage == whole.usage
    assert answer.choices[1]["logprobs"]["content"][0]["logprob"] == pytest.approx(-0.6931, abs=1e-3)


def function(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


MAGIC = function("magic_function", input={"type": "integer"})
CUSTOMER = function("unicode_customer", customer_name={"type": "string"}, description={"type": "string"})
WEATHER = function("get_weather", location={"type": "string"})

GREETING = function("greeting_generator", answer_style={"type": "string"})


@pytest.mark.parametrize(
    ("prompt", "tools", "name", "arguments"),
    [
        ("What is the value of magic_function(3)? Use the tool.", [MAGIC], "magic_function", {"input": 3}),
        ("What is the value of magic_function_no_args()? Use the tool.", [function("magic_function_no_args")],
         "magic_function_no_args", {}),
        ("Create a customer named '你好啊集团' (Hello Group) - a Chinese technology company", [CUSTOMER],
         "unicode_customer", {"customer_name": "你好啊集团", "description": "description"}),
        ("What is the weather in San Francisco, CA?", [MAGIC, WEATHER], "get_weather",
         {"location": "San Francisco, CA"}),
        ("Using the tool, generate a Pirate greeting.", [GREETING], "greeting_generator",
         {"answer_style": "answer_style"}),
    ],
)  # fmt: skip
async def test_it_calls_the_tool_that_a_prompt_names(
    rig: ByRecipe, prompt: str, tools: Any, name: str, arguments: Any
) -> None:
    for answer in (await said(rig, prompt, tools=tools),
                   folded(await streamed(rig, call(rig, messages=user(prompt), tools=tools)))):  # fmt: skip
        (made,) = answer.tool_calls
        assert made["function"]["name"] == name
        assert json.loads(made["function"]["arguments"]) == arguments


async def test_tools_are_called_as_the_choice_says(rig: ByRecipe) -> None:
    tools = [MAGIC, WEATHER]
    assert not (await said(rig, "Hello!", tools=tools)).tool_calls
    assert len((await said(rig, "Hello!", tools=tools, tool_choice="required")).tool_calls) == 1
    assert not (await said(rig, "magic_function(3)", tools=tools, tool_choice="none")).tool_calls
    chosen = {"type": "function", "function": {"name": "get_weather"}}
    (made,) = (await said(rig, "Hello!", tools=tools, tool_choice=chosen)).tool_calls
    assert made["function"]["name"] == "get_weather"
    both = "magic_function(1) and get_weather('Rome')"
    assert len((await said(rig, both, tools=tools)).tool_calls) == 2
    assert len((await said(rig, both, tools=tools, parallel_tool_calls=False)).tool_calls) == 1
    rig.model = Model("scripted", "tool")
    assert (await said(rig, "Hello!", tools=tools)).tool_calls


async def test_a_tool_result_ends_the_loop(rig: ByRecipe) -> None:
    messages = [
        *user("What is the weather in Rome?"),
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "get_weather"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    answer = await rig.provider.complete(call(rig, messages=messages, tools=[WEATHER]))
    assert not answer.tool_calls and answer.text


async def test_json_as_it_is_asked_for(rig: ByRecipe) -> None:
    joke = "Tell me a joke about cats. Return the result as a JSON with 'setup' and 'punchline' keys."
    told = json.loads((await said(rig, joke, response_format={"type": "json_object"})).text)
    assert told.keys() == {"setup", "punchline"}
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert json.loads((await said(rig, "I am 42 years old", response_format=wanted)).text) == {"age": 42}


leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["string", "null"]}),
    st.builds(lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b},
              st.integers(0, 9), st.integers(0, 9)),
    st.builds(lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b}, st.integers(-9, 9), st.integers(0, 9)),
    st.builds(lambda a, b: {"type": "number", "exclusiveMinimum": a, "exclusiveMaximum": a + b},
              st.integers(-9, 9), st.integers(1, 9)),
    st.builds(lambda a: {"type": "integer", "multipleOf": a, "minimum": 3}, st.integers(1, 9)),
    st.lists(st.integers() | st.text(), min_size=1, max_size=3).map(lambda values: {"enum": values}),
    st.sampled_from(["date-time", "email", "uuid", "ipv4"]).map(lambda kind: {"type": "string", "format": kind}),
)  # fmt: skip
names = st.sampled_from(["a", "b", "city", "name"])


def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(names, inner, max_size=3)
    return st.one_of(
        st.builds(
            lambda props, extra: {"type": "object", "properties": props, "required": [*sorted(props)[:1], *extra]},
            properties,
            st.lists(st.just("more"), max_size=1),
        ),
        st.builds(lambda item, least: {"type": "array", "items": item, "minItems": least}, inner, st.integers(0, 3)),
        st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
    )


@given(st.recursive(leaves, compound, max_leaves=6), st.text(max_size=40))
def test_an_instance_is_valid_under_its_schema(schema: Any, text: str) -> None:
    jsonschema.validate(instance(schema, Hints.of(text)), schema)


def test_a_schema_that_goes_in_circles_ends() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/node"}, "v": {"type": "integer"}},
        "required": ["v"],
    }
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node}}
    jsonschema.validate(instance(schema, Hints.of("7")), schema)


async def test_the_same_request_is_answered_alike(rig: ByRecipe) -> None:
    first, second = [await said(rig, "Hello [[script tokens=9]]", tools=[TOOL]) for _ in range(2)]
    assert {**first.completion, "id": "", "created": 0} == {**second.completion, "id": "", "created": 0}
    assert first.completion["id"] != second.completion["id"]


async def test_it_costs_what_its_price_says(rig: ByRecipe) -> None:
    assert all(model.price is not None and model.price.input == 0 for model in rig.provider.models())
    assert Scripted(CLOCK, price=None).models()[0].price is None


async def test_each_point_of_death_leaves_what_came_before_it(rig: ByRecipe) -> None:
    async def got(point: str) -> int:
        count = 0
        pieces: AsyncIterator[Any] = rig.provider.stream(call(rig, messages=user(f"a b c [[script die={point}]]")))
        try:
            async for _ in pieces:
                count += 1
        except Exception:
            return count
        raise AssertionError("it lived")

    points = ["before-headers", "after-headers", "mid-chunk", "after-content", "before-finish", "before-usage"]
    assert [await got(point) for point in points] == [0, 0, 2, 2, 4, 5]
    with pytest.raises(UpstreamUnavailable):
        await said(rig, "a b c [[script die=mid-chunk]]")
