"""A batch from its file to its output, in memory, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal

import pytest

from edgewise.errors import InvalidRequest, NotFound
from edgewise.jobs import start, upkeep
from edgewise.jobs.ports import Ask, Ran
from edgewise.jobs.room import Options
from tests.jobs.rig import CHAT, Rig, answer, chat_line, jsonl, make_rig


@pytest.fixture
def rig() -> Rig:
    return make_rig()


async def test_every_line_is_answered_once_and_counted_once(rig: Rig) -> None:
    batch = await rig.submit([chat_line(f"c{n}", f"text {n}") for n in range(120)])
    assert batch.wire()["status"] == "validating"
    await rig.pump()
    done = await rig.batch(batch.id)
    assert done.status == "completed"
    assert done.wire()["request_counts"] == {"total": 120, "completed": 120, "failed": 0}
    lines = await rig.output(done)
    assert sorted(lines) == sorted(f"c{n}" for n in range(120))
    for n in range(120):
        body = lines[f"c{n}"]["response"]["body"]
        assert body["choices"][0]["message"]["content"] == f"echo: text {n}"
    assert Counter(rig.run.texts()) == {f"text {n}": 1 for n in range(120)}
    assert done.tally.cost_usd == Decimal("0.120")
    assert done.wire()["usage"]["input_tokens"] == 1200
    assert done.error_file_id is None


async def test_equal_lines_are_asked_once_across_chunks(rig: Rig) -> None:
    """Order of keys does not make a line another; the followers have their leader's answer at no cost."""
    lines = [chat_line(f"c{n}", f"text {n % 7}") for n in range(100)]
    lines[50]["body"] = dict(reversed(lines[50]["body"].items()))
    done = await _completed(rig, lines)
    assert sorted(rig.run.texts()) == sorted({f"text {n}" for n in range(7)})
    found = await rig.output(done)
    assert all(
        found[f"c{n}"]["response"]["body"]["choices"][0]["message"]["content"] == f"echo: text {n % 7}"
        for n in range(100)
    )
    assert done.wire()["request_counts"] == {"total": 100, "completed": 100, "failed": 0}
    assert done.tally.cost_usd == Decimal("0.007")
    assert done.tally.cached == 93
    assert len({line["response"]["request_id"] for line in found.values()}) == 100


async def test_a_line_that_refuses_the_cache_is_asked_for_itself(rig: Rig) -> None:
    await _completed(rig, [chat_line(f"c{n}", "same", cache={"no-cache": True}) for n in range(3)])
    assert len(rig.run.asked) == 3


async def test_refused_lines_go_to_the_error_file_and_passing_failures_are_tried_again(rig: Rig) -> None:
    async def script(ask: Ask, tries: int) -> Ran | None:
        match ask.body["messages"][0]["content"]:
            case "bad":
                return Ran(400, {"error": {"message": "no", "type": "invalid_request_error"}})
            case "flaky" if tries < 3:
                return Ran(502, {"error": {"message": "died"}}, None)
            case "down":
                return Ran(500, {"error": {"message": "down"}})
        return None

    rig.run.script = script
    done = await _completed(rig, [chat_line("a", "bad"), chat_line("b", "flaky"), chat_line("c", "down")])
    lines = await rig.output(done)
    assert lines["a"]["response"]["status_code"] == 400
    assert lines["b"]["response"]["status_code"] == 200
    assert lines["c"]["response"]["status_code"] == 500
    assert rig.run.texts().count("bad") == 1
    assert rig.run.texts().count("down") == rig.room.options.tries
    assert done.wire()["request_counts"] == {"total": 3, "completed": 1, "failed": 2}


async def test_a_spent_budget_ends_lines_and_a_rate_limit_only_delays_them(rig: Rig) -> None:
    async def script(ask: Ask, tries: int) -> Ran | None:
        if ask.body["messages"][0]["content"] == "poor":
            return Ran(429, {"error": {"message": "spent", "code": "insufficient_quota"}})
        return Ran(429, {"error": {"code": "rate_limit_exceeded"}}, retry_after_s=20) if tries < 9 else None

    rig.run.script = script
    done = await _completed(rig, [chat_line("a", "poor"), chat_line("b", "patient")])
    lines = await rig.output(done)
    assert lines["a"]["response"]["status_code"] == 429
    assert lines["b"]["response"]["status_code"] == 200


