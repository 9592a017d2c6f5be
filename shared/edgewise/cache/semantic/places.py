"""Who stands where: two texts of the same words that say the reverse.

What one does to the other, where from and where to, before and behind: vectors of sentences are nearly blind to it, and
so is every count of shared words. Pure comparison of two readings; what the words mean is not known here.
"""

from __future__ import annotations

from itertools import pairwise

from edgewise.cache.semantic.reading import AGAINST, Reading


def reversed_roles(a: Reading, b: Reading) -> bool:
    """The same word is where from in one and where to in the other, or stands on the other side of 'than', or two
    have changed places around a word that says what one does to the other."""
    turned = {("from", "to"), ("to", "from"), ("before-than", "after-than"), ("after-than", "before-than")}
    if any((role, b.roles.get(word)) in turned for word, role in a.roles.items()):
        return True
    if exchanged(a.bare, b.bare):
        return True
    # In the passive who does it stands last.
    return ("by" in a.words) == ("by" in b.words) and bool(_around(a) & {(y, via, x) for x, via, y in _around(b)})


_EVEN = frozenset(("and", "or", "vs", "versus", "with", "plus", "between", *"和与跟或还是同及"))


def exchanged(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Two parts have changed places around something that stayed, and that does not treat them alike as "and" does."""
    if len(a) != len(b) or a == b or sorted(a) != sorted(b):
        return False
    start = next(i for i, (one, other) in enumerate(zip(a, b, strict=True)) if one != other)
    end = next(i for i in range(1, len(a) + 1) if a[-i] != b[-i]) - 1
    one, other = a[start : len(a) - end], b[start : len(b) - end]
    for i in range(1, len(one) - 1):
        if one[:i] != other[-i:]:
            continue
        for j in range(1, len(one) - i):
            between = one[i : len(one) - j]
            if one[-j:] == other[:j] and between == other[j : len(one) - i] and not set(between) <= _EVEN:
                return True
    return False


def _around(text: Reading) -> set[tuple[str, str, str]]:
    """(name or number, what stands between, name or number), for every two of the text's in their order."""
    found = set()
    members = frozenset().union(*text.classes.values()) if text.classes else frozenset()
    at = [i for i, word in enumerate(text.row) if word in text.names or word[0].isdigit() or word in members]
    for left, right in pairwise(at):
        if text.row[left] != text.row[right]:
            found |= {(text.row[left], via, text.row[right]) for via in text.row[left + 1 : right]}
    return found


def particles(a: Reading, b: Reading) -> bool:
    for one, other in AGAINST:
        more = a.particles.count(one) - b.particles.count(one)
        less = a.particles.count(other) - b.particles.count(other)
        if more * less < 0:
            return True
    return False


def order(a: Reading, b: Reading) -> float:
    """How far the shared words stand in another order: 0 the same order, 1 the reverse."""
    places_b = {unit.lemma: unit.at for unit in b.units}
    row = [places_b[unit.lemma] for unit in a.units if unit.lemma in places_b]
    pairs = len(row) * (len(row) - 1) / 2
    if not pairs:
        return 0.0
    return sum(row[i] > row[j] for i in range(len(row)) for j in range(i + 1, len(row))) / pairs
