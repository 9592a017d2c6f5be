"""Bedrock's Converse on the loopback upstream: JSON, and event-stream frames encoded by hand.

A frame is total length, header length, CRC-32 of those eight bytes, headers, payload, CRC-32 of all before it; numbers
are big-endian. A header is its name's length and name, the type 7 (a string), its value's length and value.
Source: the `application/vnd.amazon.eventstream` encoding of AWS's streaming protocols.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.upstream_wire import Spoken

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_ERRORS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message of the event-stream encoding."""
    told = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(told) + len(payload), len(told))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + told + payload
    return message + struct.pack("!I", zlib.crc32(message))


def event(kind: str, **payload: Any) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps(payload).encode())


def exception(kind: str, message: str) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


def usage(spoken: Spoken) -> dict[str, Any]:
    prompt, completion = spoken.counts
    counted = {"inputTokens": prompt, "outputTokens": completion, "totalTokens": prompt + completion}
    return {**counted, **(spoken.manner.usage or {})}


def stop_reason(spoken: Spoken) -> str:
    return spoken.manner.finish or ("tool_use" if spoken.manner.tool else "end_turn")


def whole(spoken: Spoken) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"text": "".join(spoken.pieces)}]
    if spoken.manner.tool:
        name, arguments = spoken.manner.tool
        content = [{"toolUse": {"toolUseId": "tooluse_up", "name": name, "input": json.loads(arguments)}}]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason(spoken),
        "usage": usage(spoken),
        "metrics": {"latencyMs": 1},
    }


def events(spoken: Spoken) -> Iterator[tuple[str, bytes]]:
    """(label, frame); a label is the name of the cut that falls just before it."""
    manner = spoken.manner
    yield "first", event("messageStart", role="assistant")
    if manner.tool:
        name, arguments = manner.tool
        start = {"toolUse": {"toolUseId": "tooluse_up", "name": name}}
        yield "start", event("contentBlockStart", contentBlockIndex=0, start=start)
        deltas: list[dict[str, Any]] = [
            {"toolUse": {"input": arguments[i : i + 8]}} for i in range(0, len(arguments), 8)
        ]
    else:
        deltas = [{"text": text} for text in spoken.pieces]
    for number, delta in enumerate(deltas):
        yield "content", event("contentBlockDelta", contentBlockIndex=0, delta=delta)
        if number == 0 and manner.in_band_error is not None:
            yield "error", exception(str(manner.in_band_error["type"]), str(manner.in_band_error["message"]))
            return
    yield "stop", event("contentBlockStop", contentBlockIndex=0)
    yield "before-finish", event("messageStop", stopReason=stop_reason(spoken))
    yield "before-usage", event("metadata", usage=usage(spoken), metrics={"latencyMs": 1})


def error(status: int) -> tuple[bytes, dict[str, str]]:
    """The body and headers of an error."""
    kind = _ERRORS.get(status, "InternalServerException")
    return json.dumps({"message": f"upstream says {status}"}).encode(), {"x-amzn-ErrorType": kind}
