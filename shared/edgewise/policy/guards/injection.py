"""Signs of prompt injection: phrases that try to overrule, unmask or impersonate the instructions.

This flags; it does not prevent, and nothing here claims to. A phrase scores by how rarely an honest prompt has it,
and the score is read in context: a prompt that asks *about* such phrases (quotes, explains, translates, defends)
scores less. Models trained for this refuse 40 % of benign prompts that look alike (NotInject, arXiv 2410.22770),
so the default is to flag, and the false-positive rate of these rules is measured by a test on such prompts.

Only what did not come from the operator is read: user and tool turns, never system ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

FLAG_AT = 1.0
MAX_CHARS = 20_000
MOST_REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class _Rules:
    """(weight, hints, pattern) by rule, and the context that lowers a score."""

    rules: tuple[tuple[float, tuple[str, ...], re.Pattern[str]], ...]
    about: re.Pattern[str]


@cache
def _rules() -> _Rules:
    """The rules of `injection.txt`, read when the first text is scored."""
    rules, about = [], re.compile("(?!)")
    lines = files(__package__).joinpath("injection.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("#"):
            continue
        weight, hints, pattern = line.split("\t")
        if weight == "about":
            about = re.compile(pattern, re.IGNORECASE)
        else:
            rules.append((float(weight), tuple(hints.split(",")), re.compile(pattern, re.IGNORECASE)))
    return _Rules(tuple(rules), about)


def score(text: str) -> float:
    """How much `text` looks like an injection; flag from `FLAG_AT`. Reads the first and last 10,000 characters."""
    return _remembered(text) if len(text) <= MOST_REMEMBERED else _score(text)


@lru_cache(maxsize=512)
def _remembered(text: str) -> float:
    """Turns of a conversation come again with each request of it, and so do questions that are asked often."""
    return _score(text)


def _score(text: str) -> float:
    if len(text) > MAX_CHARS:
        text = text[: MAX_CHARS // 2] + "\n" + text[-MAX_CHARS // 2 :]
    lowered = text.lower()
    known = _rules()
    total = 0.0
    for weight, hints, pattern in known.rules:
        for hint in hints:
            if hint in lowered:
                if pattern.search(text):
                    total += weight
                break
    return total * 0.4 if total and known.about.search(text) else total


def is_suspect(texts: Iterable[str]) -> bool:
    """Whether any of `texts` scores high enough to be flagged."""
    return any(score(text) >= FLAG_AT for text in texts)
