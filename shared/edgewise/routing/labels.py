"""What is kept of a question to learn from it: hashed pieces and counts, and what came of it. Never its text.

`Label` how much better a strong model was than a weak one · `Panel` one question put to several models · `Asked` what
a later opinion (`/v1/feedback`) needs to become a label. A question packs into about a kilobyte; words are 13 bits of
a hash that thousands of words share, so nothing can be read back.

Labels drawn at random (shadow calls) and labels that somebody chose to give (feedback) both teach; only the former
prove anything, because people speak up when they are displeased.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgewise.chat import Answer
from edgewise.routing.evidence import Kind, conclusion
from edgewise.routing.learn import Seen

HEAD = struct.Struct("<fHH")
BAD_WEAK = 0.6
"""What a strong model gains where the weak one's answer was bad: its share of right ones where two cheap models
disagree (.598 on ZeroEval)."""


@dataclass(frozen=True, slots=True)
class Label:
    """One labelled question of a pair of models. `gain` is strong less weak, from -1 to 1."""

    question: Seen
    gain: float
    tenant: str = ""
    drawn: bool = True
    """Drawn at random; False: somebody chose to tell."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One question that several models answered. `said` is model to (group, US dollars): answers of one group say the
    same, and a group below 0 is an answer without a conclusion."""

    question: Seen
    said: Mapping[str, tuple[int, float]]
    served: str = ""
    source: str = ""
    """What the served answer's confidence rested on."""

    def truth(self) -> int:
        """The group that most models are in; of equals, the one of the dearest model."""
        groups = [group for group, _ in self.said.values() if group >= 0]
        most = max((groups.count(group) for group in groups), default=0)
        dearest = sorted(self.said.values(), key=lambda pair: -pair[1])
        return next((group for group, _ in dearest if group >= 0 and groups.count(group) == most), -1)

    def right(self) -> dict[str, bool]:
        """Which models are in the group that is held for true."""
        truth = self.truth()
        return {name: truth >= 0 and group == truth for name, (group, _) in self.said.items()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was answered by `served`, between a pair of models (weak, strong)."""

    question: Seen
    served: str
    pair: tuple[str, str]
    tenant: str = ""

    def label(self, score: float) -> Label | None:
        """What an opinion from -1 to 1 on the answer says of the pair; None when it says nothing.

        A good answer of the weak one leaves nothing to gain, nor does a bad one of the strong one; a bad answer of
        the weak one is a gain where the strong one does better. A good answer of the strong one tells nothing of what
        the weak one would have said.
        """
        weak, strong = self.pair
        if score == 0 or (self.served == strong and score > 0) or self.served not in self.pair:
            return None
        gain = BAD_WEAK * -score if self.served == weak and score < 0 else 0.0
        return Label(self.question, gain, self.tenant, drawn=False)


def grouped(answers: Mapping[str, Answer], kind: Kind) -> dict[str, int]:
    """Models by what they concluded: equal numbers say the same; -1 is no conclusion at all."""
    groups: dict[str, int] = {}
    found = {}
    for name, answer in answers.items():
        said = conclusion(answer, kind)
        found[name] = -1 if said is None else groups.setdefault(said, len(groups))
    return found


def packed(question: Seen) -> bytes:
    """A question in about a kilobyte."""
    counts, places = question.counts, question.places
    head = HEAD.pack(question.score, len(counts), len(places))
    return head + struct.pack(f"<{len(counts)}f{len(places)}H", *counts, *places)


def unpacked(state: bytes) -> Seen:
    """What `packed` wrote. Raises struct.error for anything else."""
    score, counts, places = HEAD.unpack_from(state)
    dense = struct.unpack_from(f"<{counts}f", state, HEAD.size)
    return Seen(struct.unpack_from(f"<{places}H", state, HEAD.size + 4 * counts), dense, score)


def packed_pairs(pairs: Sequence[tuple[float, float]]) -> bytes:
    """(score, gain) pairs, eight bytes each."""
    return struct.pack(f"<{2 * len(pairs)}f", *(value for pair in pairs for value in pair))


def unpacked_pairs(state: bytes) -> list[tuple[float, float]]:
    values = struct.unpack(f"<{len(state) // 4}f", state)
    return list(zip(values[::2], values[1::2], strict=True))
