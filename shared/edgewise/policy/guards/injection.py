"""Signs of prompt injection: phrases that try to overrule, unmask or impersonate the instructions.

This flags; it does not prevent, and nothing here claims to. A phrase scores by how rarely an honest prompt has it,
and the score is read in context: a prompt that asks *about* such phrases (quotes, explains, translates, defends)
scores less. Models trained for this refuse 40 % of benign prompts that look alike (NotInject, arXiv 2410.22770),
so the default is to flag, and the false-positive rate of these rules is measured by a test on such prompts.

Only what did not come from the operator is read: user and tool turns, never system ones.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path

FLAG_AT = 1.0
MAX_CHARS = 20_000
MOST_REMEMBERED = 4_096
ABOUT = "about"

Rule = tuple[float, tuple[str, ...], str]
"""A weight, the hints of which one must be there for the pattern to be worth a search, and the pattern."""


@cache
def _rules() -> tuple[tuple[Rule, ...], str]:
    """The rules of `injection.txt` and the context that lowers a score, read when the first text is scored."""
    lines = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    about = next(pattern for weight, _, pattern in rows if weight == ABOUT)
    return tuple((float(w), tuple(hints.split(",")), pattern) for w, hints, pattern in rows if w != ABOUT), about


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiled when a text first has one of its hints: all of them would take a cold start 15 ms."""
    return re.compile(pattern, re.IGNORECASE)


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
    rules, about = _rules()
    total = 0.0
    for weight, hints, pattern in rules:
        for hint in hints:
            if hint in lowered:
                if _compiled(pattern).search(text):
                    total += weight
                break
    return total * 0.4 if total and _compiled(about).search(text) else total
