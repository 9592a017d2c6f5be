"""BERT's uncased WordPiece, in plain Python.

Text is cleaned, lower-cased, stripped of accents and cut at spaces, punctuation and CJK characters; each word is then
cut greedily into the longest known pieces. The vocabulary (`wordpiece.txt`, 30,522 lines, Apache-2.0) is that of
`bert-base-uncased`, which all-MiniLM-L6-v2 shares. Words repeat, so their pieces are remembered.

Source: Devlin et al. 2018, BERT; Wu et al. 2016, Google's neural machine translation system, section 4.1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from importlib import resources

CLS, SEP, UNKNOWN = 101, 102, 100
MAX_WORD_CHARS = 100
_REMEMBERED = 20_000
# One word of letters, digits and marks, or one single other character; CJK ideographs always stand alone.
_WORDS = re.compile(r"[一-鿿㐀-䶿豈-﫿]|[^\W_一-鿿㐀-䶿豈-﫿]+|[^\s\w]|_")


class WordPiece:
    """Texts to piece numbers. Build it once: the vocabulary takes about 15 ms to read."""

    __slots__ = ("_known", "_pieces")

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._pieces = vocabulary
        self._known: dict[str, tuple[int, ...]] = {}

    @classmethod
    def shipped(cls) -> WordPiece:
        """With the vocabulary that is part of the package."""
        lines = resources.files(__package__).joinpath("wordpiece.txt").read_text("utf-8").split("\n")
        return cls({piece: number for number, piece in enumerate(lines) if piece})

    def words(self, text: str) -> list[str]:
        """The words of `text` as the model sees them: lower case, no accents."""
        text = text.lower()
        if not text.isascii():
            text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
        return _WORDS.findall(text)

    def encode(self, text: str, limit: int) -> list[int]:
        """Piece numbers with the frame `[CLS] … [SEP]`, at most `limit` of them (the end is cut off)."""
        numbers = [CLS]
        for word in self.words(text):
            numbers.extend(self._known.get(word) or self._cut(word))
            if len(numbers) >= limit:
                break
        del numbers[limit - 1 :]
        numbers.append(SEP)
        return numbers

    def _cut(self, word: str) -> tuple[int, ...]:
        pieces: list[int] = []
        start, length = 0, len(word)
        if length > MAX_WORD_CHARS:
            return (UNKNOWN,)
        while start < length:
            end = length
            while end > start:
                part = word[start:end] if start == 0 else "##" + word[start:end]
                number = self._pieces.get(part)
                if number is not None:
                    break
                end -= 1
            else:
                return (UNKNOWN,)
            pieces.append(number)
            start = end
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        found = self._known[word] = tuple(pieces)
        return found
