"""The in-process embedders: unit rows, near for rewordings, of a fixed space."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise.query.embed import ByLanguage
from edgewise.query.embed.minilm import MiniLm
from edgewise.query.embed.multilingual import Multilingual
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


def test_chinese_has_an_embedder_of_its_own() -> None:
    shipped = ByLanguage.shipped()
    chinese = shipped.of("怎么修改银行卡密码？")
    assert isinstance(chinese, Multilingual) and chinese.dim % 64 == 0
    rows = chinese.encode(["怎么修改银行卡密码？", "银行卡密码怎么改？", "今天晚饭吃什么"])
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2
    assert isinstance(shipped.of("How do I pay?"), MiniLm)
    assert shipped.of("Wo finde ich den Bahnhof in München?") is None
