"""Two readings compared: a row of numbers that a calibrated model turns into P(same answer), and the hard vetoes.

Vectors of whole sentences see the topic and miss the point: "safe" and "unsafe" stand closer than two rewordings. So
every content word of one text is aligned with the nearest of the other (same lemma, shared synset, derived word, small
word vector), and what is left over on either side is weighed: a word replaced by its opposite, by a sibling, or by
nothing says more than the cosine. Source: alignment of words for similarity, Sultan et al. 2014; soft cosine,
Sidorov et al. 2014; the failure classes are those recorded for published caches.
"""

from __future__ import annotations

import math
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from edgewise.cache.semantic.alignment import CLOSE, Aligned, align, likeness, misspelt
from edgewise.cache.semantic.hanzi import is_chinese, opposed_chinese
from edgewise.cache.semantic.places import order, particles, reversed_roles
from edgewise.cache.semantic.reading import Reading
from edgewise.cache.semantic.words import English, english

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

NAMES = (
    "cos",
    "cos_high",
    "cover_min",
    "cover_max",
    "hard_min",
    "hard_max",
    "left_min",
    "left_max",
    "replaced",
    "near",
    "sibling",
    "opposite",
    "class_swap",
    "class_extra",
    "number_swap",
    "number_extra",
    "negation",
    "negation_close",
    "denial",
    "denial_close",
    "poles",
    "party_extra",
    "party_swap",
    "answer_clash",
    "answer_extra",
    "answer_same",
    "answer_kind",
    "opener",
    "roles",
    "name_swap",
    "name_extra",
    "code",
    "particle",
    "order",
    "frame",
    "frame_left",
    "trigrams",
    "length",
    "short",
    "equal",
    "repeat",
    "clean",
    "clean_cos",
    "beyond_words",
    "beyond_frame",
    "beyond_letters",
)


def compare(a: Reading, b: Reading, cos: float) -> dict[str, float]:
    """The features of a pair by name, and two that only vetoes read (`added`, `unknown`); symmetric in `a` and `b`.

    cos  cosine of the two sentence vectors, in [-1, 1]
    """
    lexicon = english()
    there = align(a, b, lexicon)
    back = align(b, a, lexicon)
    left_a, left_b = _left(there), _left(back)
    frame = SequenceMatcher(None, a.words, b.words, autojunk=False).ratio()
    soft, hard = sorted((_share(there), _share(back))), sorted((_hard(there), _hard(back)))
    heavy = sorted((left_a, left_b))
    replaced, near, sibling = _replaced(there, back, lexicon)
    clash = bool(a.answers) and bool(b.answers) and not a.answers & b.answers
    one_sided = bool(a.answers) != bool(b.answers)
    opposite = float(opposed_chinese(a, b) if is_chinese(a.text) else opposed(a, b, lexicon))
    swap, extra = _classes(a, b)
    number_swap, number_extra = _numbers(a.numbers, b.numbers)
    name_swap, name_extra = _sets(
        frozenset(n for n in a.names if n not in b.text.lower() and n.replace(".", "") not in b.squeezed),
        frozenset(n for n in b.names if n not in a.text.lower() and n.replace(".", "") not in a.squeezed),
    )
    code_swap, code_extra = _sets(
        frozenset(code for code in a.codes if not (code.isalpha() and code in b.text.lower())),
        frozenset(code for code in b.codes if not (code.isalpha() and code in a.text.lower())),
    )
    negation = float(a.negations % 2 != b.negations % 2)
    dice = 2 * len(a.pieces & b.pieces) / max(1, len(a.pieces) + len(b.pieces))
    words_a, words_b = max(1, len(a.words)), max(1, len(b.words))
    denial = float(a.denials % 2 != b.denials % 2)
    poles = float(_poles(a, b))
    party_swap, party_extra = _sets(a.parties, b.parties)
    conflict = max(
        opposite,
        swap,
        number_swap,
        number_extra,
        name_swap,
        code_swap,
        code_extra,
        poles,
        party_swap,
        party_extra,
        float(clash),
        negation,
        denial,
    )
    repeat = float(_repeat(a.bare, b.bare, lexicon) or (bool(a.typed) and _repeat(a.typed, b.typed, lexicon)))
    return {
        "added": _added(there, back) * (HALF if is_chinese(a.text) else 1),
        "unknown": float(max(_unknown(there, lexicon), _unknown(back, lexicon))),
        "denial": denial,
        "denial_close": denial * (1 - heavy[1]),
        "poles": poles,
        "party_extra": party_extra,
        "party_swap": party_swap,
        "repeat": repeat,
        "clean": 1 - conflict,
        "clean_cos": (1 - conflict) * max(0.0, cos - 0.5) * 2,
        "cos": cos,
        "beyond_words": cos - soft[0],
        "beyond_frame": cos - frame,
        "beyond_letters": cos - dice,
        "cos_high": max(0.0, cos - 0.75) * 4,
        "cover_min": soft[0],
        "cover_max": soft[1],
        "hard_min": hard[0],
        "hard_max": hard[1],
        "left_min": heavy[0],
        "left_max": heavy[1],
        "replaced": replaced,
        "near": near,
        "sibling": sibling,
        "opposite": opposite,
        "class_swap": swap,
        "class_extra": extra,
        "number_swap": number_swap,
        "number_extra": number_extra,
        "negation": negation,
        "negation_close": negation * (1 - heavy[1]),
        "answer_clash": float(clash),
        "answer_extra": float(one_sided),
        "answer_kind": float(one_sided and (a if not a.answers else b).opener in ("yes-no", "how")),
        "answer_same": float(bool(a.answers & b.answers)),
        "opener": float(a.opener == b.opener),
        "roles": float(reversed_roles(a, b)),
        "name_swap": name_swap,
        "name_extra": name_extra,
        "code": max(code_swap, code_extra),
        "particle": float(particles(a, b)),
        "order": order(a, b),
        "frame": frame,
        "frame_left": frame * heavy[1],
        "trigrams": dice,
        "length": abs(math.log(words_a / words_b)),
        "short": 1 / min(words_a, words_b),
        "equal": float(not heavy[1] and hard[0] > 0.999),
    }


