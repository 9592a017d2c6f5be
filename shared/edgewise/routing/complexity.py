"""How hard a question looks, from counts that take well under a millisecond.

Text is first stripped of what doesn't change the question: case, spacing, and polite wrappers ("Please answer the
following question: …, thank you!"), so that the same question gets the same route however it is dressed. Then come
counts: length, clauses that condition or restrict, steps, numbers and fractions, code, maths, Chinese. Their weights
are in `complexity.json`, fitted to recorded outcomes (gain = strong model right less weak model right), with their
provenance. A keyword list written by hand calls nine of ten exam questions simple; these weights don't know keywords,
only counts, and that is also their limit: they recognise no subject. `learn.py` does, from own traffic.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgewise.chat import ChatRequest, text_of
from edgewise.patterns import later
from edgewise.routing.tokens import estimate

MOST_CHARS = 2400
"""Of a longer text the head and the tail are read: questions stand at the ends."""

WORD = later(r"[^\W\d_]+(?:'[a-z]+)?")
CJK = later(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
NUMBER = later(r"\d[\d,]*\.?\d*")
SENTENCE = later(r"[.!?](?:\s|$)|[。！？；]")
CONDITION = later(
    r"\b(?:if|then|each|every|per|after|before|than|more|less|when|while|but|except|only|must|not|si|cada|wenn|aber"
    r"|nicht|nur|muss)\b|如果|假如|若|每|之前|之后|以后|但|除了|只|必须|不|当"
)
FRACTION = later(
    r"\d/\d|\b(?:half|third|quarter|twice|times|percent|fraction|ratio|average)\b|%|一半|分之|倍|百分|平均|比例"
)
STEP = later(
    r"\b(?:step by step|first|second|finally|then|prove|derive|explain why|compare|design|plan|analy[sz]e)\b"
    r"|首先|然后|最后|步骤|证明|推导|分析|比较|设计"
)
CODE = later(r"```|\b(?:def|class|function|import|return|assert|select|const|public|void|lambda)\b|[{};]\s*$|=>|==")
MATHS = later(
    r"\\(?:frac|sum|int|sqrt|le|ge|cdot|begin|text)|\$[^$]+\$|[=<>^]\s*-?\d|\b(?:integral|theorem|polynomial"
    r"|equation|probability|matrix|derivative)\b|方程|积分|概率|定理|矩阵"
)

WRAPPER_WORDS = frozenset(
    re.findall(
        r"\S+",
        "a an and answer answers appreciate appreciated assist assistant are as ask asking at be below best can"
        " carefully could dear do following for give given good have hello help here hey hi i i'd i'll i'm in is just"
        " kind kindly know let like look lot me morning much my need now of on one please problem prompt query question"
        " questions quick quickly reply request respond response so some solve thank thanks that the there this to try"
        " understand very want well what will with would you you're your"
        " 问题 请 谢谢 回答 你好 以下 帮 我 请回答以下问题 请回答下面的问题 请问 帮我",
    )
)
SEGMENT = later(r"[^.!?:\n。！？：]*[.!?:\n。！？：]*\s*")
LONGEST_WRAPPER_WORDS = 16

DENSE = (
    "words", "uniq", "conditions", "sentences", "tokens", "numbers", "word_length",
    "questions", "symbols", "digits", "fractions", "largest", "variety",
)  # fmt: skip
"""The counts that carry weights, in the order of `complexity.json`."""


def normalised(text: str) -> str:
    """The question itself: lower case, single spaces, without wrapping sentences at either end."""
    if len(text) > MOST_CHARS:
        text = text[: MOST_CHARS * 3 // 4] + "\n" + text[-MOST_CHARS // 4 :]
    plain = " ".join(_unwrapped(text.lower()).split())
    return plain or " ".join(text.lower().split())


def _unwrapped(text: str) -> str:
    """Drop leading and trailing segments that are made of wrapper words alone."""
    segments = [found for found in SEGMENT.findall(text.strip()) if found]
    first, last = 0, len(segments)
    while first < last - 1 and _wraps(segments[first]):
        first += 1
    while last - 1 > first and _wraps(segments[last - 1]):
        last -= 1
    return "".join(segments[first:last]).strip()


def _wraps(segment: str) -> bool:
    words = WORD.findall(segment)
    if NUMBER.search(segment) or len(words) > LONGEST_WRAPPER_WORDS:
        return False
    return all(word in WRAPPER_WORDS for word in words)


def features(text: str) -> dict[str, float]:
    """Counts of one question, logarithms where a count has a long tail. `text` as `normalised` returns it."""
    words = WORD.findall(text)
    wide = len(CJK.findall(text))
    # A Chinese word is about 1.7 characters, and a run without spaces would count as one word.
    count = len(words) + wide / 1.7
    numbers = NUMBER.findall(text)
    size = max(1, len(text))
    distinct = len(set(words)) + len(set(text)) * (wide > 0)
    largest = max((float(n.replace(",", "").rstrip(".") or 0) for n in numbers if len(n) < 300), default=0.0)
    log = math.log1p
    return {
        "words": log(count),
        "uniq": log(distinct),
        "conditions": log(len(CONDITION.findall(text))),
        "sentences": log(len(SENTENCE.findall(text)) + 1),
        "tokens": log(estimate(text)),
        "numbers": log(len(numbers)),
        "word_length": sum(map(len, words)) / len(words) if words and not wide else 4.5,
        "questions": log(text.count("?") + text.count("？")),
        "symbols": (len(text) - sum(map(str.isalnum, text)) - text.count(" ")) / size,
        "digits": sum(map(str.isdigit, text)) / size,
        "fractions": log(len(FRACTION.findall(text))),
        "largest": log(min(largest, 1e12)),
        "variety": distinct / max(1.0, count),
        "steps": log(len(STEP.findall(text))),
        "code": float(bool(CODE.search(text))),
        "maths": float(bool(MATHS.search(text))),
        "chinese": wide / size,
    }


@dataclass(frozen=True, slots=True)
class Weights:
    """Linear weights over standardised counts, and a logistic curve from score to difficulty."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    weight: tuple[float, ...]
    slope: float
    offset: float

    def standardised(self, counts: Mapping[str, float]) -> list[float]:
        """The `DENSE` counts in standard deviations, clipped to ±3."""
        return [
            min(3.0, max(-3.0, (counts[name] - mean) / deviation))
            for name, mean, deviation in zip(DENSE, self.mean, self.deviation, strict=True)
        ]

    def score(self, counts: Mapping[str, float]) -> float:
        """How much a strong model is expected to gain, in standard deviations over recorded questions."""
        return dot(self.weight, self.standardised(counts))

    def difficulty(self, counts: Mapping[str, float]) -> float:
        """Probability, 0 to 1, that a small model's answer is wrong."""
        return 1.0 / (1.0 + math.exp(-(self.slope * self.score(counts) + self.offset)))


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


@cache
def weights(without: str = "") -> Weights:
    """The fitted weights. `without` names a recorded source that had no part in the fit: for benchmarks on it."""
    rows = json.loads((Path(__file__).parent / "complexity.json").read_text())["fits"]
    row = rows[f"without {without}" if without else "all"]
    return Weights(
        mean=tuple(row["mean"]),
        deviation=tuple(row["deviation"]),
        weight=tuple(row["weight"]),
        slope=row["slope"],
        offset=row["offset"],
    )


def question_of(request: ChatRequest) -> str:
    """The text whose difficulty counts: the last user turn, normalised."""
    for message in reversed(request.messages):
        if message.get("role") == "user":
            return normalised(text_of(message.get("content")))
    return normalised(text_of(request.messages[-1].get("content"))) if request.messages else ""
