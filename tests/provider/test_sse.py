"""The event parser: what it reads never depends on how the bytes were cut."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.provider.sse import EventParser, EventTooLong

Events = list[tuple[bytes, bytes]]


def parsed(stream: bytes, cuts: list[int] | None = None, max_bytes: int = 1_000_000) -> Events:
    """The events of `stream`, fed in pieces that end at `cuts`."""
    parser = EventParser(max_bytes)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts or ()), len(stream)]
    return [event for a, b in pairwise(places) for event in parser.feed(stream[a:b])]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [(b"", b"a")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [(b"", b"a"), (b"", b"b"), (b"", b"c")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b"\xef\xbbdata: a\n\n", []),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data:  a \n\n", [(b"", b" a ")]),
        (b"data: a\ndata\ndata: b\n\n", [(b"", b"a\n\nb")]),
        (b"data:\n\n", [(b"", b"")]),
        (b": hello\n\nevent: ping\nid: 7\nretry: 1\ndata: {}\n\n", [(b"ping", b"{}")]),
        (b"event: lost\n\ndata: a\n\n", [(b"", b"a")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [(b"x", b"a"), (b"", b"b")]),
        (b"database: a\n\n", []),
        (b"data: cut", []),
        (b"data: cut\n", []),
        (b"\n\n\r\r\n", []),
        ("data: \u2028\u0085\x0b\x0c\n\n".encode(), [(b"", "\u2028\u0085\x0b\x0c".encode())]),
        (b"", []),
    ],
)
def test_what_a_stream_says(stream: bytes, events: Events) -> None:
    assert parsed(stream) == events
    assert parsed(stream, list(range(len(stream)))) == events, "byte by byte"


lines = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b"data",
        b"data: {\xc3\xa9\xf0\x9f\x8e\x89}",
        b"event: e",
        b": c",
        b"",
        b"junk",
        b"\xef\xbb\xbf",
    ]
)
endings = st.sampled_from([b"\n", b"\r\n", b"\r"])
streams = st.lists(st.tuples(lines, endings), max_size=30).map(lambda parts: b"".join(a + b for a, b in parts))


@given(streams | st.binary(max_size=200), st.lists(st.integers(0, 250), max_size=20))
def test_any_cutting_parses_alike(stream: bytes, cuts: list[int]) -> None:
    assert parsed(stream, cuts) == parsed(stream)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "delta", "ping"]),
            st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"])),
        )
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 500), max_size=20),
)
def test_what_was_encoded_comes_out(events: list[tuple[str, str]], newline: str, cuts: list[int]) -> None:
    text = "".join(
        (f"event: {name}{newline}" if name else "") + f"data: {data}{newline}: comment{newline}{newline}"
        for name, data in events
    )
    assert parsed(text.encode(), cuts) == [(name.encode(), data.encode()) for name, data in events]


@given(streams, st.lists(st.integers(0, 250), max_size=20), st.integers(0, 60))
def test_the_size_limit_strikes_at_the_same_event_however_it_is_cut(
    stream: bytes, cuts: list[int], max_bytes: int
) -> None:
    def until_too_long(cut_at: list[int]) -> tuple[Events, bool]:
        parser, got = EventParser(max_bytes), []
        places = [0, *sorted(min(cut, len(stream)) for cut in cut_at), len(stream)]
        try:
            for a, b in pairwise(places):
                got += parser.feed(stream[a:b])
            parser.feed(b"")
        except EventTooLong:
            return got, True
        return got, False

    assert until_too_long(cuts) == until_too_long([])


def test_an_endless_line_is_refused_before_it_fills_the_memory() -> None:
    parser = EventParser(1000)
    for _ in range(10):
        parser.feed(b"x" * 100)
    with pytest.raises(EventTooLong):
        parser.feed(b"x")


def test_keep_alive_comments_may_go_on_for_hours() -> None:
    parser = EventParser(100)
    for _ in range(1000):
        assert parser.feed(b": keep-alive\n\n") == []
    assert parser.feed(b"data: a\n\n") == [(b"", b"a")]


@pytest.mark.data
def test_recorded_streams_parse_alike_however_they_are_split(data: Path) -> None:
    files = sorted((data / "api" / "openai-recorded-sse").glob("*.bin"))
    assert len(files) == 12
    for file in files:
        stream = file.read_bytes()
        whole = parsed(stream)
        assert whole[-1] == (b"", b"[DONE]") and all(json.loads(event) for _, event in whole[:-1])
        for step in (1, 2, 3, 7, 64, 1000):
            assert parsed(stream, list(range(0, len(stream), step))) == whole
        assert parsed(stream.replace(b"\n", b"\r\n"), list(range(0, len(stream) * 2, 5))) == whole
