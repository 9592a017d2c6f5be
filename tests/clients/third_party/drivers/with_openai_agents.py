"""The OpenAI Agents SDK: a loop with tools, over responses (its default) and over chat completions."""

from __future__ import annotations

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from checked import CUT, KEY, MODEL, URL, check, raises, run
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)
SEEN: list[int] = []


@function_tool
def magic_function(input: int) -> int:
    """Apply a magic function to an input."""
    SEEN.append(input)
    return input + 2


class Person(BaseModel):
    name: str
    age: int


def agent(kind: type, **rest: object) -> Agent:
    client = AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0)
    return Agent(name="here", instructions="Be short.", model=kind(model=MODEL, openai_client=client), **rest)


async def answers(kind: type) -> None:
    told = await Runner.run(agent(kind), f"Say agent ({kind.__name__}).")
    assert told.final_output == f"Say agent ({kind.__name__})."


async def streams(kind: type) -> None:
    told = Runner.run_streamed(agent(kind), f"Stream agent ({kind.__name__}).")
    said = ""
    async for event in told.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            said += event.data.delta
    assert said == f"Stream agent ({kind.__name__})."


async def calls(kind: type) -> None:
    SEEN.clear()
    await Runner.run(agent(kind, tools=[magic_function]), "What is the value of magic_function(3)?")
    assert SEEN == [3], SEEN


@check
async def responses() -> None:
    await answers(OpenAIResponsesModel)


@check
async def responses_stream() -> None:
    await streams(OpenAIResponsesModel)


@check
async def responses_tools() -> None:
    await calls(OpenAIResponsesModel)


@check
async def chat() -> None:
    await answers(OpenAIChatCompletionsModel)


@check
async def chat_stream() -> None:
    await streams(OpenAIChatCompletionsModel)


@check
async def chat_tools() -> None:
    await calls(OpenAIChatCompletionsModel)


@check
async def structured_output() -> None:
    told = await Runner.run(agent(OpenAIResponsesModel, output_type=Person), "Ada is 36 years old.")
    assert isinstance(told.final_output, Person)


@check
def cut_stream_raises() -> None:
    import asyncio

    async def cut() -> list[object]:
        told = Runner.run_streamed(agent(OpenAIResponsesModel), CUT)
        return [event async for event in told.stream_events()]

    raises(lambda: asyncio.run(cut()))


run()
