"""Text in its normal form, and the language that it is written in.

The normal form is what two spellings of one question share: Unicode's compatibility form, lower case, no greeting or
thanks around it, no end punctuation, one space between words. It is conservative: no word inside is ever dropped or
replaced, and text with code, quotes or several lines is only stripped at its ends.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from edgewise.patterns import later

Language = Literal["en", "zh", "other"]

_SPACES = later(r"\s+")
_GREETING = later(
    r"^(?:(?:hi|hello|hey|hiya|howdy|good (?:morning|afternoon|evening)|dear (?:team|all|sir|madam)|greetings)"
    r"(?: there| all| team| everyone)?(?:[,.!:;\s-]+|$))+",
)
_POLITE = later(
    r"(?:[,.!?;\s-]+(?:please|pls|thanks|thank you|many thanks|thx|cheers|ta)(?: (?:a lot|so much|in advance))?)+$"
)
_ASKING = later(r"^(?:please|quick question|just wondering|um+|uh+|er+|so|ok|okay)[,:;.!\s-]+")
_ZH_GREETING = later(r"^(?:(?:你好|您好|哈喽|嗨|请问一下|请问|麻烦问一下|想问一下)[，,。！!：:\s]*)+")
_ZH_POLITE = later(r"[，,。！!？?\s]*(?:谢谢(?:你|您|啦|了)?|多谢|感谢|麻烦了)[。！!\s]*$")
_END = "?!.,;:…？！。，；：~ \t"
_LITERAL = later(r"[`\"“”{}<>=\\|]|\n\s*\n|https?://|\w\(\w*\)")
_HAN = later(r"[一-鿿]")
_LETTER = later(r"[^\W\d_]")
_COMMON = frozenset({
    "a", "an", "the", "is", "are", "was", "do", "does", "did", "can", "could", "will", "would", "should", "may",
    "have", "has", "how", "what", "when", "where", "which", "who", "why", "i", "you", "my", "your", "we", "our",
    "it", "to", "of", "in", "on", "for", "with", "from", "at", "by", "and", "or", "not", "no", "if", "there", "be",
    "get", "any", "need", "me", "this", "that", "as", "about"
})  # fmt: skip


def normal(text: str) -> str:
    """The normal form of a question; '' never, unless `text` is blank."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
    if _LITERAL.search(plain):
        return plain.strip()
    low = _SPACES.sub(" ", plain.casefold()).strip()
    bare = _ZH_POLITE.sub("", _ZH_GREETING.sub("", low))
    bare = _ASKING.sub("", _GREETING.sub("", bare))
    bare = _POLITE.sub("", bare.rstrip(_END)).rstrip(_END).strip()
    return bare or low


def language(text: str) -> Language:
    """English or Chinese if it clearly is; anything else, and anything mixed, is 'other'."""
    letters = len(_LETTER.findall(text))
    if not letters:
        return "other"
    han = len(_HAN.findall(text))
    if han:
        return "zh" if han >= 3 and han * 4 >= letters else "other"
    ascii_letters = sum(c.isascii() and c.isalpha() for c in text)
    if ascii_letters < 0.97 * letters:
        return "other"
    words = re.findall(r"[a-z']+", text.lower())
    return "en" if any(word in _COMMON for word in words) or len(words) <= 3 else "other"
