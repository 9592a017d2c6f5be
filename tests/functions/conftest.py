"""The functions as Lambda imports them: by file, with the environment that the template gives them."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEY = "ew_root_of_the_recorded_events"


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Imports functions/NAME.py with EDGEWISE_ settings from `settings`."""

    def load(name: str, **settings: str) -> ModuleType:
        for key, value in {"root_key": KEY, "scripted_model": "true", "request_log": "false", **settings}.items():
            monkeypatch.setenv(f"EDGEWISE_{key.upper()}", value)
        spec = importlib.util.spec_from_file_location(name.replace("/", "_"), ROOT / "functions" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


def event(name: str) -> dict[str, Any]:
    """A recorded event."""
    made: dict[str, Any] = json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    return made
