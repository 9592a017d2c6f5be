"""LlamaIndex's client for servers that are like OpenAI's."""

from __future__ import annotations

from checked import CUT, KEY, MODEL, URL, check, raises, run
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

MODEL_HERE = OpenAILike(
    model=MODEL, api_base=URL, api_key=KEY, is_chat_model=True, is_function_calling_model=True, max_retries=0
)


@check
def complete() -> None:
    assert MODEL_HERE.complete("Say llama.").text == "Say llama."


@check
def chat() -> None:
    told = MODEL_HERE.chat([ChatMessage(role="system", content="Be short."), ChatMessage(role="user", content="Hello")])
    assert told.message.content == "Hello"
    assert told.raw.usage.total_tokens > 0


@check
def stream() -> None:
    assert "".join(part.delta or "" for part in MODEL_HERE.stream_complete("one two three")) == "one two three"


@check
async def async_stream() -> None:
    said = ""
    async for part in await MODEL_HERE.astream_chat([ChatMessage(role="user", content="four five six")]):
        said += part.delta or ""
    assert said == "four five six"


@check
def tools() -> None:
    def magic_function(input: int) -> int:
        """Apply a magic function to an input."""
        return input + 2

    tool = FunctionTool.from_defaults(magic_function)
    told = MODEL_HERE.chat_with_tools([tool], user_msg="What is the value of magic_function(3)?")
    calls = MODEL_HERE.get_tool_calls_from_response(told)
    assert [(call.tool_name, call.tool_kwargs) for call in calls] == [("magic_function", {"input": 3})]


@check
def cut_stream_raises() -> None:
    raises(lambda: list(MODEL_HERE.stream_complete(CUT)))


@check
def wrong_key_raises() -> None:
    other = OpenAILike(model=MODEL, api_base=URL, api_key="ew_wrong", is_chat_model=True, max_retries=0)
    assert "invalid_api_key" in str(raises(lambda: other.complete("x")))


run()
