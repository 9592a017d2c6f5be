"""The shape of a key: `ew_live_` + 33 characters of randomness + 6 of checksum.

33 base-62 characters carry 192 random bits. The checksum (CRC-32) is no secret: it lets a mistyped or invented key
be refused without asking any store, and lets secret scanners know a real one (GitHub's token format has the same).
What is stored is the HMAC-SHA-256 of the key under the pepper, so a table that leaks opens nothing. A slow hash is for
passwords, which people choose; 192 random bits cannot be guessed.
"""

from __future__ import annotations

import hmac
import zlib
from collections.abc import Callable

PREFIX = "ew_live_"
RANDOM_BYTES = 24
RANDOM_CHARS = 33
CHECK_CHARS = 6
LENGTH = len(PREFIX) + RANDOM_CHARS + CHECK_CHARS

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def mint(random_bytes: Callable[[int], bytes]) -> str:
    """A new key. `random_bytes(n)` gives n bytes from a cryptographic source."""
    body = PREFIX + _base62(int.from_bytes(random_bytes(RANDOM_BYTES), "big"), RANDOM_CHARS)
    return body + _checksum(body)


def is_well_formed(token: str) -> bool:
    """Whether `token` could be a key at all: prefix, length and checksum."""
    if len(token) != LENGTH or not token.startswith(PREFIX) or not token.isascii():
        return False
    return _checksum(token[:-CHECK_CHARS]) == token[-CHECK_CHARS:]


def digest(token: str, pepper: bytes) -> str:
    """64 hex digits under which the key is stored."""
    return hmac.digest(pepper, token.encode("utf-8", "surrogatepass"), "sha256").hex()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
