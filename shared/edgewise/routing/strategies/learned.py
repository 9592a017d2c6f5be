"""Learned: the expected gain of the strong model over the cheap one, learned from own traffic, decides.

It refuses to route on what has not passed its test: then the strong model answers, and the reason says so. Under a
guarantee the operating point comes from a tested bound instead of from λ.
"""

from __future__ import annotations

from edgewise.routing.ask import Ask
from edgewise.routing.scorer import hull
from edgewise.routing.strategies.single import one
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    ranked = hull(ask.candidates) or list(ask.candidates)
    cheap, strong = ranked[0], ranked[-1]
    if cheap is strong:
        return one(ask, strong, "learned", "one candidate")
    if ask.gain is None:
        why = ask.extra.get("learned", "no labels yet")
        return one(ask, strong, "learned", f"refuses to route on what it has not proved ({why})")
    threshold = ask.extra.get("threshold")
    if threshold is None and ask.options.guarantee:
        return one(ask, strong, "learned", "guarantee not yet provable: the reference model answers")
    if threshold is None:
        threshold = (ask.options.lam + ask.window_lambda) * (strong.cost - cheap.cost)
    chosen = strong if ask.gain >= threshold else cheap
    kind = "guarantee" if ask.options.guarantee else "worth"
    return one(ask, chosen, "learned", f"gain {ask.gain:+.3f} against {threshold:.3f} ({kind})")
