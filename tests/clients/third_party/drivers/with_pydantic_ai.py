"""Pydantic AI: agents with tools, structured output and streams, over chat completions and over responses."""

from __future__ import annotations

from checked import CUT, KEY, MODEL, URL, check, raises, run
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


def provider() -> OpenAIProvider:
    """A new one for each check: a client belongs to the event loop that it was first used in."""
    return OpenAIProvider(openai_client=AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0))


def chat() -> OpenAIChatModel:
    return OpenAIChatModel(MODEL, provider=provider())


class Person(BaseModel):
    name: str
    age: int


@check
async def text() -> None:
    told = await Agent(chat()).run("Say something.")
    assert told.output == "Say something."


@check
async def stream() -> None:
    async with Agent(chat()).run_stream("a stream of words") as told:
        assert [part async for part in told.stream_text()][-1] == "a stream of words"


@check
async def tools() -> None:
    agent = Agent(chat())
    seen = []

    @agent.tool_plain
    def magic_function(input: int) -> int:
        """Apply a magic function to an input."""
        seen.append(input)
        return input + 2

    told = await agent.run("What is the value of magic_function(3)?")
    assert seen == [3], (seen, told.output)


@check
async def structured_output() -> None:
    told = await Agent(chat(), output_type=Person).run("Ada is 36 years old.")
    assert isinstance(told.output, Person)


@check
async def responses() -> None:
    told = await Agent(OpenAIResponsesModel(MODEL, provider=provider())).run("Say it by responses.")
    assert told.output == "Say it by responses."


@check
async def responses_stream() -> None:
    async with Agent(OpenAIResponsesModel(MODEL, provider=provider())).run_stream("events of words") as told:
        assert [part async for part in told.stream_text()][-1] == "events of words"


@check
async def responses_tools() -> None:
    agent = Agent(OpenAIResponsesModel(MODEL, provider=provider()))
    seen = []

    @agent.tool_plain
    def magic_function(input: int) -> int:
        """Apply a magic function to an input."""
        seen.append(input)
        return input + 2

    told = await agent.run("What is the value of magic_function(3)?")
    assert seen == [3], (seen, told.output)


@check
def cut_stream_raises() -> None:
    import asyncio

    async def cut() -> list[str]:
        async with Agent(chat()).run_stream(CUT) as told:
            return [part async for part in told.stream_text()]

    raises(lambda: asyncio.run(cut()))


run()
