"""An entry as bytes: JSON, then zstd. The whole entry is inside, so the bytes can be kept anywhere.

A reader trusts nothing around the bytes: key, times and generation come from inside, so an item and the object it
points to cannot be mixed up by a race. Money is written as text and stays exact.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

import orjson

from edgewise.cache.port import Kept, StoreError
from edgewise.chat import Answer
from edgewise.words import Entry

FORMAT = 1
MOST_BYTES = 200_000_000
"""No entry unpacks to more; a function's memory is the bound."""


def fields_of(kept: Kept) -> dict[str, Any]:
    """The entry as a JSON object, for export and storage."""
    entry = kept.entry
    return {
        "format": FORMAT,
        "key": entry.key,
        "namespace": kept.namespace,
        "gen": kept.gen,
        "stored_at": kept.stored_at,
        "answer": entry.answer.completion,
        "created_at": entry.created_at,
        "fresh_until": entry.fresh_until,
        "expires_at": entry.expires_at,
        "model": entry.model,
        "provider": entry.provider,
        "cost_usd": None if entry.cost_usd is None else str(entry.cost_usd),
        "latency_ms": entry.latency_ms,
        "tags": entry.tags,
        "text": entry.text,
        "messages": entry.messages,
        "principals": entry.principals,
        "status": entry.status,
    }


def kept_of(fields: Any) -> Kept:
    """The reverse of `fields_of`. Raises StoreError for anything else."""
    try:
        if fields["format"] != FORMAT:
            raise StoreError(f"entry of unknown format {fields['format']!r}")
        cost = fields["cost_usd"]
        return Kept(
            Entry(
                key=str(fields["key"]),
                answer=Answer(dict(fields["answer"])),
                created_at=float(fields["created_at"]),
                fresh_until=float(fields["fresh_until"]),
                expires_at=float(fields["expires_at"]),
                model=str(fields["model"]),
                provider=str(fields["provider"]),
                cost_usd=None if cost is None else Decimal(cost),
                latency_ms=float(fields["latency_ms"]),
                tags=tuple(fields["tags"]),
                text=fields["text"],
                messages=None if fields.get("messages") is None else tuple(fields["messages"]),
                principals=tuple(fields["principals"]),
                status=int(fields["status"]),
            ),
            namespace=str(fields["namespace"]),
            gen=int(fields["gen"]),
            stored_at=fields.get("stored_at"),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise StoreError(f"entry that cannot be read: {type(error).__name__}") from error


def pack(kept: Kept) -> bytes:
    """The entry, compressed. Raises StoreError for an answer that JSON cannot hold."""
    try:
        return squeeze(orjson.dumps(fields_of(kept)))
    except TypeError as error:
        raise StoreError("answer that is not JSON") from error


def unpack(packed: bytes) -> Kept:
    """The reverse of `pack`. Raises StoreError."""
    try:
        return kept_of(orjson.loads(expand(packed)))
    except orjson.JSONDecodeError as error:
        raise StoreError("entry that is not JSON") from error


def squeeze(plain: bytes) -> bytes:
    """`plain`, compressed. Not for use by several threads at once."""
    compressed: bytes = _compressor().compress(plain)
    return compressed


@cache
def _compressor() -> Any:
    # Imported here: 11 ms of CPU that a request without a store never needs. Made once: that costs as much as using it.
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=3)


def expand(packed: bytes) -> bytes:
    """The reverse of `squeeze`. Raises StoreError."""
    from zstandard import ZstdDecompressor, ZstdError, frame_content_size

    try:
        if frame_content_size(packed) > MOST_BYTES:
            raise StoreError("entry larger than any that is written")
        return ZstdDecompressor().decompress(packed, max_output_size=MOST_BYTES)
    except ZstdError as error:
        raise StoreError("bytes that cannot be expanded") from error
