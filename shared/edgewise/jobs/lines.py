"""A batch's input file: cut into lines, checked line by line, planned into chunks. Pure, one pass, bounded memory.

Lines end in b"\n" and nothing else: text in a JSON string may hold U+2028 or U+0085, at which `str.splitlines` would
cut. A byte order mark, a carriage return before the line's end and a separator outside a string are faults with a
line number and a reason, for a file that one reader takes and another does not is worse than a refused one.

Equal lines are asked once. Two lines are equal when their bodies are after JSON's own freedom (order of keys, spaces,
escapes) is taken away; the first one leads, the others follow. A line whose `cache` object says no-cache or no-store
wants an answer of its own and neither leads nor follows.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from edgewise.errors import InvalidRequest
from edgewise.jobs.batch import MAX_BYTES, MAX_LINES, LineError

MAX_ERRORS = 100
"""Faults told; a file with more has one cause, most likely."""
MAX_LINE_BYTES = 6_000_000
MAX_CUSTOM_ID = 512
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """`number` counts from 1, `start` is the offset of its first byte; `raw` is without the line's end."""

    number: int
    start: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A line that passed its checks."""

    number: int
    custom_id: str
    url: str
    body: Mapping[str, Any]

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))


async def split(pieces: AsyncIterator[bytes], max_line_bytes: int = MAX_LINE_BYTES) -> AsyncIterator[Line]:
    """The lines of a stream. Raises InvalidRequest when one is longer than `max_line_bytes`."""
    rest = b""
    number, start = 1, 0
    async for piece in pieces:
        buffer = rest + piece if rest else piece
        position = 0
        while (end := buffer.find(b"\n", position)) >= 0:
            yield Line(number, start + position, buffer[position:end])
            number, position = number + 1, end + 1
        rest = buffer[position:]
        start += position
        if len(rest) > max_line_bytes:
            raise InvalidRequest(
                f"Line {number} is longer than {max_line_bytes} bytes.", code="line_too_long", param=f"line {number}"
            )
    if rest:
        yield Line(number, start, rest)


def cut(block: bytes, first_line: int) -> Iterator[Line]:
    """The lines of a block that starts at the beginning of line `first_line`; `start` counts from the block's."""
    position = 0
    for offset, raw in enumerate(block.split(b"\n")):
        if raw.strip():
            yield Line(first_line + offset, position, raw)
        position += len(raw) + 1


def parsed(line: Line) -> Request:
    """A line that is known to be good."""
    found = orjson.loads(line.raw)
    return Request(line.number, found["custom_id"], found["url"], found["body"])


def fault(line: Line, endpoint: str) -> LineError | Request:
    """The first thing wrong with `line` taken by itself, or the request in it."""

    def wrong(code: str, message: str, param: str | None = None) -> LineError:
        return LineError(code, message, line.number, param)

    if line.raw.startswith(BOM):
        return wrong("byte_order_mark", "The line begins with a byte order mark (U+FEFF); save the file without it.")
    if line.raw.endswith(b"\r"):
        return wrong("carriage_return", "The line ends in CR LF; end lines with LF alone.")
    try:
        found = orjson.loads(line.raw)
    except orjson.JSONDecodeError as error:
        if b"\xe2\x80\xa8" in line.raw or b"\xe2\x80\xa9" in line.raw:
            return wrong(
                "line_separator", "The line holds U+2028 or U+2029 outside a JSON string; only LF ends a line."
            )
        return wrong("invalid_json_line", f"The line is not valid JSON: {error.msg} (column {error.colno}).")
    if not isinstance(found, dict):
        return wrong("invalid_json_line", "The line is not a JSON object.")
    custom_id = found.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID:
        return wrong(
            "invalid_custom_id", f"`custom_id` must be a string of 1 to {MAX_CUSTOM_ID} characters.", "custom_id"
        )
    if found.get("method") != "POST":
        return wrong("invalid_method", "`method` must be 'POST'.", "method")
    if found.get("url") != endpoint:
        return wrong("mismatched_url", f"`url` must be the batch's endpoint, '{endpoint}'.", "url")
    body = found.get("body")
    if not isinstance(body, dict):
        return wrong("missing_required_parameter", "`body` must be an object.", "body")
    if not isinstance(body.get("model"), str) or not body["model"]:
        return wrong("missing_required_parameter", "`body.model` must be a string.", "body.model")
    if body.get("stream"):
        return wrong("unsupported_parameter", "A batch's lines cannot stream.", "body.stream")
    if body.get("background"):
        return wrong("unsupported_parameter", "A batch's lines are in the background already.", "body.background")
    needed = "messages" if endpoint.endswith("/chat/completions") else "input"
    if needed not in body:
        return wrong("missing_required_parameter", f"`body.{needed}` is missing.", f"body.{needed}")
    return Request(line.number, custom_id, endpoint, body)


