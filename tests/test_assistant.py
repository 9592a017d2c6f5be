"""Cache → route → stream → store in a few lines, without HTTP."""

from __future__ import annotations

import pytest

import edgewise
from edgewise.chat import CacheAsk
from edgewise.errors import ModelNotFound, NotAuthenticated
from edgewise.settings import Settings
from edgewise.words import Hit

SETTINGS = Settings(root_key="ew_test", scripted_model=True, request_log=False)


async def test_the_second_question_is_answered_from_the_cache_and_streams_alike() -> None:
    async with edgewise.Assistant(SETTINGS, model="scripted/echo") as assistant:
        first = await assistant.ask("What is the capital of France?")
        assert assistant.last is not None
        assert assistant.last.attempts
        pieces = [text async for text in assistant.stream("What is the capital of France?")]
        assert "".join(pieces) == first.text
        assert isinstance(assistant.last.verdict, Hit)
        await assistant.ask("What is the capital of France?", cache=CacheAsk(no_cache=True))
        assert not isinstance(assistant.last.verdict, Hit)


async def test_a_key_that_is_not_known_is_refused() -> None:
    async with edgewise.Assistant(SETTINGS, key="ew_other") as assistant:
        with pytest.raises(NotAuthenticated):
            await assistant.ask("Hello")


async def test_a_model_that_is_not_there_is_named() -> None:
    async with edgewise.Assistant(SETTINGS) as assistant:
        with pytest.raises(ModelNotFound):
            await assistant.ask("Hello", model="nobody/knows")


async def test_with_nothing_set_up_it_says_what_would_be_and_keeps_standard_output_clean(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    for name in Settings.names():
        monkeypatch.delenv(name, raising=False)
    async with edgewise.Assistant() as assistant:
        with pytest.raises(ModelNotFound, match="OPENAI_API_KEY"):
            await assistant.ask("Hello")
    assert capsysbinary.readouterr().out == b""


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError):
        _ = edgewise.Nothing