async def test_a_defect_in_one_line_ends_that_line_and_no_other(rig: Rig) -> None:
    async def script(ask: Ask, tries: int) -> Ran | None:
        if ask.body["messages"][0]["content"] == "poison":
            raise RuntimeError("boom")
        return None

    rig.run.script = script
    done = await _completed(rig, [chat_line("p", "poison"), *(chat_line(f"c{n}", f"t{n}") for n in range(30))])
    lines = await rig.output(done)
    assert lines["p"]["error"]["code"] == "internal_error"
    assert lines["p"]["response"] is None
    assert len(lines) == 31
    assert [letter["custom_id"] for letter in rig.queue.dead] == ["p"]


async def test_a_line_that_kills_its_worker_is_found_and_given_up(rig: Rig) -> None:
    """Neighbours are answered, the killer reaches the error file and the dead letters, nothing is asked for ever."""
    rig = make_rig(options=Options(lease_s=3, chunk_lines=10))
    rig.queue.visibility_s = 4
    batch = await rig.submit([chat_line(f"c{n}", "kill" if n == 4 else f"t{n}") for n in range(20)])
    deaths = await _with_deaths(rig, lambda ask: ask.body["messages"][0]["content"] == "kill")
    done = await rig.batch(batch.id)
    lines = await rig.output(done)
    assert done.status == "completed"
    assert lines["c4"]["error"]["code"] == "worker_died"
    assert done.wire()["request_counts"] == {"total": 20, "completed": 19, "failed": 1}
    assert [letter.get("custom_id") for letter in rig.queue.dead] == ["c4"]
    assert deaths <= 12


class _Killed(BaseException):
    """A worker's death: nothing of it runs on."""


async def _with_deaths(rig: Rig, dies: object) -> int:
    """Pump with workers that die the moment `dies` says so; how many did."""
    deaths = 0
    for _ in range(400):
        records = rig.queue.receive(10)
        if not records:
            if not rig.queue.messages:
                return deaths
            await rig.clock.advance(1)
            continue
        died = asyncio.Event()

        async def run(ask: Ask, died: asyncio.Event = died) -> Ran:
            if dies(ask):  # type: ignore[operator]
                died.set()
                await asyncio.Event().wait()
            return await rig.run(ask)

        handling = asyncio.ensure_future(rig.worker(run).handle({"Records": records}, 900))
        while not handling.done() and not died.is_set():
            await rig.clock.advance(0.25)
        if died.is_set():
            deaths += 1
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            # A killed process writes nothing more: everything of it is cut off where it stands.
            frozen = {name: getattr(rig.room.batches, name) for name in ("release", "put_result", "finish_chunk")}
            for name in frozen:
                setattr(rig.room.batches, name, _dead)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for name in frozen:
                delattr(rig.room.batches, name)
            rig.share.running = 0
            continue
        failed = {entry["itemIdentifier"] for entry in handling.result()["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed:
                rig.queue.delete(record["receiptHandle"])
    raise AssertionError("never ended")


async def _dead(*_: object, **__: object) -> bool:
    raise asyncio.CancelledError


async def test_a_message_delivered_twice_at_once_runs_its_lines_once(rig: Rig) -> None:
    batch = await rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(40)])
    worker = rig.worker()
    for _ in range(100):
        records = rig.queue.receive(10)
        if not records:
            if not rig.queue.messages:
                break
            await rig.clock.advance(5)
            continue
        await rig.deliver(worker, [*records, *({**r, "messageId": r["messageId"] + "'"} for r in records)])
    done = await rig.batch(batch.id)
    assert done.status == "completed"
    assert max(Counter(rig.run.texts()).values()) == 1
    assert done.tally.cost_usd == Decimal("0.040")


async def test_lines_left_for_want_of_time_are_done_by_the_next_function(rig: Rig) -> None:
    async def slow(ask: Ask, tries: int) -> Ran | None:
        await rig.clock.sleep(20)
        return None

    rig.run.script = slow
    rig.share.most, rig.share.limit = 5, 5.0
    batch = await rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(25)])
    await rig.pump(left_s=60)
    done = await rig.batch(batch.id)
    assert done.status == "completed"
    assert len(await rig.output(done)) == 25
    assert max(Counter(rig.run.texts()).values()) == 1, "no line that was under way had to be given up"


async def test_cancelling_hands_out_what_is_done_and_is_idempotent(rig: Rig) -> None:
    batch = await rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(500)])
    worker = rig.worker()
    await rig.deliver(worker, rig.queue.receive(1))
    await rig.deliver(worker, rig.queue.receive(2))
    cancelled = await start.cancel(rig.room, await rig.batch(batch.id))
    assert cancelled.status == "cancelling"
    assert (await start.cancel(rig.room, cancelled)).status == "cancelling"
    await rig.pump(worker)
    done = await rig.batch(batch.id)
    assert done.status == "cancelled"
    lines = await rig.output(done)
    assert len(lines) == 500
    codes = Counter((line["error"] or {}).get("code", "fine") for line in lines.values())
    assert codes == {"fine": 400, "batch_cancelled": 100}
    assert done.wire()["request_counts"] == {"total": 500, "completed": 400, "failed": 100}
    assert (await start.cancel(rig.room, done)).status == "cancelled"


