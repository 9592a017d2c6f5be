"""The same small app as an ordinary handler."""

from __future__ import annotations

from app import app  # type: ignore[import-not-found]

from edgewise.buffered import Buffered

handler = Buffered(app, margin_s=1.5)
