"""Redaction that can be undone: personal data becomes placeholders before the model sees it.

`[EMAIL_1]` stands for the first e-mail address of the request, and for the same address wherever it comes again.
The numbering depends on the request alone, so two requests that differ only in whose data they carry look the same to
the model and to the cache; each gets its own data back (`edgewise.unmask`). A request that already has text of that
shape gets placeholders with one bracket more, so that nothing is restored that was never hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgewise.patterns import later
from edgewise.policy.guards.pii import Finding, find

_SHAPED = later(r"(?<!\[)(\[+)[A-Z_]+_\d+\]")


@dataclass(slots=True)
class Mask:
    """Placeholders of one request. `taken` is all its text, in which no placeholder may already be."""

    taken: str
    kinds: tuple[str, ...] = ()
    masked: dict[str, str] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)
    _marks: dict[tuple[str, str], str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _depth: int = 0
    """Brackets around a placeholder: one more than around anything of that shape in `taken`."""

    def text(self, text: str) -> str:
        """`text` with its findings replaced."""
        pieces, at = [], 0
        for finding in find(text, self.kinds):
            pieces += [text[at : finding.start], self._mark(finding, text[finding.start : finding.end])]
            at = finding.end
        return text if at == 0 else "".join([*pieces, text[at:]])

    def _mark(self, finding: Finding, original: str) -> str:
        self.found.add(finding.kind)
        mark = self._marks.get((finding.kind, original))
        if mark is None:
            number = self._counts[finding.kind] = self._counts.get(finding.kind, 0) + 1
            if not self._depth:
                self._depth = 1 + max((len(found[1]) for found in _SHAPED.finditer(self.taken)), default=0)
            mark = "[" * self._depth + f"{finding.kind.upper()}_{number}" + "]" * self._depth
            self._marks[finding.kind, original] = mark
            self.masked[mark] = original
        return mark
