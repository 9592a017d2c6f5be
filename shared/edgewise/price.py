"""What tokens cost: by their kind, by the length of the prompt, and by how the provider served the call.

One model has several prices at one provider: sooner (`priority`), later (`flex`), in a `batch`. Which of them counts is
what the provider says after the call, not what was asked: it serves a wish for priority as usual when it is overrun,
and a project may be set to a tier that no request names. Of a tier whose rates nobody knows the dearest known rates
count. A prompt that is kept for an hour costs more to write than one that is kept for minutes.

Money is `Decimal` US dollars. None means unknown and is never taken for zero.
Source  platform.openai.com/docs/pricing, platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edgewise.chat import Usage

BATCH = "batch"
USUAL = frozenset({"", "default", "standard", "standard_only"})
"""What providers call it when a call was served as usual."""
SAME = {"fast": "priority"}
"""Two names of one tier, at one price."""
AN_HOUR = 2
"""Times the price of input: writing a prompt that is kept for an hour, where no list says otherwise (Anthropic's own
rule, which every row of the price list follows)."""


def tier_asked(body: Mapping[str, Any]) -> str:
    """The tier that a chat request wishes for, in OpenAI's words or in Anthropic's own; '' for none."""
    own = body.get("anthropic")
    return str(body.get("service_tier") or (own.get("service_tier") if isinstance(own, Mapping) else None) or "")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one million tokens. `above` holds the dearer step of a long context: (tokens, Price); `tiers` the
    rates of calls that were served otherwise than as usual, by the provider's word for it, and of its batches."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    request: Decimal = Decimal(0)
    above: tuple[int, Price] | None = None
    tiers: Mapping[str, Price] = field(default_factory=dict, hash=False)

    def cost(self, usage: Usage, tier: str = "") -> Decimal:
        """What one call with `usage` costs that was served in `tier`, US dollars, exact. The step is chosen by this
        call's prompt."""
        if tier in USUAL:
            return self._cost(usage)
        return max(rates._cost(usage) for rates in self._served(tier))

    def _served(self, tier: str) -> tuple[Price, ...]:
        """The rates of a tier; all that are known of this model, where nobody knows them."""
        known = self.tiers.get(SAME.get(tier, tier))
        return (known,) if known is not None else (self, *self.tiers.values())

    def _cost(self, usage: Usage) -> Decimal:
        if self.above is not None and usage.prompt_tokens > self.above[0]:
            return self.above[1]._cost(usage)
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        written = min(usage.cache_write_tokens, usage.prompt_tokens - cached)
        for_an_hour = min(usage.cache_write_1h_tokens, written)
        total = (
            (usage.prompt_tokens - cached - written) * self.input
            + cached * (self.cached_input if self.cached_input is not None else self.input)
            + (written - for_an_hour) * (self.cache_write if self.cache_write is not None else self.input)
            + usage.completion_tokens * self.output
        )
        if for_an_hour:
            total += for_an_hour * self._for_an_hour
        return total / 1_000_000 + self.request

    @property
    def _for_an_hour(self) -> Decimal:
        if self.cache_write_1h is not None:
            return self.cache_write_1h
        return max(AN_HOUR * self.input, self.cache_write or self.input)

    def row(self) -> dict[str, Any]:
        """As `price_of` reads it."""
        row: dict[str, Any] = {
            letter: str(usd) for letter, name in LETTERS.items() if (usd := getattr(self, name)) is not None
        }
        if self.above is not None:
            row["a"] = [self.above[0], self.above[1].row()]
        if self.tiers:
            row["t"] = {tier: rates.row() for tier, rates in self.tiers.items()}
        return row


LETTERS = {
    "i": "input",
    "o": "output",
    "r": "cached_input",
    "w": "cache_write",
    "h": "cache_write_1h",
    "c": "request",
}
ROW = frozenset({*LETTERS, "a", "b", "t"})
"""What a row of a price may say."""


def price_of(row: Mapping[str, Any]) -> Price:
    """A price from its compact row: a letter a kind of token (`LETTERS`), `a` the step of a long context, `t` other
    tiers by name, `b` the batch's. Raises KeyError, TypeError, ValueError, InvalidOperation."""
    rates: dict[str, Any] = {
        name: Decimal(row[letter]) for letter, name in LETTERS.items() if row.get(letter) is not None
    }
    if (above := row.get("a")) is not None:
        rates["above"] = (int(above[0]), price_of(above[1]))
    tiers = {**row.get("t", {}), **({BATCH: row["b"]} if "b" in row else {})}
    if tiers:
        rates["tiers"] = {name: price_of(found) for name, found in tiers.items()}
    return Price(**rates)
