"""Personal data and secrets, found by shape and then proved by checksum.

A pattern only nominates; a validator decides. Sixteen digits are a card when Luhn holds, an IBAN when its remainder
by 97 is 1 and its country's length fits, a Chinese identity number when its date exists and its check digit is
right. Names and addresses of people have no checksum: those need a model (Bedrock Guardrails is an option), and
this module does not claim them.

Sources  ISO/IEC 7812-1 (Luhn), ISO 13616 (IBAN), GB 11643-1999 and ISO 7064 MOD 11-2 (identity number), ITU E.164
(phone), AWS and vendors' own documentation of key prefixes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19,
    "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
CHINESE_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CHINESE_CHECKS = "10X98765432"


@dataclass(frozen=True, slots=True)
class Finding:
    """`text[start:end]` is of `kind`."""

    kind: str
    start: int
    end: int


def luhn(digits: str) -> bool:
    """Whether the check digit of a card's number is right."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and digits[0] in "23456" and luhn(digits)


def is_iban(text: str) -> bool:
    plain = text.replace(" ", "").upper()
    if IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1


def is_chinese_id(text: str) -> bool:
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(text, CHINESE_WEIGHTS, strict=False))
    return CHINESE_CHECKS[total % 11] == text[17].upper()


def is_phone(text: str) -> bool:
    """With a country code, or as countries group their own: a bare run of digits is a number, not a phone."""
    digits = re.sub(r"\D", "", text)
    if text.lstrip("( ").startswith("+"):
        return 8 <= len(digits) <= 15 and len(set(digits)) > 2
    if re.fullmatch(r"1[3-9]\d{9}", text):
        return True
    return len(digits) == 10 and bool(re.fullmatch(r"\(?[2-9]\d{2}\)?[ .-][2-9]\d{2}[ .-]\d{4}", text))


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    pattern: str
    proves: Callable[[str], bool] = _always
    hints: str = ""
    """One of these characters must be in a text for the pattern to be worth trying."""


KINDS = (
    Kind(
        "email", r"(?<![\w.+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])", hints="@"
    ),
    Kind("iban", r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", is_iban),
    Kind("chinese_id", r"(?<!\d)[1-9]\d{5}(?:19|20)\d{9}[\dXx](?![\dA-Za-z])", is_chinese_id),
    Kind("card", r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-])", is_card),
    Kind(
        "phone", r"(?<![\w+])(?:\+\d[\d ().-]{6,20}\d|\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}|1[3-9]\d{9})(?!\d)", is_phone
    ),
    Kind("aws_key", r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])", hints="A"),
    Kind(
        "api_key",
        r"(?<![A-Za-z0-9])(?:sk-(?:proj-|ant-[a-z0-9]+-)?[A-Za-z0-9_-]{20,200}|gh[pousr]_[A-Za-z0-9]{36,255}"
        r"|AIza[A-Za-z0-9_-]{35}|xox[abpr]-[A-Za-z0-9-]{10,200}|ew_live_[A-Za-z0-9]{39}"
        r"|[rs]k_live_[A-Za-z0-9]{20,100}|glpat-[A-Za-z0-9_-]{20,64})(?![A-Za-z0-9])",
        hints="_-z",
    ),
    Kind("private_key", r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY-----", hints="-"),
)
NAMES = tuple(kind.name for kind in KINDS)
MAX_CHARS_KEPT = 4_096
MOST_KEPT = 512
_ANY_DIGIT = re.compile(r"\d")
_CLEAN: set[tuple[str, tuple[str, ...]]] = set()
"""Texts in which nothing was found: the turns of a conversation come again with each request of it, and so do questions
that are asked often. A text that has something is not kept, so no personal data stays here."""


@cache
def _compiled(name: str) -> re.Pattern[str]:
    """A kind's pattern, compiled when a text first has something for it."""
    return re.compile(next(kind.pattern for kind in KINDS if kind.name == name))


def find(text: str, kinds: tuple[str, ...] = ()) -> list[Finding]:
    """What of `kinds` (empty: all) is in `text`, in order, without overlaps; the earlier kind in `KINDS` wins."""
    if (text, kinds) in _CLEAN:
        return []
    found: list[Finding] = []
    taken = bytearray()
    for finding in _nominated(text, kinds):
        taken = taken or bytearray(len(text))
        if not any(taken[finding.start : finding.end]):
            found.append(finding)
            taken[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
    if not found and len(text) <= MAX_CHARS_KEPT:
        if len(_CLEAN) >= MOST_KEPT:
            _CLEAN.clear()
        _CLEAN.add((text, kinds))
    return sorted(found, key=lambda finding: finding.start)


def _nominated(text: str, kinds: tuple[str, ...]) -> Iterator[Finding]:
    # Ten searches for one character each are faster than one for any of ten.
    digits = any(digit in text for digit in "0123456789") or (
        not text.isascii() and _ANY_DIGIT.search(text) is not None
    )
    for kind in KINDS:
        if kinds and kind.name not in kinds:
            continue
        if any(hint in text for hint in kind.hints) if kind.hints else digits:
            for match in _compiled(kind.name).finditer(text):
                if kind.proves(match.group()):
                    yield Finding(kind.name, match.start(), match.end())
