"""Edgewise: an OpenAI-compatible LLM gateway that lives entirely on AWS Lambda.

Two names for Python programs, imported when they are first used, since every import is paid for at a cold start:
`Assistant` (cache → route → stream → store in this process) and `cached` (a decorator over the cache's tiers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgewise.assistant import Assistant as Assistant
    from edgewise.cache.memoize import cached as cached

_HOMES = {"Assistant": "edgewise.assistant", "cached": "edgewise.cache.memoize"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgewise' has no attribute {name!r}")
