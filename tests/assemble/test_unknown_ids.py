"""Identifiers and keys that nobody minted are refused in the assembled gateway without a look into the table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgewise.assemble.edge import around
from edgewise.assemble.filters import filter_chores
from edgewise.assemble.house import House, build
from edgewise.aws import Table
from edgewise.clock import FakeClock
from edgewise.policy.token import mint
from edgewise.settings import Settings
from tests.assemble.test_gateway import ROOT, Gateway

READS = {"get_item", "query", "batch_get_item", "scan"}


class Counting:
    """A house with its gateway, hours after upkeep built its filters, whose reads of the state table are counted."""

    def __init__(self, house: House, clock: FakeClock) -> None:
        self.house, self.clock = house, clock
        self.gateway = Gateway(around(house))
        self.reads: list[str] = []
        inner = house.aws.call

        async def call(service: str, operation: str, **arguments: Any) -> dict[str, Any]:
            if operation in READS and arguments.get("TableName") == house.settings.state_table:
                self.reads.append(str(arguments.get("Key") or arguments.get("ExpressionAttributeValues")))
            return await inner(service, operation, **arguments)

        house.aws.call = call  # type: ignore[method-assign]

    async def status(self, method: str, path: str, key: str = ROOT) -> tuple[int, int]:
        """Of one request: its status, and the reads that it made; the list of bans is read behind it now and then."""
        self.reads.clear()
        got = await self.gateway.call(method, path, key, {} if method == "POST" else None)
        return got.status, len([read for read in self.reads if "ban#" not in read])


@pytest.fixture
async def counting(
    moto_url: str, state_table: Table, bucket: str, queues: tuple[str, str], clock: FakeClock
) -> AsyncIterator[Counting]:
    settings = Settings(
        root_key=ROOT,
        scripted_model=True,
        request_log=False,
        local_aws_url=moto_url,
        state_table=state_table.name,
        bucket=bucket,
        jobs_queue_url=queues[0],
        dead_letter_queue_url=queues[1],
    )
    found = Counting(build(settings, clock), clock)
    async with found.gateway.app.router.lifespan_context(found.gateway.app):
        yield found


PATHS = (
    ("GET", "/batches/{}", "batch_"),
    ("POST", "/batches/{}/cancel", "batch_"),
    ("GET", "/files/{}", "file-"),
    ("GET", "/files/{}/content", "file-"),
    ("DELETE", "/files/{}", "file-"),
    ("GET", "/responses/{}", "resp_"),
    ("DELETE", "/responses/{}", "resp_"),
    ("POST", "/responses/{}/cancel", "resp_"),
)


async def test_what_nobody_minted_is_refused_without_a_read(counting: Counting) -> None:
    """Identifiers of the right form, older than the filter; from the future; and of no form at all."""
    clock = counting.clock
    made = [(method, path.format(clock.token(head))) for method, path, head in PATHS]
    await clock.advance(4 * 3600)
    for chore in filter_chores(counting.house):
        await chore.run()
    for method, path in made:
        assert await counting.status(method, path) == (404, 0), (path, counting.reads)
    later = FakeClock(time=clock.time + 86_400)
    for method, path, head in PATHS:
        assert await counting.status(method, path.format(later.token(head))) == (404, 0), (path, counting.reads)


async def test_what_was_minted_is_found_before_and_after(counting: Counting) -> None:
    """A filter's staleness costs a read, never a wrong 404."""
    state = counting.house.settings.state_table
    assert state is not None
    boundary = "edge"
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{boundary}\r\n'
        'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\n\r\n'
        f"--{boundary}--\r\n"
    ).encode()
    old = await counting.gateway.ask(
        "POST", "/v1/files", raw=form, headers={"content-type": f"multipart/form-data; boundary={boundary}",
                                                "authorization": f"Bearer {ROOT}"},
    )  # fmt: skip
    assert old.status == 200, old.body
    await counting.clock.advance(4 * 3600)
    for chore in filter_chores(counting.house):
        await chore.run()
    status, reads = await counting.status("GET", f"/files/{old.json['id']}")
    assert status == 200 and reads > 0
    young = counting.clock.token("file-")
    status, reads = await counting.status("GET", f"/files/{young}")
    assert status == 404 and reads > 0


async def test_a_key_that_could_never_be_one_costs_no_read_and_another_one_read(counting: Counting) -> None:
    """The checksum stands in a filter's place (docs/decisions/0033-bloom-filters.md)."""
    forged = mint(lambda n: b"\x07" * n)
    for wrong in ("ew_live_x", "sk-abcdef", forged[:-1] + "!", forged[:-7] + "A" + forged[-6:]):
        assert (await counting.status("GET", "/models", wrong)) == (401, 0), wrong
    assert [await counting.status("GET", "/models", forged) for _ in range(3)] == [(401, 1), (401, 0), (401, 0)]
