"""Makes moto's conditional writes atomic, as DynamoDB's are.

moto's server answers on threads, and a write there looks at its condition first and changes the item afterwards: two
requests at once can both find a lease free. DynamoDB never does that, so a test that relied on luck would prove
nothing, and one that relies on DynamoDB would fail now and then. One lock around each write puts it right.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

WRITES = ("put_item", "update_item", "delete_item", "transact_write_items", "get_item", "query", "scan")
"""Reads too: moto copies its tables at the start of a transaction, and a read may add an empty partition meanwhile."""


def make_atomic() -> None:
    """Lock the writes of moto's DynamoDB in this process; a second time changes nothing."""
    from moto.dynamodb.models import DynamoDBBackend

    if hasattr(DynamoDBBackend.update_item, "__wrapped__"):
        return
    # Reentrant: a transaction is made of writes.
    lock = threading.RLock()
    for name in WRITES:
        setattr(DynamoDBBackend, name, _locked(getattr(DynamoDBBackend, name), lock))


def _locked(write: Callable[..., Any], lock: threading.RLock) -> Callable[..., Any]:
    @functools.wraps(write)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return write(*args, **kwargs)

    return locked
