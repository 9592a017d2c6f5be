"""A chunk's lines, run at most once to a result however often the chunk is delivered.

Theory of operation. A chunk is worked under a lease that its worker renews; its message stays hidden as long. When a
worker dies, lease and hiding run out, the message comes again, and the next worker reads what is there: lines with
a result are done, provider calls that were answered are not made again (see `journal.py`). A line's result is one
write that succeeds only if there is none. When all lines have one, the next chunk is sent on its way, the chunk is
marked done with its counts, and the counts are put into their place in the batch. Each of the three may be done
twice without harm, and a worker that dies between them leaves a message that makes the next one do the rest; no
transaction is needed, and none that fails can hold up others.

A line that kills its worker must not take its chunk along. After a death the worker runs few lines at once and
writes down beforehand which; lines that were under way at a death have a strike and then run last and alone, and a
line with `max_strikes` is given up: it goes to the error file and to the dead-letter queue.

What it does not know: how a line is run, and what it means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edgewise.clock import Deadline
from edgewise.errors import NotFound
from edgewise.jobs.batch import Batch, Result, Tally, request_id
from edgewise.jobs.lines import Chunk, Draft, Request, cut, parsed
from edgewise.jobs.paid import PaidCall, PaidCalls
from edgewise.jobs.ports import Ask, Ran, Run
from edgewise.jobs.room import Again, Room
from edgewise.jobs.share import Share
from edgewise.jobs.store import Claimed, Done, Held, Worked

Pressure = Callable[[str], Awaitable[float]]
"""How many seconds batch work for a model should hold off because interactive requests are being throttled."""


async def no_pressure(_model: str) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a chunk's message came. `left` is the function's own deadline."""

    receipt: str
    receives: int
    left: Deadline


@dataclass(slots=True)
class _State:
    """A chunk under way."""

    batch: Batch
    chunk: Chunk
    claimed: Claimed
    worked: Worked
    left: Deadline
    tally: Tally = field(default_factory=Tally)
    under_way: set[int] = field(default_factory=set)
    lost: bool = False
    """The lease is somebody else's, or the batch is being stopped."""
    late: bool = False
    """Some lines had to be left for want of time."""


