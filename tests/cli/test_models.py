"""`edgewise models` says what the gateway is to know of a model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from edgewise.cli import models

runner = CliRunner()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    made: list[tuple[str, str, Any]] = []

    def call(method: str, path: str, body: Any = None) -> Any:
        made.append((method, path, body))
        row = {"object": "model_override", "model": "openai/own", "row": body or {}}
        return {"object": "list", "data": [row]} if method == "GET" else row

    monkeypatch.setattr(models, "call", call)
    return made


def test_a_change_is_one_row(calls: list[tuple[str, str, Any]]) -> None:
    asked = ["set", "openai/own", "--price-in", "0.3", "--price-out", "1.2", "--tier", "small", "--no-auto",
             "--row", '{"output": 4096}']  # fmt: skip
    assert runner.invoke(models.app, asked).exit_code == 0
    row = {"output": 4096, "price": {"i": "0.3", "o": "1.2"}, "tier": "small", "auto": False}
    assert calls == [("PUT", "/admin/models/openai/own", row)]


def test_half_a_price_is_none(calls: list[tuple[str, str, Any]]) -> None:
    assert runner.invoke(models.app, ["set", "openai/own", "--price-in", "1"]).exit_code == 2
    assert calls == []


def test_changes_are_listed_and_taken_back(calls: list[tuple[str, str, Any]]) -> None:
    assert "openai/own" in runner.invoke(models.app, ["list"]).stdout
    assert json.loads(runner.invoke(models.app, ["list", "--json"]).stdout)["object"] == "list"
    assert runner.invoke(models.app, ["unset", "openai/own"]).exit_code == 0
    assert calls[-1] == ("DELETE", "/admin/models/openai/own", None)