def _poles(a: Reading, b: Reading) -> bool:
    """An axis whose one end only one text names, and whose other end only the other text names."""
    for axis, end in a.poles:
        if (axis, -end) in b.poles and (axis, -end) not in a.poles and (axis, end) not in b.poles:
            return True
    return False


def _repeat(a: tuple[str, ...], b: tuple[str, ...], lexicon: English) -> bool:
    """The same words in the same order but for slips of the pen and where words are cut."""
    i = j = 0
    while i < len(a) and j < len(b):
        if _same_word(a[i], b[j], lexicon):
            i, j = i + 1, j + 1
        elif _same_word("".join(a[i : i + 2]), b[j], lexicon):
            i, j = i + 2, j + 1
        elif _same_word(a[i], "".join(b[j : j + 2]), lexicon):
            i, j = i + 1, j + 2
        else:
            return False
    return i == len(a) and j == len(b)


def _same_word(a: str, b: str, lexicon: English) -> bool:
    return a == b or lexicon.lemma(a) == lexicon.lemma(b) or misspelt(a, b, lexicon)


def _share(aligned: Aligned) -> float:
    total = sum(unit.weight for unit, _, _ in aligned)
    return sum(unit.weight * score for unit, score, _ in aligned) / total if total else 1.0


def _hard(aligned: Aligned) -> float:
    total = sum(unit.weight for unit, _, _ in aligned)
    return sum(unit.weight for unit, score, _ in aligned if score >= CLOSE) / total if total else 1.0


def _left(aligned: Aligned) -> float:
    """The weight of what finds no counterpart."""
    return max((unit.weight * (1 - score) for unit, score, _ in aligned if score < CLOSE), default=0.0)


def _added(there: Aligned, back: Aligned) -> float:
    """How much one text says beyond the other, when it holds all of the other; 0 when it does not."""
    less, more = sorted(sum(unit.weight * (1 - score) for unit, score, _ in each) for each in (there, back))
    return more if less < 0.2 else 0.0


def _unknown(aligned: Aligned, lexicon: English) -> int:
    """Words without counterpart that are no words: what a crafted collision is made of."""
    return sum(score < CLOSE and unit.lemma.isascii() and not lexicon.known(unit.lemma) for unit, score, _ in aligned)


def _replaced(there: Aligned, back: Aligned, lexicon: English) -> tuple[float, float, float]:
    """(weight of the heaviest word replaced by another, likeness of the two, whether they are siblings)."""
    mine = [(u, s) for u, s, _ in there if s < CLOSE]
    other = [(u, s) for u, s, _ in back if s < CLOSE]
    if not mine or not other:
        return 0.0, 0.0, 0.0
    first = max(mine, key=lambda pair: pair[0].weight * (1 - pair[1]))[0]
    second = max(other, key=lambda pair: pair[0].weight * (1 - pair[1]))[0]
    near = likeness(first.lemma, second.lemma, lexicon)
    sibling = bool(lexicon.meaning(first.lemma).above & lexicon.meaning(second.lemma).above)
    return min(first.weight, second.weight), near, float(sibling)


def opposed(a: Reading, b: Reading, lexicon: English) -> bool:
    """A word of one is replaced by its opposite in the other (and neither text has both)."""
    only_a, only_b = a.lemmas - b.lemmas, b.lemmas - a.lemmas
    words_a, words_b = set(a.words), set(b.words)
    for word in only_a:
        against = lexicon.opposites.get(word, frozenset()) | lexicon.meaning(word).against
        hit = against & only_b
        if hit and not (against & words_a) and not any(word in words_b for word in (word,)):
            return True
    for word in only_a | only_b:
        for prefix in ("un", "non", "in", "im", "ir", "il", "dis", "mis", "non-", "de"):
            if word.startswith(prefix) and word[len(prefix) :] in (only_b if word in only_a else only_a):
                return True
    return False


def _classes(a: Reading, b: Reading) -> tuple[float, float]:
    swap = extra = 0.0
    for kind in a.classes.keys() | b.classes.keys():
        mine, other = a.classes.get(kind, frozenset()), b.classes.get(kind, frozenset())
        only_a, only_b = mine - other, other - mine
        if only_a and only_b:
            swap = 1.0
        elif only_a or only_b:
            extra += 1.0
    return swap, min(extra, 3.0) / 3


def _sets(a: frozenset[Any], b: frozenset[Any]) -> tuple[float, float]:
    """(each has what the other lacks, one has what the other lacks)."""
    only_a, only_b = a - b, b - a
    return float(bool(only_a) and bool(only_b)), float(bool(only_a) != bool(only_b))


HALF = 0.5
"""A character says half of what a word does."""
Numbers = frozenset[tuple[str, str]]


def _numbers(a: Numbers, b: Numbers) -> tuple[float, float]:
    """As `_sets`; a number without a unit stands for the same number with any."""
    bare_a, bare_b = {value for value, unit in a if not unit}, {value for value, unit in b if not unit}
    values_a, values_b = {value for value, _ in a}, {value for value, _ in b}
    only_a = [n for n in a - b if not (n[0] in bare_b or (not n[1] and n[0] in values_b))]
    only_b = [n for n in b - a if not (n[0] in bare_a or (not n[1] and n[0] in values_a))]
    return float(bool(only_a) and bool(only_b)), float(bool(only_a) != bool(only_b))