async def test_after_a_day_the_rest_expires_and_finished_lines_are_handed_out(rig: Rig) -> None:
    batch = await rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(300)])
    worker = rig.worker()
    await rig.deliver(worker, rig.queue.receive(1))
    await rig.deliver(worker, rig.queue.receive(1))
    rig.queue.messages.clear()
    await rig.clock.advance(86_401)
    assert await upkeep.sweep(rig.room) == 1
    await rig.pump(worker)
    done = await rig.batch(batch.id)
    assert done.status == "expired"
    codes = Counter((line["error"] or {}).get("code") for line in (await rig.output(done)).values())
    assert codes == {None: 200, "batch_expired": 100}


async def test_upkeep_brings_a_batch_home_whose_messages_were_lost(rig: Rig) -> None:
    batch = await rig.submit([chat_line(f"c{n}", f"t{n}") for n in range(300)])
    worker = rig.worker()
    for _ in range(30):
        records = rig.queue.receive(1)
        if records:
            await rig.deliver(worker, records)
            rig.queue.messages.clear()
        else:
            await rig.clock.advance(61)
            await upkeep.sweep(rig.room)
        if (await rig.batch(batch.id)).ended:
            break
    await rig.pump(worker)
    for _ in range(3):
        await rig.clock.advance(61)
        await upkeep.sweep(rig.room)
        await rig.pump(worker)
    done = await rig.batch(batch.id)
    assert done.status == "completed"
    assert max(Counter(rig.run.texts()).values()) == 1
    assert [name async for name in rig.room.batches.active()] == []


async def test_requests_sent_straight_to_the_queue_become_one_batch(rig: Rig) -> None:
    import orjson

    message = {"id": "nightly", "tenant": "acme", "key_id": "k", "requests": [chat_line("a", "x"), chat_line("b", "y")]}
    for _ in range(2):
        rig.queue.post(orjson.dumps(message).decode())
    await rig.pump()
    (batch,) = await rig.room.batches.page("acme", None, 10)
    assert batch.status == "completed"
    assert sorted(await rig.output(batch)) == ["a", "b"]
    assert sorted(rig.run.texts()) == ["x", "y"]
    assert {ask.key_id for ask in rig.run.asked} == {"k"}


async def test_a_message_of_which_nothing_can_be_made_is_dead_at_once(rig: Rig) -> None:
    for body in ("no json", "[]", '{"kind": "dance"}', '{"tenant": "a"}', '{"kind": "response", "id": "x"}'):
        rig.queue.post(body)
    await rig.pump()
    assert [letter["kind"] for letter in rig.queue.dead] == ["unreadable"] * 5


async def test_a_redrive_is_a_new_batch_of_what_failed(rig: Rig) -> None:
    fixed = False

    async def script(ask: Ask, tries: int) -> Ran | None:
        odd = int(ask.body["messages"][0]["content"]) % 2
        return Ran(400, {"error": {"message": "odd"}}) if odd and not fixed else None

    rig.run.script = script
    done = await _completed(rig, [chat_line(f"c{n}", str(n)) for n in range(10)])
    fixed = True
    again = await start.redrive(rig.room, done)
    await rig.pump()
    redone = await rig.batch(again.id)
    assert sorted(await rig.output(redone)) == [f"c{n}" for n in range(1, 10, 2)]
    assert redone.wire()["request_counts"] == {"total": 5, "completed": 5, "failed": 0}


async def test_what_is_plainly_wrong_is_refused_when_a_batch_is_made(rig: Rig) -> None:
    file = await rig.upload(jsonl([chat_line("a")]))
    good = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": file}
    for change in ({"endpoint": "/v1/images"}, {"completion_window": "1h"}, {"metadata": {"k": 1}}):
        with pytest.raises(InvalidRequest):
            await start.create(rig.room, "acme", "k", {**good, **change})
    with pytest.raises(NotFound):
        await start.create(rig.room, "other", "k", good)


async def _completed(rig: Rig, lines: list[dict[str, object]]):  # type: ignore[no-untyped-def]
    batch = await rig.submit(lines)
    await rig.pump()
    done = await rig.batch(batch.id)
    assert done.status == "completed", done.wire()
    return done


def test_the_fake_answers_as_the_route_does() -> None:
    ask = Ask("t", "k", CHAT, chat_line("a", "x")["body"], "req_1", 1.0)
    assert answer(ask)["choices"][0]["message"]["content"] == "echo: x"
