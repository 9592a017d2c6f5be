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
_NOTED = later(
    r"^(?:(?:ok(?:ay)?|k|great|good|nice|cool|perfect|lovely|brilliant|awesome|amazing|excellent|fantastic|wonderful"
    r"|super|sweet|wow|haha+|lol|hehe|oh|ah|aha|hm+|phew|yay|ooh|right|interesting|noted|understood|sorted|i see"
    r"|got (?:it|that)|(?:(?:that|it) )?makes sense|that helps|will do|love (?:it|that)|no (?:worries|problem)"
    r"|fair enough|all clear"
    r"|(?:(?:ok|many|great|perfect|lovely) )?(?:thanks|thank you|thx|ty|ta|cheers)"
    r"(?: (?:a lot|a million|so much|very much|for (?:that|the help|explaining|your help)))?"
    r"|(?:that's|that is|that was|very|really) (?:great|good|helpful|useful|clear|perfect|interesting|brilliant)"
    r"|(?:good|great|nice) (?:tip|idea|point|one|to know|stuff|thinking|plan|advice)"
    r"|(?:ok|oh) (?:great|cool|good|thanks|nice|perfect|wow|ok|i see))(?:[.!;:…]+|\s*[,-])\s*)+",
    re.IGNORECASE,
)
_ZH_NOTED = later(
    r"^(?:(?:好的?|好嘞|好吧|嗯+|哦+|噢|哇|哈+|行|收到|明白了?|懂了|知道了|了解了?|原来如此|原来是这样|太好了|太棒了|真棒|厉害|不错|没问题"
    r"|谢谢(?:你|您|啦|了)?|多谢|感谢|辛苦了|好主意|好建议|有道理|记下了|学到了)[呀啊哈呢啦吧]?[，,。.！!~～、\s]+)+"
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

_FOREIGN = frozenset({
    "der", "das", "und", "ist", "ein", "eine", "nicht", "mit", "auf", "wie", "wo", "warum", "ich", "dem", "von",
    "le", "les", "une", "du", "et", "est", "pas", "que", "qui", "dans", "avec", "comment", "pourquoi", "el", "los",
    "las", "es", "por", "para", "con", "como", "donde", "del", "una", "cuando", "de", "en", "mi", "tu", "il", "gli",
    "di", "che", "sono", "dove", "della", "nel", "um", "uma", "da", "een", "het", "niet", "met", "voor", "hoe",
    "waar", "dan", "yang", "untuk", "dari", "apa", "bagaimana", "ini", "ve", "bir", "nasil", "och", "att", "det",
    "som", "hur", "jak", "je", "na", "jest", "czy"
})  # fmt: skip
"""Small words of languages written in the same letters; none is one in English."""


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


def less_thanks(text: str) -> str:
    """`text` without the acknowledgement that it begins with ("Makes sense. ", "好的，谢谢。"); all of it when there is
    nothing else in it. "Yes" and "no" are answers and stay."""
    plain = text.replace("\u2019", "'").lstrip()
    rest = (_ZH_NOTED if _HAN.search(text) else _NOTED).sub("", plain)
    return rest if rest and rest != plain else text


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
    if any(word in _COMMON for word in words):
        return "en"
    return "other" if any(word in _FOREIGN for word in words) else "en"