class ChunkWork:
    def __init__(self, room: Room, run: Run, share: Share, pressure: Pressure = no_pressure) -> None:
        self.room = room
        self._run = run
        self._share = share
        self._pressure = pressure

    async def work(self, batch_id: str, number: int, delivery: Delivery) -> bool:
        """Work a chunk to its end. True: it was all of its batch, which the caller is to finish. Raises Again when it
        must be delivered once more."""
        room = self.room
        batch = await room.batches.get(batch_id)
        if batch is None or batch.status != "in_progress":
            return batch is not None and batch.small
        if batch.expires_at <= room.clock.now():
            await room.send("finish", batch.id, batch.tenant)
            return False
        owner = room.clock.token("worker_")
        match await room.batches.claim(batch_id, number, owner, room.options.lease_s):
            case Held(until):
                raise Again(until - room.clock.now() + 1)
            case Done(tally):
                return await self._counted(batch, number, tally)
            case Claimed() as claimed:
                if claimed.claims > 1 and delivery.receives == room.options.copies_after:
                    # Its message has seen deaths enough for SQS to take it for dead at the next one.
                    delay_s = round(room.options.lease_s)
                    await room.send("chunk", batch.id, batch.tenant, chunk=number, delay_s=delay_s)
                return await self._claimed(batch, number, owner, claimed, delivery)

    async def _claimed(self, batch: Batch, number: int, owner: str, claimed: Claimed, delivery: Delivery) -> bool:
        room = self.room
        draft = await room.draft(batch.id)
        chunk = draft.chunks[number]
        key = f"files/{batch.tenant}/{batch.input_file_id}"
        try:
            block = await room.blobs.read(key, chunk.start, chunk.end)
        except NotFound:
            # Its owner deleted the file under it: there is nothing to run, and what is done is handed out.
            if await room.batches.move(batch.id, "cancelling"):
                await room.send("finish", batch.id, batch.tenant)
            return False
        nothing = claimed.fresh and batch.remote is None
        worked = Worked() if nothing else await room.batches.worked(batch.id, number, calls=True)
        state = _State(batch, chunk, claimed, worked, delivery.left)
        followers = set(chunk.followers)
        requests = [parsed(line) for line in cut(block, chunk.first) if line.number not in followers]
        for request in requests:
            if (result := worked.results.get(request.number)) is not None:
                state.tally += result.tally(chunk.weights.get(request.number, 1))
        todo = [request for request in requests if request.number not in worked.results]
        await self._under_lease(state, owner, todo, delivery)
        if state.lost:
            await room.batches.release(batch.id, number, owner)
            raise Again(1)
        if state.late:
            await room.batches.release(batch.id, number, owner)
            await room.send("chunk", batch.id, batch.tenant, chunk=number)
            return False
        return await self._done(state, draft)

    async def _under_lease(self, state: _State, owner: str, todo: list[Request], delivery: Delivery) -> None:
        lines = asyncio.ensure_future(self._lines(state, todo))
        pulse = asyncio.ensure_future(self._pulse(state, owner, delivery.receipt, lines))
        try:
            left_s = delivery.left.left_s() - self.room.options.margin_s
            done, _ = await asyncio.wait({lines}, timeout=max(0.0, left_s))
            if not done:
                state.late = True
        finally:
            pulse.cancel()
            lines.cancel()
            outcome = await asyncio.gather(lines, pulse, return_exceptions=True)
        for error in outcome:
            if isinstance(error, Exception):
                raise error

    async def _pulse(self, state: _State, owner: str, receipt: str, lines: asyncio.Future[None]) -> None:
        """Keep the lease and the message's hiding alive, and tell how far the chunk is."""
        room, batch, number = self.room, state.batch, state.chunk.number
        lease_s = room.options.lease_s
        await room.queue.hide(receipt, int(lease_s) + 1)
        while True:
            await room.clock.sleep(lease_s / 3)
            done = (state.tally.completed, state.tally.failed)
            if not await room.batches.renew(batch.id, number, owner, lease_s, done):
                state.lost = True
                lines.cancel()
                return
            await room.queue.hide(receipt, int(lease_s) + 1)

    async def _lines(self, state: _State, todo: list[Request]) -> None:
        claimed = state.claimed
        if claimed.claims <= 1:
            await _all(self._line(state, request) for request in todo)
            return
        batches, number = self.room.batches, state.chunk.number
        strikes = {line: count for line, count in claimed.strikes.items() if line not in state.worked.results}
        await batches.suspect(state.batch.id, number, [], strikes)
        clean = [request for request in todo if not strikes.get(request.number)]
        gate = asyncio.Semaphore(self.room.options.careful_lines)

        async def careful(request: Request) -> None:
            async with gate:
                state.under_way.add(request.number)
                await batches.suspect(state.batch.id, number, sorted(state.under_way), strikes)
                await self._line(state, request)
                state.under_way.discard(request.number)

        await _all(careful(request) for request in clean)
        for request in sorted((r for r in todo if strikes.get(r.number)), key=lambda r: strikes[r.number]):
            if strikes[request.number] >= self.room.options.max_strikes:
                await self._poisoned(state, request, "worker_died", "The worker died each time it ran this line.")
            else:
                await careful(request)

    async def _line(self, state: _State, request: Request) -> None:
        """Run one line to its result, waiting out what time heals."""
        options, clock = self.room.options, self.room.clock
        failures = 0
        while True:
            if (hold_s := await self._pressure(request.model)) > 0:
                self._share.throttled(hold_s)
            async with self._share.slot(state.batch.tenant):
                if state.left.left_s() < options.reserve_s:
                    state.late = True
                    return
                ran = await self._once(state, request)
            if isinstance(ran, Exception):
                failures += 1
                if failures >= options.tries:
                    await self._poisoned(state, request, "internal_error", f"The line failed ({type(ran).__name__}).")
                    return
                wait_s = 0.5 * 2**failures
            elif ran.ok or not ran.passing or ran.spent:
                self._share.eased()
                break
            else:
                if ran.status in (429, 503) and ran.by_provider:
                    self._share.throttled(ran.retry_after_s)
                failures += ran.status != 429
                if failures >= options.tries:
                    break
                wait_s = ran.retry_after_s or (2.0 if ran.status == 429 else 0.5 * 2**failures)
            if wait_s > state.left.left_s() - options.reserve_s or clock.now() + wait_s > state.batch.expires_at:
                state.late = True
                return
            await clock.sleep(wait_s * (0.75 + clock.uniform() / 2))
        await self._result(state, request, ran)

    async def _once(self, state: _State, request: Request) -> Ran | Exception:
        timeout_s = min(self.room.options.line_timeout_s, state.left.left_s() - self.room.options.margin_s)
        ask = Ask(
            tenant=state.batch.tenant,
            key_id=state.batch.key_id,
            url=request.url,
            body=request.body,
            request_id=request_id(state.batch.id, request.number),
            timeout_s=timeout_s,
            calls=self._calls(state, request.number),
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._run(ask)
        except TimeoutError:
            return Ran(504, _error("The line took too long.", "timeout"), None)
        except Exception as error:  # noqa: BLE001 - the worker is an edge: a defect ends a line, never its neighbours
            self.room.meter.add("line_defects")
            return error

    def _calls(self, state: _State, line: int) -> PaidCalls:
        async def keep(key: str, call: PaidCall) -> None:
            await self.room.batches.put_call(state.batch.id, state.chunk.number, line, key, call)
            state.worked.calls[(line, key)] = call

        return PaidCalls({key: call for (of, key), call in state.worked.calls.items() if of == line}, keep)

    async def _result(self, state: _State, request: Request, ran: Ran) -> None:
        result = Result(
            line=request.number,
            custom_id=request.custom_id,
            request_id=request_id(state.batch.id, request.number),
            status=ran.status,
            body=ran.body,
            cost_usd=ran.cost_usd,
            cached=ran.cached,
        )
        await self._keep(state, result)

    async def _poisoned(self, state: _State, request: Request, code: str, message: str) -> None:
        """Give a line up: to the error file, and to the dead-letter queue for somebody to look at."""
        letter = {
            "kind": "line",
            "batch": state.batch.id,
            "line": request.number,
            "custom_id": request.custom_id,
            "error": code,
        }
        await self.room.queue.bury(letter, group=state.batch.tenant)
        self.room.meter.add("dead_letters")
        await self._keep(
            state,
            Result(
                line=request.number,
                custom_id=request.custom_id,
                request_id=request_id(state.batch.id, request.number),
                status=None,
                error={"code": code, "message": message},
                cost_usd=Decimal(0),
            ),
        )

    async def _keep(self, state: _State, result: Result) -> None:
        batch, chunk = state.batch, state.chunk
        if not await self.room.batches.put_result(batch.id, chunk.number, result):
            # Another worker was first; its result is the line's, and what counts.
            kept = await self.room.batches.results(batch.id, [(chunk.number, result.line)])
            result = kept[0] if kept else result
        state.tally += result.tally(chunk.weights.get(result.line, 1))

    async def _done(self, state: _State, draft: Draft) -> bool:
        room, batch, number = self.room, state.batch, state.chunk.number
        if (following := number + room.options.window_chunks) < len(draft.chunks):
            await room.send("chunk", batch.id, batch.tenant, chunk=following)
        await room.batches.finish_chunk(batch.id, number, state.tally)
        room.meter.add("lines_done", state.tally.completed)
        room.meter.add("lines_failed", state.tally.failed)
        return await self._counted(batch, number, state.tally)

    async def _counted(self, batch: Batch, number: int, tally: Tally) -> bool:
        """Tell the batch of its chunk, and have it ended with the last one."""
        fresh = await self.room.batches.count(batch.id, number, tally)
        whole = fresh is not None and fresh.status == "in_progress" and fresh.chunks_done >= fresh.chunks
        if whole and not batch.small:
            await self.room.send("finish", batch.id, batch.tenant)
        return whole and batch.small


async def _all(works: Any) -> None:
    """Run all; the first defect of the room's own (not a line's) stops the rest and is raised."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}
