"""The lexicon: which words are the same, opposed, of one closed class, or near in meaning.

Everything here is general knowledge of a language kept in files (`lexicon/*.txt`, `lexicon/words.npz`), each with its
source in its first lines; nothing is derived from the pairs that the verifier is measured on. Files are read when the
first pair is verified (about 30 ms), WordNet's is searched as it lies.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_FILES = "edgewise.cache.semantic.lexicon"


def lines(name: str) -> Iterator[str]:
    """The lines of a lexicon file without comments and blanks."""
    text = resources.files(_FILES).joinpath(name).read_text("utf-8")
    return (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def _classes(name: str) -> dict[str, list[str]]:
    return {head.strip(): members.split() for head, members in (line.split(":", 1) for line in lines(name))}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What WordNet says of a word: its commonest synsets, their hypernyms, its antonyms and derived words."""

    synsets: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()
    against: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()


NOTHING = Meaning()


@dataclass(slots=True)
class English:
    """The English lexicon. Build it with `English.read()`."""

    stop: frozenset[str]
    filler: frozenset[str]
    light: frozenset[str]
    negator: frozenset[str]
    implicit: frozenset[str]
    """Words that deny without a negator: avoid, prevent, except."""
    infinitive: frozenset[str]
    """Words behind which "to" begins a verb and leads nowhere."""
    party: frozenset[str]
    """Whom a question may be about, other than the asker."""
    irregular: dict[str, str]
    phrases: dict[str, list[tuple[tuple[str, ...], str]]]
    """First word to (words of the phrase, `_` for a gap) and what it means."""
    opposites: dict[str, frozenset[str]]
    alike: dict[str, frozenset[str]]
    """Word to the words that stand for it in everyday questions."""
    poles: dict[str, tuple[tuple[str, int], ...]]
    """Lemma to (axis, 1 or -1), its end of each axis."""
    members: dict[str, tuple[tuple[str, str], ...]]
    """Word to (closed class, canonical member)."""
    answers: list[tuple[str, re.Pattern[str]]]
    number_words: dict[str, int]
    units: dict[str, str]
    wordnet: list[bytes]
    _index: dict[str, int] = field(default_factory=dict)
    _vectors: Any = None
    _meanings: dict[str, Meaning] = field(default_factory=dict)

    @classmethod
    def read(cls) -> English:
        from edgewise.cache.semantic import words as here

        classes = _classes("words_en.txt")
        irregular = {form: lemma for lemma, forms in _classes("irregular_en.txt").items() for form in forms}
        irregular |= {form: lemma for lemma in classes["comparative"] for form in _compared(lemma)}
        numbers, units = _numbers()
        raw = resources.files(_FILES).joinpath("wordnet.txt").read_bytes().split(b"\n")
        vectors, index = here.word_vectors()
        return cls(
            stop=frozenset(classes["stop"]),
            filler=frozenset(classes["filler"]),
            light=frozenset(classes["light"]),
            negator=frozenset(classes["negator"]),
            implicit=frozenset(classes["implicit"]),
            infinitive=frozenset(classes["infinitive"]),
            party=frozenset(classes["party"]),
            irregular=irregular,
            phrases=_phrases(),
            opposites=stars("opposites_en.txt"),
            alike=stars("alike_en.txt"),
            poles=_poles("poles_en.txt"),
            members=members_of("closed_en.txt"),
            answers=_answers("answers_en.txt"),
            number_words=numbers,
            units=units,
            wordnet=raw[1:],
            _index=index,
            _vectors=vectors,
        )

    def meaning(self, word: str) -> Meaning:
        """WordNet's entry; an empty one for a word that it lacks."""
        found = self._meanings.get(word)
        if found is None:
            key = word.encode() + b"\t"
            at = bisect_left(self.wordnet, key)
            found = NOTHING
            if at < len(self.wordnet) and self.wordnet[at].startswith(key):
                parts = self.wordnet[at].decode().split("\t")[1:]
                found = Meaning(*(frozenset(part.split()) for part in parts))
            if len(self._meanings) > 20_000:
                self._meanings.clear()
            self._meanings[word] = found
        return found

    def known(self, word: str) -> bool:
        return word in self._index or self.meaning(word) is not NOTHING

    def rank(self, word: str) -> int | None:
        """Place in order of frequency, 0 the commonest; None for a word beyond the first 22,000."""
        return self._index.get(word)

    def vector(self, word: str) -> np.ndarray[Any, Any] | None:
        """The word's own (64,) float32 unit vector; None when it has none."""
        at = self._index.get(word)
        if at is None:
            if "-" in word:
                parts = [self._index[part] for part in word.split("-") if part in self._index]
                if parts:
                    import numpy as np

                    mean = self._vectors[parts].astype(np.float32).sum(axis=0)
                    return mean / (np.linalg.norm(mean) or 1.0)  # type: ignore[no-any-return]
            return None
        import numpy as np

        row = self._vectors[at].astype(np.float32)
        return row / (np.linalg.norm(row) or 1.0)  # type: ignore[no-any-return]

    def lemma(self, word: str) -> str:
        """The dictionary form: irregular ones by list, others by the first ending whose stem is a known word."""
        if word in self.irregular:
            return self.irregular[word]
        if len(word) < 4 or not word.isalpha():
            return word
        for ending, put in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) + len(put) >= 3:
                stem = word[: len(word) - len(ending)] + put
                if self.meaning(stem) is not NOTHING:
                    return stem
                if not put and ending in ("ing", "ed") and len(stem) > 3 and stem[-1] == stem[-2]:
                    return stem[:-1]
        if word.endswith("s") and not word.endswith(("ss", "us", "is")):
            return word[:-1]
        return word


