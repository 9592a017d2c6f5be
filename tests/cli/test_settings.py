"""`edgewise settings` tells what the gateway reads, and no secret."""

from __future__ import annotations

import json

import pytest

from edgewise.cli.main import main
from edgewise.cli.settings import rows
from edgewise.settings import TOGETHER, Settings

UPSTREAMS = '[{"name": "own", "base_url": "http://own", "api_key": "sk-canary"}]'


def test_every_setting_is_listed_under_its_name_in_the_environment() -> None:
    told = rows({})
    assert {row.name for row in told} == Settings.names() - {TOGETHER}
    assert [row.name for row in told if not row.what] == []


def test_a_setting_comes_with_its_default_and_its_docstring() -> None:
    row = next(row for row in rows({}) if row.name == "EDGEWISE_CACHE_TIMEOUT_S")
    assert (row.default, row.value) == ("0.25", None)
    assert "counts as a miss" in row.what


def test_what_the_environment_says_is_shown_and_secrets_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_ROOT_KEY", "ew_canary")
    monkeypatch.setenv("EDGEWISE_CACHE_MODE", "off")
    monkeypatch.setenv("EDGEWISE_UPSTREAMS", UPSTREAMS)
    with pytest.raises(SystemExit, match="0"):
        main(["settings", "--json"])
    out = capsys.readouterr().out
    assert "canary" not in out
    told = {row["name"]: row["value"] for row in json.loads(out)}
    assert told["EDGEWISE_CACHE_MODE"] == "off"
    assert told["EDGEWISE_ROOT_KEY"] == "(set)"
    with pytest.raises(SystemExit, match="0"):
        main(["settings", "root"])
    assert "ew_canary" not in capsys.readouterr().out


def test_settings_may_come_as_one_object_and_a_name_of_its_own_wins() -> None:
    told = {
        "EDGEWISE_SETTINGS": '{"aliases": {"fast": "openai/gpt-4o-mini"}, "cache_ttl_s": 60}',
        "EDGEWISE_CACHE_TTL_S": "5",
    }
    found = Settings.from_env(told)
    assert found.aliases == {"fast": "openai/gpt-4o-mini"}
    assert found.cache_ttl_s == 5


@pytest.mark.parametrize("wrong", ["[1]", "{", '{"no_such_setting": 1}'])
def test_an_object_that_cannot_work_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"EDGEWISE_SETTINGS|Expecting|no_such_setting"):
        Settings.from_env({"EDGEWISE_SETTINGS": wrong})


def test_settings_that_are_wrong_are_told_without_what_they_hold() -> None:
    """At a function's start the refusal goes into its log."""
    assert "canary" not in repr(Settings.from_env({"EDGEWISE_UPSTREAMS": UPSTREAMS}))
    with pytest.raises(ValueError, match="name") as refused:
        Settings.from_env({"EDGEWISE_UPSTREAMS": UPSTREAMS.replace('"name": "own", ', "")})
    assert "canary" not in str(refused.value)
