"""Learned: the expected gain of the strong model over the cheap one, learned from own traffic, decides.

It refuses to route on what has not passed its test: then the strong model answers, and the reason says so. Under a
guarantee the operating point comes from a tested bound instead of from λ.
"""

from __future__ import annotations

from edgewise.routing.ask import Ask, Candidate
from edgewise.routing.scorer import ends
from edgewise.routing.strategies.single import one
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    cheap, strong = ends(ask.candidates, ask.reference)
    if cheap is strong:
        return one(ask, strong, "learned", "the reference model" if ask.reference else "one candidate")
    if ask.options.guarantee:
        return _guaranteed(ask, cheap, strong)
    if ask.gain is None:
        why = ask.extra.get("learned", "no labels yet")
        return one(ask, strong, "learned", f"refuses to route on what it has not proved ({why})")
    threshold = (ask.options.lam + ask.window_lambda) * (strong.cost - cheap.cost)
    chosen = strong if ask.gain >= threshold else cheap
    return one(ask, chosen, "learned", f"gain {ask.gain:+.3f} against {threshold:.3f} (worth)")


def _guaranteed(ask: Ask, cheap: Candidate, strong: Candidate) -> Choice:
    threshold = ask.extra.get("threshold")
    if threshold is None or ask.gain is None:
        why = "open text" if ask.comparable is None else ask.extra.get("learned", "no labels yet")
        reason = f"guarantee not provable here ({why}): {strong.model.name} answers"
        return one(ask, strong, "learned", reason)
    chosen = strong if ask.gain >= threshold else cheap
    lost = f"at most {ask.extra['bound']:.3f} below {strong.model.name}" if "bound" in ask.extra else "proved"
    return one(ask, chosen, "learned", f"gain {ask.gain:+.3f} against {threshold:.3f} (guarantee: {lost})")