@dataclass(slots=True)
class Chunk:
    """Lines that travel together: bytes `start` to `end` of the file, beginning with line `first`.

    followers  lines in it that are equal to an earlier line and are not asked
    weights    a leading line's number to how many lines it stands for (itself included)
    """

    number: int
    first: int
    start: int
    end: int
    requests: int = 0
    followers: list[int] = field(default_factory=list)
    weights: dict[int, int] = field(default_factory=dict)

    def wire(self) -> list[Any]:
        weights = [[line, weight] for line, weight in self.weights.items()]
        return [self.first, self.start, self.end, self.requests, self.followers, weights]

    @classmethod
    def of(cls, number: int, wire: list[Any]) -> Chunk:
        first, start, end, requests, followers, weights = wire
        return cls(number, first, start, end, requests, followers, dict(weights))


@dataclass(slots=True)
class Draft:
    """How a file is worked: its chunks, and for each following line the line that leads it with that one's chunk."""

    chunks: list[Chunk] = field(default_factory=list)
    leaders: dict[int, tuple[int, int]] = field(default_factory=dict)
    total: int = 0
    model: str | None = None

    def encode(self) -> bytes:
        return orjson.dumps(
            {
                "chunks": [chunk.wire() for chunk in self.chunks],
                "leaders": [[line, *leader] for line, leader in self.leaders.items()],
                "total": self.total,
                "model": self.model,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Draft:
        found = orjson.loads(data)
        return cls(
            [Chunk.of(number, wire) for number, wire in enumerate(found["chunks"])],
            {line: (leader, chunk) for line, leader, chunk in found["leaders"]},
            found["total"],
            found["model"],
        )


class Check:
    """Checks a file line by line and drafts its plan; `errors` is empty when the file is good."""

    def __init__(self, endpoint: str, chunk_lines: int, chunk_bytes: int = 4_000_000) -> None:
        self.errors: list[LineError] = []
        self.draft = Draft()
        self._endpoint = endpoint
        self._chunk_lines = chunk_lines
        self._chunk_bytes = chunk_bytes
        self._seen: dict[bytes, int] = {}
        self._asked: dict[bytes, tuple[int, int]] = {}

    def take(self, line: Line) -> bool:
        """Take in the next line; False when there is no use in going on."""
        if not line.raw.strip():
            return True
        self.draft.total += 1
        if self.draft.total > MAX_LINES:
            self._wrong("too_many_requests", f"The file has more than {MAX_LINES} requests.", line.number)
            return False
        if line.start + len(line.raw) > MAX_BYTES:
            self._wrong("file_too_large", f"The file is larger than {MAX_BYTES} bytes.", line.number)
            return False
        match fault(line, self._endpoint):
            case LineError() as error:
                self.errors.append(error)
            case Request() as request:
                self._accept(line, request)
        return len(self.errors) < MAX_ERRORS

    def end(self) -> None:
        """The file has ended."""
        if self.draft.total == 0 and not self.errors:
            self._wrong("empty_file", "The file has no requests.", 1)

    def _wrong(self, code: str, message: str, line: int | None, param: str | None = None) -> None:
        self.errors.append(LineError(code, message, line, param))

    def _accept(self, line: Line, request: Request) -> None:
        draft = self.draft
        name = hashlib.blake2b(request.custom_id.encode(), digest_size=16).digest()
        first = self._seen.setdefault(name, line.number)
        if first != line.number:
            message = f"`custom_id` '{request.custom_id[:64]}' is already used on line {first}."
            return self._wrong("duplicate_custom_id", message, line.number, "custom_id")
        if draft.model is None:
            draft.model = request.model
        elif draft.model != request.model:
            message = f"All lines of a batch name one model; the first one names '{draft.model[:64]}'."
            return self._wrong("mismatched_model", message, line.number, "body.model")
        chunk = self._chunk(line)
        chunk.requests += 1
        chunk.end = line.start + len(line.raw)
        if (key := equality(request)) is None:
            return None
        leader = self._asked.setdefault(key, (line.number, chunk.number))
        if leader[0] != line.number:
            draft.leaders[line.number] = leader
            chunk.followers.append(line.number)
            weights = draft.chunks[leader[1]].weights
            weights[leader[0]] = weights.get(leader[0], 1) + 1
        return None

    def _chunk(self, line: Line) -> Chunk:
        chunks = self.draft.chunks
        last = chunks[-1] if chunks else None
        if (
            last is None
            or last.requests - len(last.followers) >= self._room()
            or last.requests >= 20 * self._room()
            or line.start + len(line.raw) - last.start > self._chunk_bytes
        ):
            last = Chunk(len(chunks), line.number, line.start, line.start)
            chunks.append(last)
        return last

    def _room(self) -> int:
        """How many lines a chunk takes: more, the further the file goes on, so that a batch has a few hundred."""
        return self._chunk_lines * (1 + len(self.draft.chunks) // 100)


def equality(request: Request) -> bytes | None:
    """What equal requests share; None for a request that wants an answer of its own."""
    cache = request.body.get("cache")
    if isinstance(cache, dict) and (cache.get("no-cache") or cache.get("no-store")):
        return None
    canonical = orjson.dumps([request.url, request.body], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16).digest()
