"""Sticky: a conversation stays with its model, whose prompt cache is warm and whose style and tool ids it knows.

Without a remembered model the session's name decides by rendezvous hashing: every environment comes to the same model
without shared state, and when one model goes only its own sessions move.
"""

from __future__ import annotations

import hashlib

from edgewise.routing.ask import Ask, Candidate
from edgewise.routing.strategies.single import one
from edgewise.words import Choice


def choose(ask: Ask) -> Choice:
    kept = pinned(ask, "sticky")
    if kept is not None:
        return kept
    session = ask.options.session or ""
    ranked = sorted(ask.candidates, key=lambda c: _weight(session, c), reverse=True)
    return one(ask, ranked[0], "sticky", "session's own place" if session else "no session named", rest=ranked[1:])


def pinned(ask: Ask, strategy: str) -> Choice | None:
    """Stay with the model that answered last, unless it can't take this turn (an image goes up, never down)."""
    held = next((c for c in ask.candidates if c.model.name == ask.pinned), None)
    return one(ask, held, strategy, "stays with its session's model") if held is not None else None


def _weight(session: str, candidate: Candidate) -> bytes:
    return hashlib.sha256(f"{session}\0{candidate.model.name}".encode()).digest()
