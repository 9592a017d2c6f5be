"""A word to the client's server when work has ended: signed, to allowed hosts only, and never the reason for a failure.

The signature is Standard Webhooks' (the one that OpenAI's clients verify): HMAC-SHA256 over `id.timestamp.body`,
base64, in `webhook-signature: v1,…`. The message names the work; whoever wants its content fetches it with a key.
Whether a URL may be called at all is decided by the function handed in, when it is given and again when it is used:
a host name may have come to mean another machine meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import orjson

from edgewise.clock import Clock
from edgewise.errors import EdgewiseError
from edgewise.jobs.batch import Batch
from edgewise.jobs.ports import Meter

TRIES = 3

Allowed = Callable[[str], Awaitable[None]]
"""Raises an `EdgewiseError` for a URL that must not be called."""
Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""POSTs a body without following redirects; the status, or OSError or TimeoutError."""


def signature(secret: str, id: str, at: int, body: bytes) -> str:
    """`secret` is base64 after `whsec_`, or any text."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    digest = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


@dataclass(slots=True)
class Webhooks:
    """Tells `event` ('response.completed', 'batch.failed', …) of the object `id` to `url`."""

    secret: str
    allowed: Allowed
    post: Post
    clock: Clock
    meter: Meter

    async def check(self, url: str) -> None:
        """Raises when `url` may not be called."""
        await self.allowed(url)

    async def batch_ended(self, batch: Batch) -> bool:
        """Tell of a batch whose metadata names a `webhook_url`; see `finish.Ended`."""
        return batch.webhook_url is None or await self.tell(batch.webhook_url, f"batch.{batch.status}", batch.id)

    async def tell(self, url: str, event: str, id: str) -> bool:
        """True when the server took it. Tried a few times; never raises for what the other side does."""
        now = int(self.clock.now())
        name = f"evt_{hashlib.blake2b(f'{event}#{id}'.encode(), digest_size=12).hexdigest()}"
        body = orjson.dumps({"id": name, "object": "event", "type": event, "created_at": now, "data": {"id": id}})
        headers = {
            "content-type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self.secret, name, now, body),
        }
        for tried in range(TRIES):
            try:
                await self.allowed(url)
                if 200 <= await self.post(url, body, headers) < 300:
                    return True
            except EdgewiseError:
                break
            except (OSError, TimeoutError):
                pass
            await self.clock.sleep(2**tried * (0.5 + self.clock.uniform()))
        self.meter.add("webhooks_failed")
        return False
