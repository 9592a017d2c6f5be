"""Instructor: answers as pydantic models, by tools and by JSON schema."""

from __future__ import annotations

import instructor
from checked import KEY, MODEL, URL, check, raises, run
from openai import AsyncOpenAI, AuthenticationError, OpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    age: int


def client(mode: instructor.Mode, key: str = KEY) -> instructor.Instructor:
    return instructor.from_openai(OpenAI(base_url=URL, api_key=key, max_retries=0), mode=mode)


def asked(mode: instructor.Mode, **rest: object) -> Person:
    messages = [{"role": "user", "content": f"Ada is 36 years old ({mode.value})."}]
    return client(mode).chat.completions.create(model=MODEL, response_model=Person, messages=messages, **rest)


@check
def tools() -> None:
    assert isinstance(asked(instructor.Mode.TOOLS), Person)


@check
def json_schema() -> None:
    assert isinstance(asked(instructor.Mode.JSON_SCHEMA), Person)


@check
def partial_stream() -> None:
    messages = [{"role": "user", "content": "Grace is 85 years old."}]
    parts = list(
        client(instructor.Mode.TOOLS).chat.completions.create_partial(
            model=MODEL, response_model=Person, messages=messages
        )
    )
    assert isinstance(parts[-1].name, str) and isinstance(parts[-1].age, int)


@check
async def asynchronous() -> None:
    here = instructor.from_openai(AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0))
    messages = [{"role": "user", "content": "Alan is 41 years old."}]
    assert isinstance(await here.chat.completions.create(model=MODEL, response_model=Person, messages=messages), Person)


@check
def completion_and_usage() -> None:
    messages = [{"role": "user", "content": "Mary is 28 years old."}]
    person, told = client(instructor.Mode.TOOLS).chat.completions.create_with_completion(
        model=MODEL, response_model=Person, messages=messages
    )
    assert isinstance(person, Person) and told.usage.total_tokens > 0


@check
def wrong_key_raises() -> None:
    messages = [{"role": "user", "content": "x"}]
    other = client(instructor.Mode.TOOLS, "ew_wrong")
    error = raises(
        lambda: other.chat.completions.create(model=MODEL, response_model=Person, messages=messages, max_retries=1)
    )
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, AuthenticationError):
        seen = seen.__cause__ or seen.__context__
    assert isinstance(seen, AuthenticationError) or "invalid_api_key" in str(error), repr(error)


run()
