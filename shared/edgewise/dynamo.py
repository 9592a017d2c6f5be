"""DynamoDB's JSON protocol, spoken directly: what boto3 does for a `get_item`, at a sixth of the CPU.

A cache lookup is one signed POST. boto3 spends 1 ms of CPU on it and 0.3 s on getting ready, which a cold start and a
small Lambda pay in full (docs/decisions/0002-lean-dynamodb.md has the figures). This client signs (SigV4), keeps
connections, retries throttling and broken connections with full jitter, and takes credentials from the environment
or from the container endpoint (under SnapStart the environment holds none). Anything rarer stays with boto3.

A gateway's first request also reads its root key from Secrets Manager, whose protocol is the same but for three words;
`Service` holds them, so that no cold start has to load boto3.

It is blocking, and runs on the executor of `edgewise.aws`, which also translates its errors.

Sources: the SigV4 description in the AWS reference (canonical request, string to sign, signing key); DynamoDB's
low-level API (`X-Amz-Target`, `application/x-amz-json-1.0`). Tests compare every signature with botocore's signer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from random import random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from http.client import HTTPConnection
    from ssl import SSLContext

_RETRIED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "InternalServerError",
        "ServiceUnavailable",
        "TransactionInProgressException",
    }
)
_CREDENTIAL_MARGIN_S = 300


class ServiceError(Exception):
    """DynamoDB's answer when it is no. `body` is its JSON."""

    def __init__(self, code: str, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.status = status
        self.body = body


class NoConnection(Exception):
    """No answer came, after every try."""


@dataclass(frozen=True, slots=True)
class Keys:
    """AWS credentials; `expires_at` in seconds since the epoch, None for never."""

    access: str
    secret: str
    token: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where credentials come from: `keys` as given, or else an endpoint that hands out fresh ones."""

    keys: Keys | None = None
    endpoint: str | None = None
    endpoint_token: str | None = None

    @property
    def usable(self) -> bool:
        return self.keys is not None or self.endpoint is not None


@dataclass(frozen=True, slots=True)
class Service:
    """A service that speaks this protocol: its name in hosts and signatures, its targets' prefix, its JSON."""

    name: str
    target: str
    json: str


DYNAMODB = Service("dynamodb", "DynamoDB_20120810", "1.0")
SECRETS_MANAGER = Service("secretsmanager", "secretsmanager", "1.1")
SERVICES: Mapping[str, Service] = {service.name: service for service in (DYNAMODB, SECRETS_MANAGER)}


class Dynamo:
    """A client for one service in one region. Thread-safe; connections are kept and handed out last in, first out."""

    def __init__(
        self,
        region: str,
        source: Source,
        *,
        service: Service = DYNAMODB,
        endpoint_url: str | None = None,
        timeout_s: float = 5.0,
        attempts: int = 3,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        parts = urlsplit(endpoint_url or f"https://{service.name}.{region}.{suffix}")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._host_header = self._host if parts.port is None else f"{self._host}:{parts.port}"
        self._service, self._region, self._source = service, region, source
        self._timeout_s, self._attempts = timeout_s, attempts
        self._now, self._sleep = now, sleep
        self._idle: deque[HTTPConnection] = deque(maxlen=64)
        self._keys: Keys | None = source.keys
        self._signing: tuple[str, str, bytes] = ("", "", b"")
        self._lock = threading.Lock()

    def call(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """One operation in the service's own spelling (`GetItem`), typed values in and out.

        Binary values are bytes going in and base64 text coming out. Raises ServiceError, NoConnection.
        """
        import orjson

        body = orjson.dumps(arguments, default=_binary)
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                status, text = self._post(operation, body)
            except OSError as error:
                if last:
                    raise NoConnection(type(error).__name__) from error
            else:
                status, found = _parsed(status, text)
                if status == 200:
                    answer: dict[str, Any] = found
                    return answer
                code = str(found.get("__type", "Unknown")).rpartition("#")[2]
                if last or (code not in _RETRIED and status < 500):
                    raise ServiceError(code, status, found)
            self._sleep(random() * min(1.0, 0.05 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    def _post(self, operation: str, body: bytes) -> tuple[int, bytes]:
        from http.client import HTTPException, HTTPResponse

        headers = self.signed(operation, body, self._credentials())
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        asked = f"POST / HTTP/1.1\r\n{''.join(lines)}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body
        fresh = not self._idle
        connection = self._connection()
        try:
            if connection.sock is None:
                connection.connect()
            # In one piece: `request` sends head and body apart, which is a system call and a packet more.
            connection.sock.sendall(asked)
            answer = HTTPResponse(connection.sock, method="POST")
            answer.begin()
            text = answer.read()
        except (HTTPException, OSError) as error:
            connection.close()
            if fresh:
                raise OSError(type(error).__name__) from error
            # A kept connection that the other side has closed: the same request on a new one.
            self._idle.clear()
            return self._post(operation, body)
        if answer.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return answer.status, text

    def _connection(self) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        try:
            return self._idle.pop()
        except IndexError:
            if self._secure:
                return HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=_tls())
            return HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def signed(self, operation: str, body: bytes, keys: Keys) -> dict[str, str]:
        """The headers of one request, signed for this moment."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._now()))
        day = stamp[:8]
        headers = {
            "host": self._host_header,
            "x-amz-date": stamp,
            "x-amz-target": f"{self._service.target}.{operation}",
        }
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        names = ";".join(sorted(headers))
        canonical = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        digest = hashlib.sha256(body).hexdigest()
        request = f"POST\n/\n\n{canonical}\n{names}\n{digest}"
        scope = f"{day}/{self._region}/{self._service.name}/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._signing_key(day, keys), to_sign.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        headers["content-type"] = f"application/x-amz-json-{self._service.json}"
        headers["accept-encoding"] = "identity"
        return headers

    def _signing_key(self, day: str, keys: Keys) -> bytes:
        kept_day, kept_secret, key = self._signing
        if (kept_day, kept_secret) != (day, keys.secret):
            key = f"AWS4{keys.secret}".encode()
            for part in (day, self._region, self._service.name, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._signing = (day, keys.secret, key)
        return key

    def _credentials(self) -> Keys:
        keys = self._keys
        if keys is not None and (keys.expires_at is None or keys.expires_at - self._now() > _CREDENTIAL_MARGIN_S):
            return keys
        with self._lock:
            if self._keys is keys:
                self._keys = self._fetched()
            assert self._keys is not None
            return self._keys

    def _fetched(self) -> Keys:
        """Fresh credentials from the container endpoint (plain HTTP on a link-local address)."""
        import json
        import urllib.request
        from datetime import datetime

        if self._source.endpoint is None:
            raise NoConnection("no credentials")
        asking = urllib.request.Request(self._source.endpoint)  # noqa: S310 - the platform's own address
        if self._source.endpoint_token:
            asking.add_header("Authorization", self._source.endpoint_token)
        with urllib.request.urlopen(asking, timeout=2) as answer:  # noqa: S310
            found = json.load(answer)
        expires = datetime.fromisoformat(found["Expiration"].replace("Z", "+00:00")).timestamp()
        return Keys(found["AccessKeyId"], found["SecretAccessKey"], found.get("Token"), expires)

    def close(self) -> None:
        """Drop every kept connection."""
        while self._idle:
            self._idle.pop().close()


@cache
def _tls() -> SSLContext:
    """One context for all connections: each would read the certificate authorities again."""
    import ssl

    return ssl.create_default_context()


def _parsed(status: int, text: bytes) -> tuple[int, dict[str, Any]]:
    """An answer's status and JSON object. What something in between said in words of its own (a proxy's error page)
    is no answer of the service: a failure that may be tried again, whatever its status says."""
    import orjson

    try:
        found = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        found = None
    return (status, found) if isinstance(found, dict) else (max(status, 502), {})


def _binary(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"DynamoDB's JSON has no {type(value).__name__}")
