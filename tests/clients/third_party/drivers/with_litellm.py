"""LiteLLM's own client, as other programs embed it."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from checked import CUT, KEY, MODEL, URL, check, raises, run

USER = "user"


def asked(content: str, **rest: object) -> object:
    return litellm.completion(
        model=f"openai/{MODEL}",
        api_base=URL,
        api_key=rest.pop("api_key", KEY),
        messages=[{"role": USER, "content": content}],
        num_retries=0,
        max_retries=0,
        **rest,
    )


@check
def completion() -> None:
    told = asked("Say lite.")
    assert told.choices[0].message.content == "Say lite."
    assert told.usage.total_tokens > 0


@check
def stream() -> None:
    parts = list(asked("a lighter stream", stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == "a lighter stream"
    assert any(getattr(part, "usage", None) for part in parts)


@check
async def asynchronous() -> None:
    told = await litellm.acompletion(
        model=f"openai/{MODEL}", api_base=URL, api_key=KEY, messages=[{"role": USER, "content": "later"}]
    )
    assert told.choices[0].message.content == "later"


@check
def tools() -> None:
    function = {
        "name": "magic_function",
        "parameters": {"type": "object", "properties": {"input": {"type": "integer"}}, "required": ["input"]},
    }
    told = asked("What is the value of magic_function(3)?", tools=[{"type": "function", "function": function}])
    call = told.choices[0].message.tool_calls[0].function
    assert (call.name, call.arguments.replace(" ", "")) == ("magic_function", '{"input":3}')


@check
def anthropic_dialect() -> None:
    said = {
        "model": f"anthropic/{MODEL}",
        "api_base": URL.removesuffix("/v1"),
        "api_key": KEY,
        "messages": [{"role": "system", "content": "Say it back."}, {"role": USER, "content": "the other dialect"}],
        "num_retries": 0,
    }
    told = litellm.completion(**said)
    assert told.choices[0].message.content == "the other dialect"
    assert told.usage.total_tokens > 0
    parts = list(litellm.completion(**said, stream=True))
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "the other dialect"


@check
def embeddings() -> None:
    told = litellm.embedding(model="openai/chaos/embed", api_base=URL, api_key=KEY, input=["a"])
    assert len(told.data[0]["embedding"]) > 0


@check
def errors_are_its_own_classes() -> None:
    raises(lambda: asked("x", api_key="ew_wrong"), litellm.AuthenticationError)
    raises(lambda: asked("limited [[script status=429]]"), litellm.RateLimitError)
    raises(lambda: asked("bad", temperature=9), litellm.BadRequestError)


@check
def cut_stream_raises() -> None:
    raises(lambda: list(asked(CUT, stream=True)))


run()
