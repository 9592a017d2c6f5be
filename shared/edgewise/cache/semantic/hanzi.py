"""A Chinese text taken apart into the same `Reading` as an English one.

Chinese writes no spaces, and a dictionary for cutting it would weigh more than the rest of the lexicon; so expressions
that mean the same are brought to one spelling, closed words are taken out, and what is left counts character by
character. The features then see the same things: what is replaced, added, denied, reversed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from edgewise.cache.semantic.reading import Reading, Unit
from edgewise.cache.semantic.words import lines, members_of, stars

_HAN = re.compile(r"[\u4e00-\u9fff]")
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
_ALIKE = {
    "钟头": ("分钟", 60),
    "小时": ("分钟", 60),
    "秒钟": ("秒", 1),
    "礼拜": ("周", 1),
    "星期": ("周", 1),
    "千米": ("公里", 1),
    "千克": ("公斤", 1),
    "公分": ("厘米", 1),
    "米": ("厘米", 100),
    "块": ("元", 1),
    "日": ("号", 1),
}
"""Unit to (the one it is told in, how many of those)."""
_LATIN = re.compile(r"[a-z][a-z0-9+#.\-]*")
_FROM = re.compile(r"从(.{1,6}?)(?:坐|乘|打|开|到|去|往|飞|怎么|的)")
_TO = re.compile(r"(?:到|去|往)(.{1,6}?)(?:怎么|要|的|多|坐|走|价|几|$)")
_PERSON = re.compile(
    r"[小老阿][张王李刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶余潘杜戴夏钟汪田任姜范方石姚]"
)
_IN_ROW = re.compile(_PERSON.pattern + r"|\d+|[a-z]+|[\u4e00-\u9fff]")
_TOO = re.compile(r"太.")
_WEIGHT = 0.6
"""Of a character: two or three of them are a word."""
_LOOSE = re.compile(r"[的了吗呢啊呀吧个些儿]")
_PUNCTUATION = re.compile(
    r"[\s\u3000-\u303f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65,.!?;:'\"()《》“”‘’、。！？；：（）…—-]+"
)


def is_chinese(text: str) -> bool:
    """Three Han characters or more, and at least a quarter of what is written."""
    count = len(_HAN.findall(text))
    return count >= 3 and count * 4 >= len(text.replace(" ", ""))


@dataclass(frozen=True, slots=True)
class _Chinese:
    stop: tuple[str, ...]
    filler: tuple[str, ...]
    negator: frozenset[str]
    implicit: tuple[str, ...]
    phrases: tuple[tuple[str, str], ...]
    opposites: dict[str, frozenset[str]]
    members: dict[str, tuple[tuple[str, str], ...]]
    counters: frozenset[str]
    number: re.Pattern[str]
    answers: tuple[tuple[str, tuple[str, ...]], ...]


@lru_cache(maxsize=1)
def _chinese() -> _Chinese:
    classes = {
        head.strip(): tuple(rest.split()) for head, _, rest in (line.partition(":") for line in lines("words_zh.txt"))
    }
    pairs = [tuple(part.strip() for part in line.split(" = ")) for line in lines("phrases_zh.txt")]

    def longest(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(words), key=len, reverse=True))

    return _Chinese(
        stop=longest(classes["stop"]),
        filler=longest(classes["filler"]),
        negator=frozenset(classes["negator"]),
        implicit=classes["implicit"],
        phrases=tuple(sorted(((a, b) for a, b in pairs), key=lambda pair: -len(pair[0]))),
        opposites=stars("opposites_zh.txt"),
        members=members_of("closed_zh.txt"),
        counters=frozenset(classes["counter"]),
        number=_number(classes["unit"] + classes["counter"]),
        answers=tuple(
            (kind.strip(), tuple(cue.strip() for cue in cues.split(",")))
            for kind, _, cues in (line.partition(":") for line in lines("answers_zh.txt"))
        ),
    )


@lru_cache(maxsize=4096)
def read_chinese(text: str) -> Reading:
    """The reading of a Chinese text."""
    known = _chinese()
    low = _PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", text).lower()).strip()
    for filler in known.filler:
        low = low.replace(filler, "")
    low = low.replace(" ", "")
    for expression, canonical in known.phrases:
        low = low.replace(expression, canonical)
    classes: dict[str, set[str]] = {}
    found_words = [word for word in known.members if word in low]
    for word in found_words:
        if not any(word != other and word in other for other in found_words):
            for kind, member in known.members[word]:
                classes.setdefault(kind, set()).add(member)
    poles = frozenset((word, 1) for word in known.opposites if len(word) > 1 and word in low)
    negations = sum(low.count(c) for c in "不没别勿未") - low.count("不凝") - low.count("不同")
    rest = low
    for word in known.stop:
        rest = rest.replace(word, " " * len(word))
    latin = tuple(Unit(found[0], 1.0, found.start()) for found in _LATIN.finditer(rest))
    units = tuple(Unit(c, _WEIGHT, at) for at, c in enumerate(rest) if _HAN.match(c)) + latin
    answers = frozenset(kind for kind, cues in known.answers if any(cue in low for cue in cues))
    return Reading(
        text=text,
        words=tuple(low),
        units=units,
        lemmas=frozenset(unit.lemma for unit in units),
        numbers=_numbers(low),
        codes=frozenset(),
        names=frozenset(_PERSON.findall(low)),
        classes={kind: frozenset(several) for kind, several in classes.items()},
        negations=negations,
        denials=negations + sum(low.count(word) for word in known.implicit),
        poles=poles,
        parties=frozenset(),
        initials="",
        bare=tuple(_LOOSE.sub("", low)),
        typed=(),
        squeezed=low,
        answers=answers,
        opener=next((w for w in ("怎么", "为什么", "多久", "几点", "谁", "哪", "什么") if w in low), "yes-no"),
        particles=(),
        roles=_roles(low),
        pieces=frozenset(low[i : i + 2] for i in range(len(low) - 1)),
        row=tuple(_IN_ROW.findall(low)),
    )


def _number(units: tuple[str, ...]) -> re.Pattern[str]:
    """Figure, ten thousands, half, unit, and what follows a unit (三点半, 一米五)."""
    return re.compile(
        r"(\d+(?:\.\d+)?|[零一二两三四五六七八九十百千万亿]+|半)([万亿])?(个?半)?个?("
        + "|".join(sorted(units, key=len, reverse=True))
        + r")?(半|(?<=[米块元点])[\d一二三四五六七八九](?![\d个]))?"
    )


def _numbers(low: str) -> frozenset[tuple[str, str]]:
    """(value, unit) of what is counted or measured; 一个半小时 and 90分钟 are the same."""
    known, found = _chinese(), set()
    for figure, large, half, unit, rest in known.number.findall(low):
        counts = unit in known.counters
        vague = not unit or (counts and figure in "一半")
        if vague and not figure[0].isdigit() and (len(figure) == 1 or figure in _TENS):
            continue
        value = _value(figure) * _TENS.get(large, 1) + (0.5 if half else 0)
        if rest and not counts:
            value += 0.5 if rest == "半" else _value(rest) / 10
        kind, times = _ALIKE.get(unit, (unit, 1))
        found.add((f"{value * times:g}", "" if counts else kind))
    return frozenset(found)


def _value(figure: str) -> float:
    if figure[0].isdigit():
        return float(figure)
    if figure == "半":
        return 0.5
    total = part = 0.0
    digit, ones = 0, 1
    for sign in figure:
        tens = _TENS.get(sign)
        if tens is None:
            # 一百二 is 120, 一百零二 is 102.
            digit, ones = _DIGITS[sign], 1 if sign == "零" else ones
        elif tens >= 10_000:
            total += (part + digit or 1) * tens
            part, digit, ones = 0.0, 0, tens // 10
        else:
            part += (digit or 1) * tens
            digit, ones = 0, tens // 10
    return total + part + digit * ones


def _roles(low: str) -> dict[str, str]:
    """Where from and where to: 从 X 到 Y, and of two closed words around 到 or 转 the first and the second."""
    roles: dict[str, str] = {}
    if found := _FROM.search(low):
        roles[found[1]] = "from"
    if found := _TO.search(low):
        roles.setdefault(found[1], "to")
    known = _chinese().members
    for joint in ("到", "去", "转"):
        at = low.find(joint)
        if at <= 0:
            continue
        first = max((w for w in known if w in low[:at]), key=low[:at].rfind, default="")
        second = min((w for w in known if w in low[at:]), key=low[at:].find, default="")
        if first and second and first != second:
            roles.setdefault(first, "from")
            roles.setdefault(second, "to")
    return roles


def opposed_chinese(a: Reading, b: Reading) -> bool:
    """One text has a word whose opposite only the other has."""
    known = _chinese().opposites
    text_a, text_b = "".join(a.words), "".join(b.words)
    if ("太" in text_a) != ("太" in text_b):
        # What is too low is to be raised: a complaint, not the opposite.
        text_a, text_b = (_TOO.sub("", text) for text in (text_a, text_b))
    for word, against in known.items():
        if word in text_a and word not in text_b:
            for other in against:
                if other in text_b and other not in text_a and not (word in other or other in word):
                    return True
    return False
