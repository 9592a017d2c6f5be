"""Which word of one question stands for which word of the other, and how well.

The same lemma, then a shared synset or a derived word, then the likeness of two small word vectors; an opposite and
another member of a closed class stand for nothing. A misspelling stands for the word, an acronym for its words.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgewise.cache.semantic.reading import Reading, Unit
from edgewise.cache.semantic.words import English

SAME, CLOSE = 1.0, 0.95
Aligned = list[tuple[Unit, float, Unit | None]]


def align(a: Reading, b: Reading, lexicon: English) -> Aligned:
    """Each unit of `a` with how well the best unit of `b` stands for it, in [0, 1]."""
    # Texts repeat themselves, Chinese ones in every character: what is known of a lemma holds wherever it stands.
    others: dict[str, Unit] = {}
    for unit in b.units:
        others.setdefault(unit.lemma, unit)
    known: dict[str, tuple[float, Unit | None]] = {unit.lemma: (SAME, unit) for unit in b.units}
    for unit in a.units:
        if unit.lemma not in known:
            known[unit.lemma] = _best(unit, a, b, others.values(), lexicon)
    return [(unit, *known[unit.lemma]) for unit in a.units]


def _best(unit: Unit, a: Reading, b: Reading, others: Iterable[Unit], lexicon: English) -> tuple[float, Unit | None]:
    """How well the best of `others`, which are b's, stands for a's unit, and which that is."""
    best, chosen = 0.0, None
    for other in others:
        score = likeness(unit.lemma, other.lemma, lexicon)
        if other.lemma in a.lemmas:
            score *= 0.8
        if score > best:
            best, chosen = score, other
    return (CLOSE if best < CLOSE and _spelt_out(unit, a, b) else best), chosen


def _spelt_out(unit: Unit, a: Reading, b: Reading) -> bool:
    """The word is an acronym of `a` whose letters begin words of `b` in a row, or the other way round."""
    if unit.lemma.upper() in a.text and 2 < len(unit.lemma) <= 5 and unit.lemma in b.initials:
        return True
    return any(
        2 < len(other.lemma) <= 5
        and other.lemma.upper() in b.text
        and unit.lemma[0] in other.lemma
        and (at := a.initials.find(other.lemma)) >= 0
        and any(word.startswith(unit.lemma[:4]) for word in a.words[max(0, at - 2) : at + len(other.lemma) + 2])
        for other in b.units
    )


def likeness(a: str, b: str, lexicon: English) -> float:
    """How well one word stands for another: 1 the same, 0.95 the same to a dictionary, else from their vectors."""
    if a == b:
        return SAME
    key = (a, b) if a < b else (b, a)
    known = _LIKENESS.get(key)
    if known is None:
        if len(_LIKENESS) > 50_000:
            _LIKENESS.clear()
        known = _LIKENESS[key] = _likeness(*key, lexicon)
    return known


_LIKENESS: dict[tuple[str, str], float] = {}


def _likeness(a: str, b: str, lexicon: English) -> float:
    if b in lexicon.opposites.get(a, ()):
        return 0.0
    mine, other = lexicon.meaning(a), lexicon.meaning(b)
    if b in mine.against or a in other.against:
        return 0.0
    pairs_a, pairs_b = lexicon.members.get(a, ()), lexicon.members.get(b, ())
    if pairs_a and pairs_b:
        if set(pairs_a) & set(pairs_b):
            return CLOSE
        if {kind for kind, _ in pairs_a} & {kind for kind, _ in pairs_b}:
            return 0.0
    if (
        mine.synsets & other.synsets
        or b in lexicon.alike.get(a, ())
        or b in mine.derived
        or a in other.derived
        or misspelt(a, b, lexicon)
    ):
        return CLOSE
    one, two = lexicon.vector(a), lexicon.vector(b)
    if one is None or two is None:
        return 0.0
    return max(0.0, min(0.9, (float(one @ two) - 0.2) / 0.6))


def misspelt(a: str, b: str, lexicon: English) -> bool:
    """One of the two is no known word and one slip of the pen away from the other, or two if it is long."""
    if min(len(a), len(b)) < 4 or abs(len(a) - len(b)) > 2:
        return False
    if (lexicon.known(a) or lexicon.known(lexicon.lemma(a))) == (lexicon.known(b) or lexicon.known(lexicon.lemma(b))):
        return False
    if not (a.isalpha() and b.isalpha()):
        return False
    return slips(a, b) <= (1 if min(len(a), len(b)) < 7 else 2)


def slips(a: str, b: str) -> int:
    """Letters left out, put in, replaced or changed about with the next: the fewest that make one word the other.

    Source: Damerau 1964; the restricted distance, by rows.
    """
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, other in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (one != other))
            if i > 1 and j > 1 and one == b[j - 2] and a[i - 2] == other:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
