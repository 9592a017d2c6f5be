"""The root key and the pepper: the two secrets that everything else in this room hangs on.

The root key opens every door. The pepper turns a client's key into the digest under which it is stored, so a stolen
table opens none. Neither is ever kept or compared as text: what is held is a SHA-256 digest, and digests are compared
in constant time, so that neither the content nor the length of a secret shows in the answer's timing.

A gateway without a root key does not start: an open gateway on the internet is somebody else's model bill.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Protocol

PEPPER_LABEL = b"edgewise pepper 1"


class NoRootKey(RuntimeError):
    """Neither a root key nor the name of its secret is configured."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The digests of the root key (SHA-256, 32 bytes) and the pepper (32 bytes or more)."""

    root_digest: bytes = field(repr=False)
    pepper: bytes = field(repr=False)

    @classmethod
    def of(cls, root_key: str, pepper: str | None = None) -> Secrets:
        """From the secrets' text. Without a pepper of its own, one is derived from the root key; then changing
        the root key changes every key's digest, so a deployment that rotates its root key sets both."""
        root = root_key.encode()
        return cls(
            hashlib.sha256(root).digest(),
            pepper.encode() if pepper else hmac.digest(root, PEPPER_LABEL, "sha256"),
        )

    def is_root(self, hashed: bytes) -> bool:
        """Whether a token that was `hashed` is the root key, in constant time."""
        return hmac.compare_digest(hashed, self.root_digest)


def hash_of(token: str) -> bytes:
    """The SHA-256 of a token, under which this process knows it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Vault(Protocol):
    """Where the secrets come from. Raises `Unavailable` when they cannot be had: then nobody gets in."""

    async def secrets(self) -> Secrets: ...


@dataclass(frozen=True, slots=True)
class FixedVault:
    """Secrets that are known from the start (settings, tests)."""

    known: Secrets

    async def secrets(self) -> Secrets:
        return self.known
