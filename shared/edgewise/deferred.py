"""Pydantic models that are built when somebody uses them, not when their module is imported.

FastAPI describes all of OpenAPI in some forty models, and building them is a tenth of the gateway's cold start; the
gateway writes no schema through them. `defer_build` is pydantic's own setting for that, but a model's author has to
set it. A class takes its settings from its bases when it is made, so setting it on the root for the length of an
import reaches them all, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict


@contextmanager
def deferred() -> Iterator[None]:
    """Models whose classes are made inside are built at their first use. Not for use in threads."""
    before = BaseModel.model_config
    BaseModel.model_config = ConfigDict(**{**before, "defer_build": True})
    try:
        yield
    finally:
        BaseModel.model_config = before
