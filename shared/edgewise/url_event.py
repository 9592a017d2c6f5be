"""Function-URL events (payload 2.0) as ASGI, and ASGI's start of an answer as Lambda's prelude.

Header rules: `content-length` goes (a streamed answer has none), duplicates are joined with a comma, each Set-Cookie
is a cookie of the prelude, and an event's cookies come back together as one header. Pure.

Source: docs.aws.amazon.com/lambda, "Invoking Lambda function URLs"; the ASGI specification 3.0.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from edgewise.clock import Clock

DROPPED = frozenset({b"content-length", b"transfer-encoding", b"connection"})


@dataclass(frozen=True, slots=True)
class Context:
    """What Lambda's handlers get beside the event, as far as an app needs it."""

    aws_request_id: str
    invoked_function_arn: str
    deadline_ms: int
    clock: Clock

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the platform kills this invocation; never negative."""
        return max(0, self.deadline_ms - int(self.clock.now() * 1000))


def scope_of(event: Mapping[str, Any], state: dict[str, Any], context: Context) -> dict[str, Any]:
    """The ASGI scope of a payload-2.0 event. Raises KeyError when it is no such event."""
    request = event["requestContext"]
    headers = [(k.lower().encode("latin-1"), v.encode("latin-1", "replace")) for k, v in event["headers"].items()]
    if event.get("cookies"):
        headers = [header for header in headers if header[0] != b"cookie"]
        headers.append((b"cookie", "; ".join(event["cookies"]).encode("latin-1", "replace")))
    raw_path = event.get("rawPath") or "/"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request["http"]["method"],
        "scheme": event["headers"].get("x-forwarded-proto", "https"),
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("latin-1", "replace"),
        "query_string": event.get("rawQueryString", "").encode("latin-1", "replace"),
        "root_path": "",
        "headers": headers,
        "client": (request["http"].get("sourceIp", ""), 0),
        "server": (request.get("domainName", "localhost"), 443),
        "state": state.copy(),
        "aws.context": context,
    }


def body_of(event: Mapping[str, Any]) -> bytes:
    """The request body of a payload-2.0 event."""
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode("utf-8", "surrogatepass")


def prelude(start: Mapping[str, Any]) -> dict[str, Any]:
    """Lambda's prelude from an ASGI start message."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in start.get("headers", ()):
        key, text = bytes(name).lower(), bytes(value).decode("latin-1")
        if key == b"set-cookie":
            cookies.append(text)
        elif key not in DROPPED:
            word = key.decode("latin-1")
            headers[word] = f"{headers[word]}, {text}" if word in headers else text
    return {"statusCode": start["status"], "headers": headers, "cookies": cookies}
