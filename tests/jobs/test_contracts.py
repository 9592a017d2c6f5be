"""What every store of the room must do: the fakes in memory and the adapters against moto alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest

from edgewise.aws import Aws, Table
from edgewise.chat import Answer, Usage
from edgewise.clock import Clock, FakeClock
from edgewise.errors import NotFound
from edgewise.jobs.batch import Batch, LineError, Result, Tally
from edgewise.jobs.dynamodb import DynamoBatches
from edgewise.jobs.files import File, FileIndex
from edgewise.jobs.index.dynamodb import DynamoFiles
from edgewise.jobs.paid import PaidCall
from edgewise.jobs.ports import Blobs
from edgewise.jobs.s3 import PART_BYTES, S3Blobs
from edgewise.jobs.sqs import SqsQueue
from edgewise.jobs.store import Batches, Claimed, Done, Held
from edgewise.jobs.uploads import Upload
from edgewise.patience import PatientAws
from edgewise.words import Attempt, Model
from tests.jobs.fakes import MemoryBatches, MemoryBlobs, MemoryFiles

BATCH = Batch("batch_1", "acme", "k1", "/v1/embeddings", "file-1", 1_800_000_000, 1_800_086_400, metadata={"a": "b"})


@pytest.fixture(params=["memory", "dynamodb"])
def batches(request: pytest.FixtureRequest, clock: FakeClock, moto_aws: Aws) -> Batches:
    if request.param == "memory":
        return MemoryBatches(clock)
    return DynamoBatches(request.getfixturevalue("state_table"), MemoryBlobs(), clock)


@pytest.fixture(params=["memory", "s3"])
def blobs(request: pytest.FixtureRequest, moto_aws: Aws) -> Blobs:
    return MemoryBlobs() if request.param == "memory" else S3Blobs(moto_aws, request.getfixturevalue("bucket"))


@pytest.fixture(params=["memory", "dynamodb"])
def index(request: pytest.FixtureRequest, clock: FakeClock, moto_aws: Aws) -> Any:
    if request.param == "memory":
        return MemoryFiles(clock)
    return DynamoFiles(request.getfixturevalue("state_table"), clock)


class TestBatches:
    async def test_a_batch_comes_back_as_it_was_made(self, batches: Batches) -> None:
        assert await batches.create(BATCH)
        assert await batches.get("batch_1") == BATCH
        assert not await batches.create(replace(BATCH, tenant="other"))
        assert await batches.get("batch_2") is None
        assert [name async for name in batches.active()] == ["batch_1"]

    async def test_states_change_only_as_they_may(self, batches: Batches, clock: FakeClock) -> None:
        await batches.create(BATCH)
        assert await batches.move("batch_1", "completed") is None
        moved = await batches.move("batch_1", "in_progress", total=7, chunks=2, model="m")
        assert moved is not None and (moved.total, moved.chunks, moved.model) == (7, 2, "m")
        assert moved.times == {"in_progress_at": int(clock.now())}
        assert await batches.move("batch_1", "in_progress") is None
        errors = [LineError("c", "m", 3, "p"), LineError("c", "m")]
        assert await batches.move("batch_1", "failed", errors=errors) is None
        await batches.move("batch_1", "finalizing")
        tally = Tally(1, 2, 3, 4, Decimal("0.5"), 5, 6)
        done = await batches.move("batch_1", "completed", final=tally, output_file_id="file-o", error_file_id=None)
        assert done is not None and done.tally == tally and done.output_file_id == "file-o"
        assert await batches.get("batch_1") == done

    async def test_faults_are_kept(self, batches: Batches) -> None:
        await batches.create(BATCH)
        errors = (LineError("c", "m", 3, "p"), LineError("c", "m"))
        await batches.move("batch_1", "failed", errors=list(errors), model=None)
        found = await batches.get("batch_1")
        assert found is not None and found.errors == errors and found.ended

    async def test_a_tenants_batches_come_newest_first_in_pages(self, batches: Batches) -> None:
        for n in range(5):
            await batches.create(replace(BATCH, id=f"batch_{n}", created_at=BATCH.created_at + n))
        await batches.create(replace(BATCH, id="batch_x", tenant="other"))
        first = await batches.page("acme", None, 2)
        rest = await batches.page("acme", first[-1], 10)
        assert [b.id for b in first + rest] == ["batch_4", "batch_3", "batch_2", "batch_1", "batch_0"]

    async def test_one_worker_holds_a_chunk_until_its_lease_runs_out(self, batches: Batches, clock: FakeClock) -> None:
        await batches.create(BATCH)
        assert await batches.claim("batch_1", 0, "a", 30) == Claimed(1, True, {})
        held = await batches.claim("batch_1", 0, "b", 30)
        assert isinstance(held, Held) and held.until == pytest.approx(clock.now() + 30)
        assert await batches.held_chunks("batch_1") == 1
        await batches.suspect("batch_1", 0, [4, 5], {4: 1})
        await clock.advance(31)
        assert await batches.claim("batch_1", 0, "b", 30) == Claimed(2, False, {4: 2, 5: 1})

    async def test_only_the_holder_renews_and_only_while_the_batch_is_in_progress(self, batches: Batches) -> None:
        await batches.create(BATCH)
        await batches.claim("batch_1", 0, "a", 30)
        assert not await batches.renew("batch_1", 0, "a", 30, (1, 0))
        await batches.move("batch_1", "in_progress", total=9, chunks=1)
        assert await batches.renew("batch_1", 0, "a", 30, (3, 1))
        assert not await batches.renew("batch_1", 0, "b", 30, (9, 9))
        found = await batches.get("batch_1")
        assert found is not None
        assert found.wire()["request_counts"] == {"total": 9, "completed": 3, "failed": 1}
        await batches.move("batch_1", "cancelling")
        assert not await batches.renew("batch_1", 0, "a", 30, (4, 1))

    async def test_a_chunk_given_back_counts_as_never_claimed_but_not_as_fresh(self, batches: Batches) -> None:
        await batches.create(BATCH)
        await batches.claim("batch_1", 0, "a", 30)
        await batches.release("batch_1", 0, "b")
        assert isinstance(await batches.claim("batch_1", 0, "b", 30), Held)
        await batches.release("batch_1", 0, "a")
        assert await batches.claim("batch_1", 0, "b", 30) == Claimed(1, False, {})

    async def test_a_line_has_one_result_however_many_are_written(self, batches: Batches) -> None:
        body = {"usage": {"prompt_tokens": 3}, "text": "é" * 10}
        first = Result(7, "c7", "req_7", 200, body, cost_usd=Decimal("0.00000012"), cached=True)
        assert await batches.put_result("batch_1", 0, first)
        assert not await batches.put_result("batch_1", 0, replace(first, status=500))
        failed = Result(8, "c8", "req_8", None, error={"code": "x", "message": "y"}, cost_usd=None)
        assert await batches.put_result("batch_1", 0, failed)
        assert (await batches.worked("batch_1", 0, calls=True)).results == {7: first, 8: failed}
        assert await batches.results("batch_1", [(0, 8), (0, 9), (1, 7)]) == [failed]

    async def test_a_large_result_comes_back_whole(self, batches: Batches) -> None:
        import random

        body = {"text": random.Random(1).randbytes(500_000).hex()}
        await batches.put_result("batch_1", 0, Result(1, "c", "r", 200, body))
        assert (await batches.worked("batch_1", 0, calls=False)).results[1].body == body

    async def test_what_is_owed_is_written_with_the_end_and_struck_out(self, batches: Batches) -> None:
        await batches.create(replace(BATCH, metadata={"webhook_url": "https://a/b"}))
        moved = await batches.move("batch_1", "failed", errors=[], owed_at=7)
        assert moved is not None and moved.owed_at == 7
        await batches.note("batch_1", owed_at=None)
        found = await batches.get("batch_1")
        assert found is not None and found.owed_at is None and found.webhook_url == "https://a/b"

    async def test_a_paid_call_is_found_by_line_and_key(self, batches: Batches) -> None:
        usage = Usage(prompt_tokens=3, completion_tokens=4)
        attempt = Attempt(Model("", ""), latency_ms=5.5, usage=usage, cost_usd=Decimal("0.1"))
        call = PaidCall(Answer({"id": "x"}), [attempt], "held")
        await batches.put_call("batch_1", 0, 7, "k-1", call)
        assert (await batches.worked("batch_1", 0, calls=True)).calls == {(7, "k-1"): call}
        assert (await batches.worked("batch_1", 0, calls=False)).calls == {}

    async def test_a_chunk_is_counted_once(self, batches: Batches) -> None:
        await batches.create(BATCH)
        await batches.move("batch_1", "in_progress", total=3, chunks=2)
        await batches.claim("batch_1", 0, "a", 30)
        await batches.renew("batch_1", 0, "a", 30, (1, 0))
        tally = Tally(completed=2, failed=1, cost_usd=Decimal("0.00000012"), prompt_tokens=5)
        await asyncio.gather(*(batches.finish_chunk("batch_1", 0, tally) for _ in range(4)))
        assert await batches.claim("batch_1", 0, "b", 30) == Done(tally)
        assert not await batches.renew("batch_1", 0, "a", 30, (2, 0))
        for _ in range(3):
            found = await batches.count("batch_1", 0, tally)
        assert found is not None and (found.tally, found.chunks_done, found.live) == (tally, 1, {})
        assert await batches.get("batch_1") == found
        await batches.count("batch_1", 1, tally)
        both = await batches.get("batch_1")
        assert both is not None and both.tally == tally + tally


class TestBlobs:
    @pytest.mark.parametrize("size", [0, 10, PART_BYTES, 2 * PART_BYTES + 5])
    async def test_what_was_written_is_read(self, blobs: Blobs, size: int) -> None:
        whole = bytes(range(256)) * (size // 256 + 1)
        sink = blobs.sink("a/b")
        for start in range(0, size, 1_000_000):
            await sink.write(whole[start : min(size, start + 1_000_000)])
        assert await blobs.size("a/b") is None
        assert await sink.close() == size
        assert await blobs.size("a/b") == size
        assert b"".join([piece async for piece in blobs.stream("a/b")]) == whole[:size]
        if size:
            assert await blobs.read("a/b", 3, 9) == whole[3:9]

    async def test_what_is_not_there_is_not_found(self, blobs: Blobs) -> None:
        with pytest.raises(NotFound):
            await blobs.read("nowhere")
        with pytest.raises(NotFound):
            async for _ in blobs.stream("nowhere"):
                pass
        await blobs.delete("nowhere")
        sink = blobs.sink("never")
        await sink.write(b"x" * (PART_BYTES + 1))
        await sink.abort()
        assert await blobs.size("never") is None

    async def test_a_signed_url_says_how_to_put(self, blobs: Blobs) -> None:
        signed = await blobs.presign("k", 5, 60)
        assert signed.method == "PUT" and signed.url.startswith("http") and signed.headers["content-length"] == "5"


class TestFileIndex:
    async def test_files_are_listed_by_age_and_purpose_without_the_expired(
        self, index: FileIndex, clock: FakeClock
    ) -> None:
        now = int(clock.now())
        for n in range(4):
            purpose = "batch" if n % 2 else "evals"
            await index.put_file(
                File(f"file-{n}", "acme", "f.jsonl", purpose, n, now + n, f"k{n}", now + 100 * (n + 1))
            )
        await index.put_file(File("file-9", "other", "f", "batch", 1, now, "k"))

        async def ids(**asked: Any) -> list[str]:
            given: dict[str, Any] = {"purpose": None, "after": None, "forward": False, "limit": 10, **asked}
            return [file.id for file in await index.list_files("acme", **given)]

        assert await ids() == ["file-3", "file-2", "file-1", "file-0"]
        assert await ids(forward=True, limit=2) == ["file-0", "file-1"]
        assert await ids(purpose="batch") == ["file-3", "file-1"]
        assert await ids(after=await index.file("file-2")) == ["file-1", "file-0"]
        assert await ids(after=await index.file("file-2"), forward=True) == ["file-3"]
        await clock.advance(150)
        assert await ids() == ["file-3", "file-2", "file-1"]
        await index.delete_file("file-3")
        assert await index.file("file-3") is None

    async def test_an_upload_takes_parts_until_it_ends(self, index: Any) -> None:
        upload = Upload("upload_1", "acme", "f", "batch", 9, 1, 3601, file_expires_s=4000)
        await index.put_upload(upload)
        assert await index.upload("upload_1") == upload
        assert all(await asyncio.gather(*(index.add_part("upload_1", f"part_{n}", n) for n in range(5))))
        assert await index.end_upload("upload_1", "completed", "file-1")
        assert not await index.end_upload("upload_1", "cancelled")
        assert not await index.add_part("upload_1", "part_9", 9)
        found = await index.upload("upload_1")
        assert found.parts == {f"part_{n}": n for n in range(5)}
        assert (found.status, found.file_id) == ("completed", "file-1")


async def test_the_queue_hides_buries_and_redrives(moto_aws: Aws, queues: tuple[str, str]) -> None:
    queue = SqsQueue(moto_aws, *queues)
    await queue.send({"kind": "finish", "batch": "b"}, group="acme")
    asked = {"QueueUrl": queues[0], "MessageSystemAttributeNames": ["All"]}
    (message,) = (await moto_aws.call("sqs", "receive_message", **asked))["Messages"]
    assert orjson.loads(message["Body"]) == {"kind": "finish", "batch": "b"}
    assert message["Attributes"]["MessageGroupId"] == "acme"
    await queue.hide(message["ReceiptHandle"], 0)
    assert (await moto_aws.call("sqs", "receive_message", **asked))["Messages"]
    await queue.hide("no such receipt", 5)
    for n in range(12):
        await queue.bury({"kind": "line", "n": n}, group="acme")
    assert await queue.redrive(100) == 12


class _Throttling(Aws):
    """Refuses every call but each third."""

    def __init__(self, inner: Aws, code: str) -> None:
        super().__init__(inner.options)
        self.inner, self.code, self.count = inner, code, 0

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        from edgewise.aws import AwsError

        self.count += 1
        if self.count % 3:
            raise AwsError(self.code, "slow down", 400)
        return await self.inner.call(service, operation, **arguments)


class _Quick:
    """A clock that does not wait."""

    def __init__(self) -> None:
        self._inner: Clock = FakeClock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def sleep(self, seconds: float) -> None:
        return


async def test_a_busy_store_is_asked_again_and_a_refusal_is_not(state_table: Table, moto_aws: Aws) -> None:
    clock: Any = _Quick()
    throttling = _Throttling(moto_aws, "ProvisionedThroughputExceededException")
    table = Table(PatientAws(throttling, clock), state_table.name)
    store = DynamoBatches(table, MemoryBlobs(), clock)
    assert await store.create(BATCH)
    assert await store.get("batch_1") == BATCH
    from edgewise.aws import AwsError

    refusing = _Throttling(moto_aws, "ValidationException")
    with pytest.raises(AwsError):
        await Table(PatientAws(refusing, clock), state_table.name).get("a", "b")
    assert refusing.count == 1


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
