"""The one check that a URL from outside may be fetched, by us or by a provider on our behalf.

Two parsers that read one URL differently are how such checks are passed (CVE-2026-24779 had a backslash), so what any
parser might read differently is refused: backslashes, control characters, spaces, userinfo, odd numbers for hosts.
Then the scheme is https, the port is the usual one, and every address that the name stands for is a public one. Who
fetches must connect to the addresses that were checked (`Checked.addresses`), follow no redirect, and give up after a
size and a time: a name may stand for another address a moment later.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from edgewise.errors import InvalidRequest
from edgewise.patterns import later

Resolve = Callable[[str], Awaitable[Iterable[str]]]
"""Every address of a host name."""

MAX_LENGTH = 8192
_SHAPE = later(r"https://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:[/?#][!-\[\]-~]*)?\Z")
_LABEL = later(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
_NUMBERS = later(r"(?:0[xX][0-9A-Fa-f]*|\d+)(?:\.(?:0[xX][0-9A-Fa-f]*|\d+))*\.?\Z")
_PLAIN = later(r"(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}")
_LOCAL = (".localhost", ".local", ".internal", ".intranet", ".lan", ".home", ".corp", ".arpa", ".onion", ".test")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Checked:
    """A URL that may be fetched. `addresses` is empty until the name was resolved."""

    url: str
    host: str
    port: int
    addresses: tuple[str, ...] = ()


def check_url(url: str, *, param: str | None = None, ports: frozenset[int] = frozenset({443})) -> Checked:
    """What can be said without asking the network. Raises InvalidRequest."""
    shape = _SHAPE.match(url) if len(url) <= MAX_LENGTH else None
    if shape is None:
        raise _refused("it must be a plain https URL", param)
    host, port = shape["host"].lower().rstrip("."), int(shape["port"] or 443)
    if port not in ports:
        raise _refused("its port is not allowed", param)
    if host.startswith("["):
        if not is_public(host[1:-1]):
            raise _refused("its address is not public", param)
    elif _NUMBERS.match(host):
        if not _PLAIN.fullmatch(host) or not is_public(host):
            raise _refused("its address is not public", param)
    elif "." not in host or host.endswith(_LOCAL) or not all(_LABEL.match(label) for label in host.split(".")):
        raise _refused("its host is not a public name", param)
    return Checked(url, host, port)


async def check_resolved(url: str, resolve: Resolve, *, param: str | None = None) -> Checked:
    """`check_url`, and every address of the host is public. Raises InvalidRequest."""
    checked = check_url(url, param=param)
    try:
        addresses = tuple(await resolve(checked.host.strip("[]")))
    except OSError as error:
        raise _refused("its host cannot be found", param) from error
    if not addresses or not all(map(is_public, addresses)):
        raise _refused("its address is not public", param)
    return Checked(checked.url, checked.host, checked.port, addresses)


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet; addresses that wrap another are judged by what they wrap."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast and not found.is_reserved


def _refused(why: str, param: str | None) -> InvalidRequest:
    return InvalidRequest(f"This URL may not be fetched: {why}.", param=param, code="url_not_allowed")
