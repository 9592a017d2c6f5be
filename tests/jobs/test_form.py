"""Forms are read as they come, within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.api.form import Form, capped, read_form
from edgewise.errors import InvalidRequest, TooLarge

TYPE = "multipart/form-data; boundary=bnd"


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b"".join(b"--bnd\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % (h.encode(), c) for h, c in parts)
    return body + b"--bnd--\r\n"


async def read(body: bytes, sizes: list[int] | None = None, content_type: str = TYPE) -> tuple[Form, bytes]:
    """The form and its file's bytes, the body arriving in pieces of these sizes."""
    got = bytearray()

    async def pieces() -> AsyncIterator[bytes]:
        at, turn = 0, 0
        while at < len(body):
            size = (sizes or [len(body)])[turn % len(sizes or [1])]
            yield body[at : at + size]
            at, turn = at + size, turn + 1

    async def write(piece: bytes) -> None:
        got.extend(piece)

    return await read_form(content_type, pieces(), file_field="file", write=write), bytes(got)


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), min_size=1, max_size=5))
async def test_a_file_is_the_same_however_its_bytes_arrive(content: bytes, sizes: list[int]) -> None:
    body = form(('name="purpose"', b"batch"), ('name="file"; filename="f.jsonl"', content))
    if b"--bnd" not in content:
        found, got = await read(body, sizes)
        assert (found.fields, found.filename, got) == ({"purpose": "batch"}, "f.jsonl", content)


@given(st.binary(max_size=300))
async def test_no_bytes_break_the_reader(body: bytes) -> None:
    try:
        await read(b"--bnd\r\n" + body)
    except InvalidRequest:
        return


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(('name="a"', b"1")), "multipart/form-data; boundary=" + "b" * 71),
        (form(('name="a"', b"1")), "multipart/form-data"),
        (b"{}", "application/json"),
        (form(('name="a"', b"1"))[:-6], TYPE),
        (form(*[(f'name="a{n}"', b"1") for n in range(33)]), TYPE),
        (form(('name="file"; filename="a"', b"1"), ('name="file"; filename="b"', b"2")), TYPE),
        (form(('name="other"; filename="a"', b"1")), TYPE),
        (form(('name="a"', b"x" * 70_000)), TYPE),
    ],
    ids=["boundary", "no-boundary", "json", "cut", "parts", "two-files", "stranger", "long-field"],
)
async def test_a_form_out_of_bounds_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        await read(body, content_type=content_type)


async def test_a_stream_past_its_cap_is_cut_with_the_hint() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 10

    with pytest.raises(TooLarge, match="by parts"):
        async for _ in capped(pieces(), 55, "come by parts"):
            pass
