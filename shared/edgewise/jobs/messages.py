"""What travels on the jobs queue, as JSON.

    {"kind": "validate", "batch": id}                 check the file, draft its plan, send the first chunks
    {"kind": "chunk", "batch": id, "chunk": 12}       work these lines
    {"kind": "finish", "batch": id}                   write the output and error files
    {"kind": "response", "id": id}                    a background answer
    {"kind": "task", "id": id}                        a task of `edgewise.jobs.tasks`

and the form for those who may send to the queue themselves (their right to do so is AWS's, by IAM; whom they act
for is said in the message):

    {"tenant": "acme", "key_id": "k_1", "requests": [{"custom_id": …, "url": …, "body": …}, …]}

or one request at the top level instead of `requests`. It becomes a batch whose id follows from `id`, or from the
message's own id when there is none, so that a message delivered twice is one batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

KINDS = ("validate", "chunk", "finish", "response", "task")


class Unreadable(Exception):
    """A message that no try will make sense of."""


@dataclass(frozen=True, slots=True)
class Work:
    """A message of the room's own."""

    kind: str
    id: str
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Direct:
    """Requests from somebody who sends to the queue; `lines` is their batch file."""

    batch_id: str
    tenant: str
    key_id: str
    endpoint: str
    lines: bytes
    metadata: Mapping[str, str]


def read(body: str, message_id: str) -> Work | Direct:
    """Raises Unreadable."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreadable("The message is not JSON.") from error
    if not isinstance(found, dict):
        raise Unreadable("The message is not a JSON object.")
    kind = found.get("kind")
    if kind is None:
        return _direct(found, message_id)
    if kind not in KINDS:
        raise Unreadable(f"No work is of the kind {str(kind)[:40]!r}.")
    name = found.get("batch", found.get("id"))
    chunk = found.get("chunk", 0)
    if not isinstance(name, str) or not isinstance(chunk, int):
        raise Unreadable("The message names no work.")
    return Work(kind, name, chunk)


def _direct(found: Mapping[str, Any], message_id: str) -> Direct:
    tenant, key_id = found.get("tenant"), found.get("key_id")
    if not isinstance(tenant, str) or not tenant or not isinstance(key_id, str) or not key_id:
        raise Unreadable("A message with requests names its `tenant` and `key_id`.")
    requests = found.get("requests", [found])
    if not isinstance(requests, list) or not requests or not all(isinstance(r, dict) for r in requests):
        raise Unreadable("`requests` must be a list of at least one object.")
    lines = [
        {
            "custom_id": request.get("custom_id", f"request-{number}"),
            "method": request.get("method", "POST"),
            "url": request.get("url"),
            "body": request.get("body"),
        }
        for number, request in enumerate(requests, 1)
    ]
    # 26 digits, not the 24 letters of a minted identifier: this one does not begin with the time.
    name = hashlib.blake2b(orjson.dumps([tenant, found.get("id") or message_id]), digest_size=13).hexdigest()
    return Direct(
        batch_id=f"batch_{name}",
        tenant=tenant,
        key_id=key_id,
        endpoint=str(lines[0]["url"]),
        lines=b"\n".join(orjson.dumps(line) for line in lines) + b"\n",
        metadata={"source": "sqs"} | ({"message": str(found["id"])[:512]} if found.get("id") else {}),
    )