_ENDINGS = (
    ("ies", "y"),
    ("ves", "f"),
    ("ves", "fe"),
    ("sses", "ss"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("xes", "x"),
    ("s", ""),
    ("ied", "y"),
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
)


def word_vectors() -> tuple[np.ndarray[Any, Any], dict[str, int]]:
    """(n, 64) int8 rows and where each word's row is; words in order of frequency."""
    import numpy as np

    with resources.as_file(resources.files(_FILES).joinpath("words.npz")) as path, np.load(path) as stored:
        names = bytes(stored["words"]).decode().split("\n")
        return stored["rows"], {name: at for at, name in enumerate(names)}


def _compared(adjective: str) -> list[str]:
    """cheap: cheaper, cheapest; big: bigger, biggest; easy: easier, easiest."""
    stem = adjective[:-1] + "i" if adjective.endswith("y") else adjective.rstrip("e")
    if len(adjective) <= 4 and adjective[-1] in "gtn" and adjective[-2] in "aeiou" and adjective[-3] not in "aeiou":
        stem += adjective[-1]
    return [stem + "er", stem + "est"]


def _poles(name: str) -> dict[str, tuple[tuple[str, int], ...]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for line in lines(name):
        axis, _, ends = line.partition(":")
        for end, words in zip((1, -1), ends.split("|"), strict=True):
            for word in words.split():
                found.setdefault(word, []).append((axis, end))
    return {word: tuple(pairs) for word, pairs in found.items()}


def _phrases() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for line in lines("phrases_en.txt"):
        phrase, _, word = (part.strip() for part in line.partition(" = "))
        parts = tuple(phrase.split())
        found.setdefault(parts[0], []).append((parts, word))
    for several in found.values():
        several.sort(key=lambda pair: -len(pair[0]))
    return found


def stars(name: str) -> dict[str, frozenset[str]]:
    """The first word of each line to each after it, both ways."""
    found: dict[str, set[str]] = {}
    for line in lines(name):
        first, *others = line.split()
        for other in others:
            found.setdefault(first, set()).add(other)
            found.setdefault(other, set()).add(first)
    return {word: frozenset(others) for word, others in found.items()}


def members_of(name: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """A trailing `_` in the file marks a word that is too common in another sense to count; it is left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in lines(name):
        kind, _, members = line.partition(":")
        for member in members.split(","):
            spellings = [word.strip() for word in member.split("=")]
            for spelling in spellings:
                if not spelling.endswith("_"):
                    found.setdefault(spelling, []).append((kind, spellings[0]))
    return {word: tuple(pairs) for word, pairs in found.items()}


def _answers(name: str) -> list[tuple[str, re.Pattern[str]]]:
    found = []
    for line in lines(name):
        kind, _, cues = line.partition(":")
        pattern = "|".join(re.escape(cue.strip()) for cue in cues.split(","))
        found.append((kind, re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")))
    return found


def _numbers() -> tuple[dict[str, int], dict[str, str]]:
    numbers: dict[str, int] = {}
    units: dict[str, str] = {}
    for line in lines("numbers_en.txt"):
        if "=" in line:
            word, _, value = line.partition("=")
            numbers[word.strip()] = int(value)
        elif ":" in line:
            unit, _, spellings = line.partition(":")
            for spelling in spellings.split():
                units[spelling] = unit
    return numbers, units


@lru_cache(maxsize=1)
def english() -> English:
    """The one English lexicon of this process."""
    return English.read()
