"""A multipart form with one file in it, read as it comes: fields are kept, the file's bytes are passed on.

Bounds before trust: the boundary has at most 70 characters (RFC 2046 §5.1.1), a form at most 32 parts, a field at
most 64 kB, a body at most what the caller says. The parser is python-multipart's, imported when a form comes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from edgewise.errors import InvalidRequest, TooLarge

MAX_BOUNDARY = 70
MAX_PARTS = 32
MAX_FIELD_BYTES = 65_536

Write = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class Form:
    """What a form held. `filename` is None when no file came under the name that was asked for."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


@dataclass(slots=True)
class _Part:
    name: str = ""
    filename: str | None = None
    content: bytearray = field(default_factory=bytearray)


class _Events:
    """The parser's callbacks, turned into a list that is emptied after each piece."""

    def __init__(self) -> None:
        self.out: list[tuple[str, Any]] = []
        self._header = bytearray()
        self._value = bytearray()
        self._part = _Part()
        self._parts = 0
        self.ended = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end", "end")
        found = {f"on_{name}": getattr(self, name) for name in names}
        return found | {"on_headers_finished": self.headers_finished}

    def part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"The form has more than {MAX_PARTS} parts.")
        self._part = _Part()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
            if b"filename" in options:
                self._part.filename = options[b"filename"].decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        if self._part.filename is not None:
            self.out.append(("file", self._part))

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.filename is not None:
            self.out.append(("bytes", data[start:end]))
            return
        self._part.content += data[start:end]
        if len(self._part.content) > MAX_FIELD_BYTES:
            raise TooLarge(f"The field '{self._part.name[:40]}' is larger than {MAX_FIELD_BYTES} bytes.")

    def part_end(self) -> None:
        if self._part.filename is None:
            self.out.append(("field", self._part))

    def end(self) -> None:
        self.ended = True


def boundary_of(content_type: str) -> bytes:
    """Raises InvalidRequest when the body is no form that may be read."""
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest("The body must be multipart/form-data with a boundary.", status=415)
    if len(boundary) > MAX_BOUNDARY:
        raise InvalidRequest(f"The form's boundary is longer than {MAX_BOUNDARY} characters.")
    return boundary


async def read_form(content_type: str, pieces: AsyncIterator[bytes], *, file_field: str, write: Write) -> Form:
    """Read a form; the bytes of the file called `file_field` go to `write` as they come."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    events, form = _Events(), Form()
    parser = MultipartParser(boundary_of(content_type), events.callbacks())  # type: ignore[arg-type]
    try:
        begun = False
        async for piece in pieces:
            if not begun and piece[:1] not in (b"", b"-"):
                # What stands before the first boundary is read differently by how it is cut; no client sends any.
                raise InvalidRequest("The form must begin with its boundary.")
            begun = begun or bool(piece)
            parser.write(piece)
            for kind, what in events.out:
                await _take(form, kind, what, file_field, write)
            events.out.clear()
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest("The form is malformed.") from error
    if not events.ended:
        raise InvalidRequest("The form ends before its last boundary.")
    return form


async def _take(form: Form, kind: str, what: Any, file_field: str, write: Write) -> None:
    if kind == "bytes":
        await write(what)
    elif kind == "field":
        form.fields[what.name] = what.content.decode("utf-8", "replace")
    elif what.name != file_field or form.filename is not None:
        raise InvalidRequest(f"The form has one file, called '{file_field}'.", param=what.name[:80] or None)
    else:
        form.filename = what.filename


async def capped(pieces: AsyncIterator[bytes], limit: int, hint: str) -> AsyncIterator[bytes]:
    """Pieces up to `limit` bytes together; then TooLarge with `hint`."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise TooLarge(hint)
        if piece:
            yield piece
