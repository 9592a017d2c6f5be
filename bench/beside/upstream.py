"""An upstream that costs next to nothing: canned answers, straight on the transport.

    python -m bench.beside.upstream PORT

A model's name says how it behaves: `lat-MS` waits before it answers, `n-CHUNKS` and `itl-MS` shape a stream (how many
chunks, and how long between them; 0 sends them in one write). GET /calls tells how many chats were asked since the
last time it was told.
"""

from __future__ import annotations

import asyncio
import re
import sys
from functools import partial
from typing import cast

import orjson

TEXT = (
    "This is a canned answer. It is about as long as a short reply in a chat, sixty tokens or so, so that a gateway "
    "that parses and writes the body again does a realistic amount of work. Nothing in it changes between calls."
)
_NUMBER = {key: re.compile(rb"%s-(\d+)" % key.encode()) for key in ("lat", "n", "itl")}
_MODEL = re.compile(rb'"model":\s*"([^"]*)"')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
calls = 0


def _told(key: str, model: bytes, otherwise: int) -> int:
    found = _NUMBER[key].search(model)
    return int(found[1]) if found else otherwise


def _whole() -> bytes:
    message = {"role": "assistant", "content": TEXT, "refusal": None}
    usage = {"prompt_tokens": 20, "completion_tokens": 60, "total_tokens": 80}
    return orjson.dumps(
        {
            "id": "chatcmpl-canned",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": "canned",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": usage,
            "service_tier": "default",
            "system_fingerprint": "fp_canned",
        }
    )


def _event(rest: bytes) -> bytes:
    head = b'{"id":"chatcmpl-canned","object":"chat.completion.chunk","created":1760000000,"model":"canned",'
    data = b"data: " + head + rest + b"}\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _delta(delta: bytes, finish: bytes = b"null") -> bytes:
    return _event(b'"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]' % (delta, finish))


_ANSWER = _whole()
_WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: req_canned\r\n\r\n%b"
    % (len(_ANSWER), _ANSWER)
)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_FIRST = _delta(b'{"role":"assistant","content":"","refusal":null}')
_TAIL = (
    _delta(b"{}", b'"stop"')
    + _event(b'"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":50,"total_tokens":70}')
    + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """One kept-alive connection; requests come one after another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._held, 0, end)
            stop = end + 4 + (int(length[1]) if length else 0)
            if len(self._held) < stop:
                return
            asked, self._held = self._held[:stop], self._held[stop:]
            self._answer(asked)

    def _answer(self, asked: bytes) -> None:
        global calls  # noqa: PLW0603
        if asked.startswith(b"GET"):
            told, calls = b"%d" % calls, 0
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
            return
        calls += 1
        found = _MODEL.search(asked)
        model = found[1] if found else b""
        write = self._whole
        if b'"stream":true' in asked or b'"stream": true' in asked:
            write = partial(self._stream, _told("n", model, 20), _told("itl", model, 0) / 1000)
        wait_s = _told("lat", model, 0) / 1000
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, write)
        else:
            write()

    def _whole(self) -> None:
        self._transport.write(_WHOLE)

    def _stream(self, chunks: int, gap_s: float) -> None:
        if gap_s:
            self._transport.write(_STREAM + _FIRST)
            asyncio.get_running_loop().call_later(gap_s, self._further, 0, chunks, gap_s)
            return
        pieces = [_delta(b'{"content":"tok%d "}' % number) for number in range(chunks)]
        self._transport.write(b"".join([_STREAM, _FIRST, *pieces, _TAIL]))

    def _further(self, number: int, chunks: int, gap_s: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_delta(b'{"content":"tok%d "}' % number))
        if number + 1 == chunks:
            self._transport.write(_TAIL)
        else:
            asyncio.get_running_loop().call_later(gap_s, self._further, number + 1, chunks, gap_s)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1])))
