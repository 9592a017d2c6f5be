"""What a key's terms make of its requests, through the gateway as it is assembled."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgewise.assemble.house import House
from edgewise.chat import Answer
from edgewise.provider.port import Call
from edgewise.words import Note
from tests.assemble.test_gateway import Gateway, gateway, house, told  # noqa: F401

LONG = " ".join(["The lease may be ended by either side with three months' notice, in writing, to the address."] * 3)
CODE = "```python\nx  =  {'a':  1}\n\n\n\ny  =  2\n```"
CALL = {"id": "c_1", "type": "function", "function": {"name": "look", "arguments": '{"of":  "a  b"}'}}
TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Answer   briefly."},
    {"role": "user", "content": f"{LONG}\n\nWho   may end it?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c_1", "content": '{"found":  "either  side"}'},
    {"role": "assistant", "content": "Either   side."},
    {"role": "user", "content": f"{LONG}\n\nAnd   what does this do?\n\n\n\n{CODE}"},
]


@pytest.fixture
def notes(house: House) -> list[Note]:  # noqa: F811
    found: list[Note] = []
    house.record.watch(lambda note, _: found.append(note))
    return found


async def asked_of(house: House, gateway: Gateway, key: str, messages: Any, **more: Any) -> tuple[Any, Any]:  # noqa: F811
    """The answer, and the messages that reached the provider."""
    scripted = house.providers["scripted"]
    reached: list[Any] = []
    complete = scripted.complete

    async def watched(call: Call) -> Answer:
        reached.append(call.body["messages"])
        return await complete(call)

    scripted.complete = watched  # type: ignore[method-assign]
    body = {"model": "scripted/small", "messages": messages, **more}
    return await gateway.call("POST", "/chat/completions", key, body), reached[-1] if reached else None


async def test_a_prompt_is_shortened_as_the_key_says_and_the_saving_is_told(
    house: House,  # noqa: F811
    gateway: Gateway,  # noqa: F811
    notes: list[Note],
) -> None:
    key = await gateway.new_key(compress={"whitespace": True, "duplicates": True})
    got, messages = await asked_of(house, gateway, key, TURNS)
    assert got.status == 200
    assert messages[:1] + messages[2:5] == TURNS[:1] + TURNS[2:5], (
        "the operator, the tools and the model keep their words"
    )
    assert messages[1]["content"] == f"{LONG}\n\nWho may end it?"
    assert messages[5]["content"] == f"And what does this do?\n\n{CODE}"
    saved = int(told(got, "compressed-tokens") or 0)
    assert 60 < saved < 120 and notes[-1].saved_tokens == saved
    usage = (await gateway.call("GET", "/usage", key)).json["total"]
    assert usage["tokens_compressed"] == saved


async def test_a_key_that_says_nothing_has_its_prompts_sent_as_they_are(
    house: House,  # noqa: F811
    gateway: Gateway,  # noqa: F811
    notes: list[Note],
) -> None:
    got, messages = await asked_of(house, gateway, await gateway.new_key("bolt"), TURNS)
    assert messages == TURNS and told(got, "compressed-tokens") is None and notes[-1].saved_tokens == 0


async def test_of_the_examples_the_nearest_are_sent(house: House, gateway: Gateway) -> None:  # noqa: F811
    pairs = [("What is 2+2?", "4"), ("Capital of France?", "Paris"), ("Capital of Peru?", "Lima"), ("Rhyme?", "Time.")]
    shots = [
        {"role": "system", "name": name, "content": text}
        for pair in pairs
        for name, text in zip(("example_user", "example_assistant"), pair, strict=True)
    ]
    key = await gateway.new_key(compress={"examples": 2})
    question = {"role": "user", "content": "Capital of Chile?"}
    _, messages = await asked_of(house, gateway, key, [*shots, question])
    assert messages == [*shots[2:6], question]


async def test_old_turns_go_with_the_tools_they_called(house: House, gateway: Gateway) -> None:  # noqa: F811
    key = await gateway.new_key(compress={"history_tokens": 120})
    _, messages = await asked_of(house, gateway, key, TURNS)
    assert messages == [TURNS[0], TURNS[5]]


@pytest.mark.parametrize(
    ("said", "attempts", "text"),
    [
        ('```json\n{\\"n\\": 3}\n```', 1, '{"n": 3}'),
        ('{\\"n\\": 3}', 1, '{"n": 3}'),
        ("three", 2, None),
    ],
)
async def test_a_structured_answer_is_mended_and_every_try_is_told(
    gateway: Gateway,  # noqa: F811
    notes: list[Note],
    said: str,
    attempts: int,
    text: str | None,
) -> None:
    """A fence goes without a second call; what is no JSON is asked for once more."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}
    key = await gateway.new_key(repair_json=True)
    got = await gateway.say(f'n? [[script text="{said}"]]', key, "scripted/echo", **form)
    assert (told(got, "attempts"), len(notes[-1].attempts)) == (str(attempts), attempts)
    if text is not None:
        assert json.loads(got.json["choices"][0]["message"]["content"]) == json.loads(text)
