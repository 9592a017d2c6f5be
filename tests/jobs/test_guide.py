"""The guide's programs, run one after another as a reader would run them, against the assembled house."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgewise.assemble.house import build
from edgewise.assemble.jobs import worker_of
from edgewise.settings import Settings
from tests.jobs.stack import pump
from tests.jobs.test_killed import KEY, listening, served_by, settings
from tests.upstream import Manner, Upstream

__all__ = ["settings"]

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "async.md"


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


async def test_what_the_guide_shows_runs(
    upstream: Upstream,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream.default = Manner(between_s=0.1)
    house = build(served_by(upstream, settings).model_copy(update={"tasks": ("reports:summarise",)}))
    assert house.settings.jobs_queue_url is not None
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("local_aws_url", "state_table", "bucket", "jobs_queue_url", "root_key"):
        monkeypatch.setenv(f"EDGEWISE_{name.upper()}", str(getattr(house.settings, name)))
    monkeypatch.setenv(
        "EDGEWISE_UPSTREAMS", f'[{{"name": "up", "base_url": "{upstream.base_url}", "models": ["m", "e"]}}]'
    )
    monkeypatch.setenv("EDGEWISE_MODEL_OVERRIDES", '{"up/m": {"price": {"i": "1", "o": "1"}}}')
    working = asyncio.create_task(pump(house.aws, house.settings.jobs_queue_url, worker_of(house).handle))
    async with listening(house.settings) as url:
        scope: dict[str, Any] = {"__name__": "guide"}
        for program in programs():
            if program.startswith("# functions/worker/"):
                name = program.splitlines()[0].rpartition("/")[2]
                (tmp_path / name).write_text(program)
                continue
            text = program.replace("https://….lambda-url.eu-central-1.on.aws/v1", url).replace("ew_…", KEY)
            text = text.replace('model="auto"', 'model="up/m"').replace('model="embed"', 'model="up/e"')
            await asyncio.to_thread(exec, compile(text, "async.md", "exec"), scope)
        await asyncio.to_thread(scope["client"].close)
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    sys.modules.pop("reports", None)
    await house.close()
    told = capsys.readouterr().out.splitlines()
    assert told[1] == "cancelled"
    assert "Name the oceans." in told[2]
    assert "First" in told and "one two" in told and told[-1] == "10"
    assert "What is 3 times 3?" in told


def test_it_shows_all_that_it_should() -> None:
    assert len(programs()) == 7
