"""One text taken apart for comparison: its words, numbers, names, polarity, direction and the kind of answer it wants.

A reading is made once per text and kept; comparing two of them (`edgewise.cache.semantic.features`) touches no file
and no vector of a sentence. What is read here is grammar, not topic: this module does not know what two texts have in
common. English; Chinese is read in `edgewise.cache.semantic.hanzi`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from edgewise.cache.semantic.words import English, english

AGAINST = (
    ("on", "off"),
    ("onto", "off"),
    ("with", "without"),
    ("before", "after"),
    ("over", "under"),
    ("above", "below"),
    ("within", "outside"),
    ("inside", "outside"),
    ("ahead", "behind"),
)
"""Small words that turn each other round."""
_CONTRACTIONS = (
    (re.compile(r"[\u2018\u2019\u02bc`\u00b4]"), "'"),
    (re.compile(r"\bcan't\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"\bshan't\b"), "shall not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(how|what|where|who|when|that|there|it|he|she)'s\b"), r"\1 is"),
    (re.compile(r"\bi'm\b"), "i am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'d\b"), " would"),
    (re.compile(r"'s?\b|(?<=s)'"), ""),
    (re.compile(r"\bo'clock\b"), " oclock"),
    (re.compile(r"\be\.g\.|\bi\.e\.|\betc\."), ""),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile(r"(?<=\d)\s*(k)\b"), "000"),
)
_WORD = re.compile(
    r"[£$€]|%|\d{1,2}:\d{2}|\d+(?:\.\d+)+|\d+|[a-z][a-z0-9]*(?:[+#]+|(?:-[a-z0-9]+)+)?|[^\s\w.,;:!?()\"'\-]"
)
_CODE = re.compile(
    r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]+(?:[-_/][A-Za-z0-9]+)*|[A-Za-z]+[-_/]\d[\w-]*|\w+_\w+|#\w+"
    r"|\b[A-Za-z]{2,}(?:\.[A-Za-z]{2,})+\b|\b[a-z]{2,}[A-Z]\w*|(?<!\S)--?[a-z][\w-]+"
)
_NAME = re.compile(r"(?<![.!?\n]\s)(?<!^)(?<![\w'])[A-Z][\w&.-]*")
_QUOTED = re.compile(r"\"([^\"]{2,60})\"|\u201c([^\u201d]{2,60})\u201d|`([^`]{1,60})`")
_UNIT_SIZED = re.compile(r"^(\d+(?:\.\d+)?)([a-z]+)$")
_PARTICLES = frozenset({word for pair in AGAINST for word in pair} | {"in", "out", "up", "down"})
_ARTICLES = frozenset(("a", "an", "the"))
_HOURS = {"am", "pm", "a.m", "p.m"}
_DAYTIME = {"morning": "am", "afternoon": "pm", "evening": "pm", "night": "pm"}
_YES_NO = frozenset(
    [
        "can",
        "could",
        "is",
        "are",
        "am",
        "was",
        "were",
        "do",
        "does",
        "did",
        "will",
        "would",
        "should",
        "shall",
        "may",
        "might",
        "must",
        "has",
        "have",
        "had",
    ]
)
_WH = frozenset(["how", "what", "when", "where", "which", "who", "whom", "whose", "why"])


@dataclass(frozen=True, slots=True)
class Unit:
    """One content word: its lemma, how much it says (0 to 1: rare words say more) and where it stands."""

    lemma: str
    weight: float
    at: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the features compare. Built by `read`."""

    text: str
    words: tuple[str, ...]
    units: tuple[Unit, ...]
    lemmas: frozenset[str]
    numbers: frozenset[tuple[str, str]]
    """(value, unit or ''), in plain digits."""
    codes: frozenset[str]
    """Words that mix letters and digits, or are joined as in code; compared to the letter."""
    names: frozenset[str]
    classes: dict[str, frozenset[str]]
    """Closed class to its members that occur."""
    negations: int
    denials: int
    """Negators and words that deny by themselves (avoid, ban, without)."""
    poles: frozenset[tuple[str, int]]
    """(axis, end) of every word that stands at an end of an axis."""
    parties: frozenset[str]
    initials: str
    """The first letters of all words, for finding an acronym's expansion."""
    bare: tuple[str, ...]
    """The words without fillers and articles, for telling a repeat."""
    typed: tuple[str, ...]
    """As `bare`, with phrases as they were typed."""
    squeezed: str
    """The letters and digits alone."""
    answers: frozenset[str]
    opener: str
    """'yes-no', a wh-word, or 'other' (a statement or a command)."""
    particles: tuple[str, ...]
    roles: dict[str, str]
    """Lemma to 'from', 'to', 'before-than' or 'after-than', for words tied to a direction."""
    pieces: frozenset[str]
    """Character trigrams."""
    row: tuple[str, ...]
    """Content words and numbers in their order: lemmas, plain digits, names as they are."""


@lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    """The reading of an English text; about 60 microseconds, remembered for the last few thousand texts."""
    return _Reader(english()).read(text)


class _Reader:
    def __init__(self, lexicon: English) -> None:
        self.lexicon = lexicon

    def read(self, text: str) -> Reading:
        plain = unicodedata.normalize("NFKC", text)
        low = plain.lower()
        for pattern, put in _CONTRACTIONS:
            low = pattern.sub(put, low)
        raw = _WORD.findall(low)
        words = self._phrased(raw)
        numbers, rest = self._numbers(words)
        units = self._units(rest)
        codes = frozenset(code.lower() for code in _CODE.findall(plain) if not _UNIT_SIZED.match(code.lower()))
        names = frozenset(name.lower().rstrip(".") for name in _NAME.findall(plain) if name not in ("I", "OK"))
        quoted = frozenset(next(filter(None, found)).lower() for found in _QUOTED.findall(plain))
        squeezed = "".join(c if c.isalnum() else " " for c in low)
        padded = f" {' '.join(squeezed.split())} "
        return Reading(
            text=text,
            words=tuple(words),
            units=units,
            lemmas=frozenset(unit.lemma for unit in units),
            numbers=frozenset(numbers),
            codes=codes | {text for text in quoted if not text.replace(" ", "").isalpha()},
            names=names | {text for text in quoted if text.replace(" ", "").isalpha()},
            classes=self._classes(words),
            negations=sum(word in self.lexicon.negator for word in words),
            denials=sum(word in self.lexicon.negator or word in self.lexicon.implicit for word in words),
            poles=self._poles(words),
            parties=frozenset(unit.lemma for unit in units if unit.lemma in self.lexicon.party),
            initials="".join(word[0] for word in raw),
            bare=self._bare(words),
            typed=self._bare(raw),
            squeezed="".join(squeezed.split()),
            answers=self._answers(low),
            opener=_opener([w for w in words if w not in self.lexicon.filler]),
            particles=tuple(word for word in words if word in _PARTICLES),
            roles=self._roles(words),
            pieces=frozenset(padded[i : i + 3] for i in range(len(padded) - 2)),
            row=tuple(self._in_row(word, names) for word in words if word[0].isdigit() or self._is_content(word)),
        )

    def _bare(self, words: list[str]) -> tuple[str, ...]:
        dropped = self.lexicon.filler | _ARTICLES
        return tuple(word.replace("-", "") for word in words if word not in dropped)

    def _in_row(self, word: str, names: frozenset[str]) -> str:
        value = self.lexicon.number_words.get(word)
        if value is not None or word in names:
            return word if value is None else str(value)
        lemma = self.lexicon.lemma(word)
        member = self.lexicon.members.get(word) or self.lexicon.members.get(lemma)
        return member[0][1] if member else lemma

    def _phrased(self, words: list[str]) -> list[str]:
        """Phrases replaced by the word they mean; a phrase with a gap leaves the gap's words behind its own."""
        out: list[str] = []
        at, phrases = 0, self.lexicon.phrases
        words = list(words)
        while at < len(words):
            for parts, meaning in phrases.get(words[at], ()) or phrases.get(
                self.lexicon.irregular.get(words[at], ""), ()
            ):
                length, gap = _span(words, at, parts)
                if length:
                    out.extend(meaning.split())
                    words[at + length : at + length] = gap
                    at += length
                    break
            else:
                out.append(words[at])
                at += 1
        return out

    def _numbers(self, words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
        """Numbers with their units, and the words that are neither."""
        found: list[tuple[str, str]] = []
        rest: list[str] = []
        at = 0
        while at < len(words):
            word = words[at]
            value, used, unit = self._value(words, at)
            if value is None:
                rest.append(word)
                at += 1
                continue
            at += used
            before = words[at - used - 1] if at - used else ""
            if not unit and before in "£$€" and before:
                unit = self.lexicon.units[before]
                # A sign between two numbers was the first one's unit too, and is gone already.
                if rest[-1:] == [before]:
                    rest.pop()
            if not unit and at < len(words):
                after = words[at]
                if after in _HOURS:
                    unit, at = "clock", at + 1
                    value = _clock(value, after)
                elif (half := _half(words[at : at + 4])) is not None:
                    unit, value = "clock", _clock(value, half)
                elif after in self.lexicon.units and not (after in ("c", "f", "w", "g", "l", "m") and used > 1):
                    unit, at = self.lexicon.units[after], at + 1
            found.append((_plain(value), unit))
        return found, rest

    def _value(self, words: list[str], at: int) -> tuple[float | None, int, str]:
        word = words[at]
        if word[0].isdigit():
            if ":" in word:
                hour, minute = word.split(":")
                after = words[at + 1] if at + 1 < len(words) else ""
                value = _clock(int(hour), after) + int(minute) / 100
                return value, 2 if after in _HOURS else 1, "clock"
            if word.count(".") > 1 or not word.replace(".", "").isdigit():
                return None, 1, ""
            return float(word), 1, ""
        sized = _UNIT_SIZED.match(word)
        if sized is None and word in self.lexicon.number_words:
            total = current = 0
            used = 0
            while at + used < len(words) and (number := self.lexicon.number_words.get(words[at + used])) is not None:
                if number in (100, 1000, 1_000_000, 1_000_000_000):
                    current = max(current, 1) * number
                    if number > 100:
                        total, current = total + current, 0
                elif current and current % 100 and not (current % 10 == 0 and number < 10 and current % 100 >= 20):
                    break
                else:
                    current += number
                used += 1
            return float(total + current), used, ""
        head, _, tail = word.partition("-")
        if tail and head in self.lexicon.number_words:
            ones = self.lexicon.number_words.get(tail)
            if ones is not None and ones < 10:
                return float(self.lexicon.number_words[head] + ones), 1, ""
            if tail in self.lexicon.units:
                return float(self.lexicon.number_words[head]), 1, self.lexicon.units[tail]
        return None, 1, ""

    def _units(self, words: list[str]) -> tuple[Unit, ...]:
        found, lexicon = [], self.lexicon
        for at, word in enumerate(words):
            if word in lexicon.stop or word in lexicon.filler or word in lexicon.negator or not word[0].isalpha():
                continue
            if word == "cost-amount":
                continue
            lemma = lexicon.lemma(word)
            if lemma in lexicon.stop:
                continue
            found.append(Unit(lemma, self._weight(lemma, word), at))
        return tuple(found)

    def _weight(self, lemma: str, word: str) -> float:
        if lemma in self.lexicon.light or word in self.lexicon.light:
            return 0.15
        rank = self.lexicon.rank(lemma)
        if rank is None:
            return 1.0
        return min(1.0, 0.35 + 0.65 * math.log1p(rank / 60) / 5.3)

    def _classes(self, words: list[str]) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for word in words:
            pairs = self.lexicon.members.get(word) or self.lexicon.members.get(self.lexicon.lemma(word)) or ()
            for kind, member in pairs:
                found.setdefault(kind, set()).add(member)
        return {kind: frozenset(members) for kind, members in found.items()}

    def _poles(self, words: list[str]) -> frozenset[tuple[str, int]]:
        poles, lemma = self.lexicon.poles, self.lexicon.lemma
        return frozenset(
            pole
            for word in words
            for pole in poles.get(word) or poles.get(lemma(word)) or poles.get(word.removesuffix("ly"), ())
        )

    def _answers(self, low: str) -> frozenset[str]:
        return frozenset(kind for kind, pattern in self.lexicon.answers if pattern.search(low))

    def _roles(self, words: list[str]) -> dict[str, str]:
        """Who stands behind 'from', 'to' or 'than', and who before 'to' without a 'from'."""
        lexicon = self.lexicon
        roles: dict[str, str] = {}
        for at, word in enumerate(words):
            if word not in ("from", "to", "into", "than", "onto") or (at and words[at - 1] in lexicon.infinitive):
                continue
            ahead = self._next(words[at + 1 : at + 5])
            behind = self._next(list(reversed(words[max(0, at - 4) : at])))
            if word == "than":
                if ahead:
                    roles[ahead] = "after-than"
                first = next((lexicon.lemma(w) for w in words[:at] if self._is_content(w)), None)
                if first:
                    roles.setdefault(first, "before-than")
            elif word == "from":
                if ahead:
                    roles[ahead] = "from"
            elif ahead and (at + 1 >= len(words) or words[at + 1] not in _YES_NO):
                roles[ahead] = "to"
                if behind and "from" not in words and behind not in roles:
                    roles[behind] = "from"
        return roles

    def _next(self, words: list[str]) -> str | None:
        return next((self.lexicon.lemma(word) for word in words if self._is_content(word)), None)

    def _is_content(self, word: str) -> bool:
        return word not in self.lexicon.stop and word not in self.lexicon.filler and word[0].isalpha()


def _span(words: list[str], at: int, parts: tuple[str, ...]) -> tuple[int, list[str]]:
    """(words taken, words of the gap) when the phrase stands at `at`; (0, []) when not."""
    spot, gap = at + 1, []
    for index, part in enumerate(parts[1:], 1):
        if part == "_":
            until = parts[index + 1]
            for skip in range(5):
                if spot + skip < len(words) and words[spot + skip] == until:
                    gap = words[spot : spot + skip]
                    spot += skip
                    break
            else:
                return 0, []
        elif spot < len(words) and words[spot] == part:
            spot += 1
        else:
            return 0, []
    return spot - at, gap


def _half(words: list[str]) -> str | None:
    """Which half of the day words after an hour name; None when they name none."""
    match words:
        case ["in", "the", "morning", *_]:
            return "am"
        case ["in", "the", "afternoon" | "evening", *_] | ["at", "night", *_]:
            return "pm"
        case ["oclock", "in", "the", half, *_] if half in _DAYTIME:
            return _DAYTIME[half]
        case ["oclock", "at", "night", *_]:
            return "pm"
        case ["oclock", *rest]:
            return next((_DAYTIME[word] for word in rest if word in _DAYTIME), "")
    return None


def _clock(hour: float, half: str) -> float:
    late = half.startswith("p")
    if late and hour < 12:
        return hour + 12
    return 0 if hour == 12 and half.startswith("a") else hour


def _plain(value: float) -> str:
    return f"{value:g}" if value < 1e6 else f"{value:.0f}"


def _opener(words: list[str]) -> str:
    for word in words[:2]:
        if word in _WH:
            return word
        if word in _YES_NO:
            return "yes-no"
    return next((word for word in words if word in _WH), "other")
