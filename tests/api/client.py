"""An HTTP client for an ASGI app in the same process: what goes over the wire, as bytes, in the order it went."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import KEY


@dataclass(slots=True)
class Got:
    """One response. `pieces` are the body's messages as they came."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    done: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object; it always has its four keys."""
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error

    @property
    def events(self) -> list[Any]:
        """The `data:` of every event, parsed; '[DONE]' as it is."""
        found: list[Any] = []
        for block in self.body.split(b"\n\n"):
            for line in block.split(b"\n"):
                if line.startswith(b"data: "):
                    found.append("[DONE]" if line == b"data: [DONE]" else json.loads(line[6:]))
        return found

    @property
    def chunks(self) -> list[Any]:
        return [event for event in self.events if event != "[DONE]"]

    @property
    def text(self) -> str:
        """The text that the stream carried."""
        return "".join(
            choice["delta"].get("content") or "" for chunk in self.chunks for choice in chunk.get("choices", ())
        )


class Client:
    """Speaks ASGI to `app`. `gone` may be set to hang up."""

    def __init__(self, app: Any, key: str | None = KEY) -> None:
        self.app = app
        self.key = key

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        pieces: list[bytes] | None = None,
        gone: asyncio.Event | None = None,
        got: Got | None = None,
        query: bytes = b"",
        extra: dict[str, Any] | None = None,
    ) -> Got:
        """One request. `raw` is sent as it is; `pieces` are sent one by one; `got` fills while the answer comes."""
        got = got or Got()
        sent = {"host": "testserver", **({"authorization": f"Bearer {self.key}"} if self.key else {})}
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        content = raw if raw is not None else (json.dumps(body).encode() if body is not None else b"")
        parts = list(pieces) if pieces is not None else [content]
        if pieces is None:
            sent.setdefault("content-length", str(len(content)))
        gone = gone or asyncio.Event()

        async def receive() -> dict[str, Any]:
            if parts:
                piece = parts.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(parts)}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            assert not got.done, f"{message['type']} after the end"
            if message["type"] == "http.response.start":
                assert not got.status, "a second start"
                got.status = message["status"]
                for name, value in message["headers"]:
                    assert name == name.lower()
                    assert b"\r" not in value and b"\n" not in value
                    got.headers[name.decode()] = value.decode("latin-1")
            else:
                assert got.status
                got.pieces.append(message.get("body", b""))
                got.done = not message.get("more_body", False)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("127.0.0.1", 5000),
            "server": ("testserver", 80),
            **(extra or {}),
        }
        await self.app(scope, receive, send)
        return got

    async def chat(self, text: str = "hello", **rest: Any) -> Got:
        """One chat completion; keyword arguments are body fields, `headers` are headers."""
        headers = rest.pop("headers", None)
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **rest}
        return await self.ask("POST", "/v1/chat/completions", body, headers=headers)
