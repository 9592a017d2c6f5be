"""Regular expressions that are compiled at their first use.

The rooms that read text know some hundred patterns, many of them for one language or one kind of text, and compiling
them all is a twelfth of a cold start. `re.compile` has no such mode; `later` is a stand-in with the same methods.
"""

from __future__ import annotations

import re
from typing import Any, cast

_METHODS = ("search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "split", "pattern", "flags", "groups")


class _Later:
    """Becomes the pattern at the first attribute that is asked for: from then on its methods are found at once."""

    def __init__(self, text: str, flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(self._text, self._flags)
        for method in _METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def later(text: str, flags: int = 0) -> re.Pattern[str]:
    """`re.compile(text, flags)`, but not yet. A mistake in `text` shows at its first use: a test must use it.

    Call its methods; the functions of `re` do not take it.
    """
    return cast(re.Pattern[str], _Later(text, flags))
