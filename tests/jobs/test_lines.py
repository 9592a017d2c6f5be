"""A batch file's faults are told by line and reason, and nothing of a faulty file is run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import InvalidRequest
from edgewise.jobs.lines import MAX_ERRORS, Check, Draft, Line, cut, equality, fault, parsed, split
from tests.jobs.rig import CHAT, chat_line, jsonl, make_rig

GOOD = chat_line("a")


def faults(content: bytes, chunk_lines: int = 25) -> list[tuple[int | None, str]]:
    check = Check(CHAT, chunk_lines)
    for line in _lines(content):
        if not check.take(line):
            break
    check.end()
    assert all(error.message for error in check.errors)
    return [(error.line, error.code) for error in check.errors]


def _lines(content: bytes) -> list[Line]:
    out, start = [], 0
    for number, raw in enumerate(content.split(b"\n"), 1):
        out.append(Line(number, start, raw))
        start += len(raw) + 1
    return out


def bytes_of(*lines: dict[str, Any] | bytes) -> bytes:
    return b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines)


BAD: dict[str, tuple[bytes, list[tuple[int | None, str]]]] = {
    "not JSONL": (b"hello\nworld\n", [(1, "invalid_json_line"), (2, "invalid_json_line")]),
    "a JSON array over lines": (b"[\n{},\n", [(1, "invalid_json_line"), (2, "invalid_json_line")]),
    "an array a line": (b"[]\n", [(1, "invalid_json_line")]),
    "duplicate ids": (bytes_of(GOOD, chat_line("b"), GOOD), [(3, "duplicate_custom_id")]),
    "unknown route": (bytes_of(GOOD, {**chat_line("b"), "url": "/v1/images"}), [(2, "mismatched_url")]),
    "another method": (bytes_of({**GOOD, "method": "GET"}), [(1, "invalid_method")]),
    "mixed models": (bytes_of(GOOD, chat_line("b", model="n")), [(2, "mismatched_model")]),
    "U+2028 between records": (
        orjson.dumps(GOOD) + "\u2028".encode() + orjson.dumps(chat_line("b")) + b"\n",
        [(1, "line_separator")],
    ),
    "CRLF": (b"\r\n".join([orjson.dumps(GOOD), orjson.dumps(chat_line("b"))]) + b"\r\n",
             [(1, "carriage_return"), (2, "carriage_return")]),
    "BOM": (b"\xef\xbb\xbf" + bytes_of(GOOD), [(1, "byte_order_mark")]),
    "0 lines": (b"", [(1, "empty_file")]),
    "blank lines only": (b"\n  \n\n", [(1, "empty_file")]),
    "no custom id": (bytes_of({**GOOD, "custom_id": None}), [(1, "invalid_custom_id")]),
    "no body": (bytes_of({**GOOD, "body": None}), [(1, "missing_required_parameter")]),
    "no model": (bytes_of({**GOOD, "body": {"messages": []}}), [(1, "missing_required_parameter")]),
    "no messages": (bytes_of({**GOOD, "body": {"model": "m"}}), [(1, "missing_required_parameter")]),
    "a streaming line": (bytes_of(GOOD, chat_line("b", stream=True)), [(2, "unsupported_parameter")]),
    "invalid UTF-8": (orjson.dumps(GOOD)[:-1] + b"\xff}\n", [(1, "invalid_json_line")]),
    "NaN": (b'{"custom_id": "a", "method": "POST", "body": NaN}\n', [(1, "invalid_json_line")]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_tells_the_line_and_a_reason(name: str) -> None:
    content, expected = BAD[name]
    assert faults(content) == expected


@pytest.mark.parametrize("name", BAD)
async def test_nothing_of_a_bad_file_is_run(name: str) -> None:
    rig = make_rig()
    batch = await rig.submit(BAD[name][0])
    await rig.pump()
    failed = await rig.batch(batch.id)
    assert failed.status == "failed"
    assert rig.run.asked == []
    (first, *_) = failed.wire()["errors"]["data"]
    assert first["line"] is not None and first["message"] and first["code"]


async def test_a_file_of_50_001_lines_is_refused_at_that_line() -> None:
    content = b"".join(orjson.dumps(chat_line(f"c{n}")) + b"\n" for n in range(50_001))
    rig = make_rig()
    batch = await rig.submit(content)
    await rig.pump()
    failed = await rig.batch(batch.id)
    assert [(e.line, e.code) for e in failed.errors] == [(50_001, "too_many_requests")]
    assert rig.run.asked == []


def test_a_file_of_50_000_lines_is_taken() -> None:
    check = Check(CHAT, 25)
    for number in range(1, 50_001):
        assert check.take(Line(number, number * 100, orjson.dumps(chat_line(f"c{number}", str(number)))))
    assert check.errors == []
    assert len(check.draft.chunks) < 800


def test_faults_are_told_up_to_a_number() -> None:
    assert len(faults(b"x\n" * 1000)) == MAX_ERRORS


def test_separators_inside_a_string_are_text() -> None:
    line = json.dumps(chat_line("a", "one\u2028two\u2029three\u0085four"), ensure_ascii=False).encode()
    assert faults(line + b"\n" + bytes_of(chat_line("b"))) == []


async def test_a_line_without_end_is_refused_before_it_is_whole() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(InvalidRequest) as caught:
        async for _ in split(endless(), max_line_bytes=10_000):
            pass
    assert caught.value.code == "line_too_long"


@given(
    st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=12),
    st.booleans(),
    st.lists(st.integers(1, 17), min_size=1, max_size=8),
)
async def test_lines_are_the_same_however_the_bytes_arrive(raws: list[bytes], ended: bool, cuts: list[int]) -> None:
    content = b"\n".join(raws) + (b"\n" if ended else b"")

    async def pieces() -> AsyncIterator[bytes]:
        at, turn = 0, 0
        while at < len(content):
            size = cuts[turn % len(cuts)]
            yield content[at : at + size]
            at, turn = at + size, turn + 1

    found = [line async for line in split(pieces())]
    expected = [line for line in _lines(content) if line.raw or line.start < len(content)]
    assert found == expected
    assert all(content[line.start : line.start + len(line.raw)] == line.raw for line in found)


@given(
    st.lists(st.tuples(st.text(max_size=8), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 9),
)
def test_chunks_cover_every_line_once_and_every_follower_has_a_leader(texts: list[tuple[str, bool]], size: int) -> None:
    blank = b" \n"
    content = b"".join(
        orjson.dumps(chat_line(f"c{n}", text)) + b"\n" + (blank if gap else b"") for n, (text, gap) in enumerate(texts)
    )
    check = Check(CHAT, size)
    assert all(check.take(line) for line in _lines(content))
    draft = Draft.decode(check.draft.encode())
    assert draft == check.draft
    seen, asked, weights = [], {}, 0
    for chunk in draft.chunks:
        requests = [parsed(line) for line in cut(content[chunk.start : chunk.end], chunk.first)]
        assert len(requests) == chunk.requests
        for request in requests:
            seen.append(request.custom_id)
            if request.number not in chunk.followers:
                asked[request.number] = request
                weights += chunk.weights.get(request.number, 1)
            else:
                leader, where = draft.leaders[request.number]
                assert where <= chunk.number and leader < request.number
                assert equality(request) == equality(asked[leader])
    assert seen == [f"c{n}" for n in range(len(texts))]
    assert len({equality(r) for r in asked.values()}) == len(asked)
    assert weights == len(texts)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_checks(raw: bytes) -> None:
    fault(Line(1, 0, raw), CHAT)


def test_a_good_file_has_no_faults() -> None:
    assert faults(jsonl([chat_line(f"c{n}") for n in range(10)])) == []
