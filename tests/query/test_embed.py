"""Embedders: unit rows, near for rewordings, of a fixed space; a service that fails costs a miss."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from edgewise.clock import FakeClock
from edgewise.query.embed import ByLanguage, EmbedderDown, Remembering
from edgewise.query.embed.minilm import MiniLm
from edgewise.query.embed.multilingual import Multilingual
from edgewise.query.embed.remote import RemoteEmbedder
from edgewise.query.embed.wordpiece import CLS, SEP, WordPiece


@pytest.fixture(scope="module")
def english() -> MiniLm:
    return MiniLm()


def test_pieces_are_cut_greedily_and_framed() -> None:
    pieces = WordPiece.shipped()
    assert pieces.encode("Unaffable, héllo", 16) == [CLS, 14477, 20961, 3468, 1010, 7592, SEP]
    assert len(pieces.encode("word " * 50, 10)) == 10


def test_english_rows_are_of_unit_length_and_near_for_rewordings(english: MiniLm) -> None:
    texts = ["How do I reset my password?", "I lost my password, how do I get a new one?", "Best pasta recipe"]
    rows = english.encode(texts)
    assert rows.shape == (3, english.dim) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > 0.6
    assert rows[0] @ rows[2] < 0.3


def test_a_text_has_the_same_vector_in_any_batch(english: MiniLm) -> None:
    texts = [f"question number {i} about trains and tickets" for i in range(60)]
    together = english.encode(texts)
    assert np.allclose(together[17], english.encode([texts[17]])[0], atol=1e-4)


def test_the_vector_space_is_that_of_its_id(english: MiniLm) -> None:
    """Rows outlive a release: whatever is done for speed, a text keeps its vector, or the id changes."""
    row = english.encode(["How do I reset my password?"])[0]
    known = [0.0054, 0.0614, -0.0652, 0.0047, 0.0275, -0.0923, 0.0497, 0.0602]
    assert english.id == "minilm-l6-int8/1" and np.allclose(row[:64:8], known, atol=2e-4)


def test_a_question_that_was_not_found_is_stored_without_a_second_walk() -> None:
    class Counting:
        id, dim, calls = "counting", 64, 0

        def encode(self, texts: list[str]) -> np.ndarray:
            self.calls += 1
            return np.full((len(texts), self.dim), len(texts[0]), np.float32)

    inner = Counting()
    embedder = Remembering(inner)
    for text in ("a", "bb", "a", "bb"):
        assert embedder.encode([text])[0, 0] == len(text)
    assert embedder.encode(["a", "bb"]).shape == (2, 64) and embedder.encode(["a"]).shape == (1, 64)
    assert inner.calls == 3 and (embedder.id, embedder.dim) == ("counting", 64)


def test_chinese_has_an_embedder_of_its_own() -> None:
    shipped = ByLanguage.shipped()
    chinese, english = shipped.of("怎么修改银行卡密码？"), shipped.of("How do I pay?")
    assert chinese is not None and chinese.id == Multilingual.id and chinese.dim % 64 == 0
    rows = chinese.encode(["怎么修改银行卡密码？", "银行卡密码怎么改？", "今天晚饭吃什么"])
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2
    assert english is not None and english.id == MiniLm.id
    assert shipped.of("Wo finde ich den Bahnhof in München?") is None


class Service:
    """A service of two directions that counts what it is asked."""

    def __init__(self, clock: FakeClock, timeout_s: float = 1.0, dim: int = 64) -> None:
        self.calls: list[list[str]] = []
        self.fails: Exception | None = None
        self.dim = dim
        self.embedder = RemoteEmbedder("them/model", self, clock, timeout_s=timeout_s)

    async def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(texts)
        if isinstance(self.fails, TimeoutError):
            await asyncio.Event().wait()
        if self.fails:
            raise self.fails
        return [[3.0, 4.0 * len(text), *[0.0] * (self.dim - 2)] for text in texts]


async def test_a_service_s_vectors_are_brought_to_unit_length_and_remembered(clock: FakeClock) -> None:
    """A question that is not found is stored under the same vector: that is one call."""
    service = Service(clock)
    rows = await service.embedder.encode(["a", "bb", "a"])
    assert rows.shape == (3, 64) and rows.dtype == np.float32
    assert np.allclose(rows[0][:2], [0.6, 0.8]) and np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert np.array_equal(await service.embedder.encode(["bb"]), rows[1:2])
    assert service.calls == [["a", "bb"]]
    assert service.embedder.id == "them/model/64"


async def test_many_texts_go_in_parts(clock: FakeClock) -> None:
    service = Service(clock)
    texts = [f"text {n}" for n in range(600)]
    assert len(await service.embedder.encode(texts)) == 600
    assert [len(part) for part in service.calls] == [256, 256, 88]


@pytest.mark.parametrize("trouble", [ConnectionError(), TimeoutError()])
async def test_a_service_that_fails_is_left_alone_for_a_while(trouble: Exception, clock: FakeClock) -> None:
    """One caller in ten seconds waits for it; the others know at once."""
    service = Service(clock, timeout_s=0.001)
    service.fails = trouble
    for _ in range(3):
        with pytest.raises(EmbedderDown):
            await service.embedder.encode(["a"])
    assert len(service.calls) == 1
    service.fails = None
    clock.time += 10
    assert len(await service.embedder.encode(["a"])) == 1


async def test_callers_at_the_same_time_do_not_take_each_other_for_trouble(clock: FakeClock) -> None:
    service = Service(clock)
    found = await asyncio.gather(*(service.embedder.encode([text]) for text in ("a", "b", "c")))
    assert len(found) == 3


@pytest.mark.parametrize(("dim", "why"), [(2, "shape"), (0, "shape")])
async def test_vectors_that_cannot_be_searched_are_refused(dim: int, why: str, clock: FakeClock) -> None:
    service = Service(clock)

    async def wrong(texts: list[str]) -> list[list[float]]:
        return [[1.0] * dim for _ in texts]

    with pytest.raises(EmbedderDown, match=why):
        await RemoteEmbedder("m", wrong, clock, timeout_s=1).encode(["a"])
    assert service.calls == []


async def test_a_vector_without_a_direction_is_refused(clock: FakeClock) -> None:
    async def nothing(texts: list[str]) -> list[list[float]]:
        return [[0.0] * 64 for _ in texts]

    with pytest.raises(EmbedderDown, match="direction"):
        await RemoteEmbedder("m", nothing, clock, timeout_s=1).encode(["a"])


async def test_a_server_that_changes_its_model_has_another_vector_space(clock: FakeClock) -> None:
    service = Service(clock)
    await service.embedder.encode(["a"])
    service.dim = 128
    await service.embedder.encode(["b"])
    assert service.embedder.id == "them/model/128"
    assert (await service.embedder.encode(["a"])).shape == (1, 128)
