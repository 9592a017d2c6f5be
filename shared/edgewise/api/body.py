"""A request's body as a JSON object, or a 400 that says what is wrong with it.

The bytes are counted while they arrive, so a body without a length can't grow past the cap, and nothing is parsed
before it is whole. Parsing is strict: UTF-8 only, no NaN, no lone surrogate, no number that a double can't hold.
A repeated key keeps its last value, and since only the parsed object is ever forwarded, whatever is checked here is
what the provider reads. Compressed bodies are refused: no OpenAI client sends them, and 6 MB of zeros are 6 KB.
"""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from edgewise.errors import InvalidRequest, TooLarge


async def read(receive: Receive, headers: list[tuple[bytes, bytes]], limit_bytes: int) -> bytes:
    """The whole body. Raises `TooLarge` as soon as it is, `InvalidRequest` (415) when it is compressed."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit_bytes:
            raise _too_large(limit_bytes)
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise InvalidRequest("Compressed bodies are not accepted; send the JSON as it is.", status=415)
    message = await receive()
    _still_there(message)
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    pieces, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        _still_there(message)
        piece = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
    return b"".join(pieces)


def _still_there(message: Message) -> None:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit_bytes} bytes. Upload large inputs as files instead.")


def parse(raw: bytes, max_depth: int) -> dict[str, Any]:
    """`raw` as a JSON object at most `max_depth` deep. Raises `InvalidRequest`."""
    # No depth without brackets: for nearly every body this count at C speed is the whole check.
    deep = raw.count(b"[") + raw.count(b"{") > max_depth
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if not raw.strip():
            raise InvalidRequest("The body is empty; a JSON object was expected.") from error
        hint = " (or it is nested too deeply)" if deep else ""
        raise InvalidRequest(f"The body is not valid JSON{hint}: {error}.", code="invalid_json") from error
    if type(body) is not dict:
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    if deep and _is_deeper(body, max_depth):
        raise InvalidRequest(f"The body is nested more than {max_depth} levels deep.", code="invalid_json")
    return body


def _is_deeper(body: dict[str, Any], max_depth: int) -> bool:
    level: list[Any] = [body]
    for _ in range(max_depth):
        level = [
            value
            for box in level
            for value in (box.values() if type(box) is dict else box)
            if type(value) is dict or type(value) is list
        ]
        if not level:
            return False
    return True
