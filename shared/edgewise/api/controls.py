"""What a client asks of the gateway itself: of its cache and its router.

Of the cache by RFC 9111's request directives in `Cache-Control`, by the body's `cache` object (LiteLLM's spelling,
which most clients already send) and by `x-edgewise-*` headers; of the router by the body's `routing` object and by
`x-edgewise-route*` headers. Where two say different things, the stricter cache control holds and the body's routing
wins. An unknown directive is ignored, as RFC 9111 §5.2 demands; a known one with a wrong value in the body is a 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.api.checks import Check, boolean, items, nullable, number, shape, text
from edgewise.chat import CacheAsk
from edgewise.errors import InvalidRequest

NO_WISH = CacheAsk()
LONGEST_S = 10 * 366 * 86_400.0
_SECONDS = nullable(number(0, LONGEST_S))
_FLAG = nullable(boolean)
_CACHE: dict[str, Check] = {
    "ttl": _SECONDS,
    "s-maxage": _SECONDS,
    "s-max-age": _SECONDS,
    "max-age": _SECONDS,
    "stale": _SECONDS,
    "no-cache": _FLAG,
    "no-store": _FLAG,
    "only-if-cached": _FLAG,
    "use-cache": _FLAG,
    "semantic": _FLAG,
    "namespace": nullable(text(at_least=1, at_most=128)),
    "tags": nullable(items(text(at_least=1, at_most=128), at_most=16)),
}
_CACHE_OBJECT = shape(_CACHE)
WISHES = (b"cache-control", b"pragma")
OURS = b"x-edgewise-"


def cache_ask(wished: Any, directives: Mapping[str, str | None], ours: Mapping[str, str]) -> CacheAsk:
    """What is asked of the cache.

    wished      the body's `cache` object, or None
    directives  of `Cache-Control`, lower case, without value: None
    ours        `x-edgewise-*` headers without that prefix
    """
    if wished is None and not directives and not ours:
        return NO_WISH
    body: dict[str, Any] = {}
    if wished is not None:
        flaw = _CACHE_OBJECT(wished)
        if flaw is not None:
            raise flaw.error("cache")
        body = wished
    off = body.get("use-cache") is False
    ages = [_seconds(directives, "max-age"), body.get("s-maxage"), body.get("s-max-age"), body.get("max-age")]
    stale = [_stale(directives), _seconds(directives, "stale-while-revalidate"), body.get("stale")]
    return CacheAsk(
        no_cache=off or "no-cache" in directives or bool(body.get("no-cache")),
        no_store=off or "no-store" in directives or bool(body.get("no-store")),
        only_if_cached="only-if-cached" in directives or bool(body.get("only-if-cached")),
        max_age_s=min((float(age) for age in ages if age is not None), default=None),
        ttl_s=_float(body.get("ttl")),
        stale_s=max((float(s) for s in stale if s is not None), default=None),
        namespace=_namespace(body.get("namespace") or ours.get("namespace") or ours.get("cache-namespace")),
        tags=_tags(body.get("tags"), ours.get("tags")),
        semantic=body.get("semantic"),
    )


def directives_of(value: str) -> dict[str, str | None]:
    """The directives of one `Cache-Control` (or `Pragma`) value; of a repeated one the first counts."""
    found: dict[str, str | None] = {}
    for part in value.split(","):
        name, has_value, argument = part.strip().partition("=")
        if name:
            found.setdefault(name.strip().lower(), argument.strip().strip('"') if has_value else None)
    return found


def _seconds(directives: Mapping[str, str | None], name: str) -> float | None:
    """A directive's delta-seconds. What is not a number of seconds counts as 0, the strictest reading."""
    if name not in directives:
        return None
    value = directives[name]
    return min(float(value[:12]), LONGEST_S) if value is not None and value.isascii() and value.isdigit() else 0.0


def _stale(directives: Mapping[str, str | None]) -> float | None:
    """`max-stale`; without a value any staleness will do (RFC 9111 §5.2.1.2)."""
    if "max-stale" in directives and directives["max-stale"] is None:
        return LONGEST_S
    return _seconds(directives, "max-stale")


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _namespace(value: str | None) -> str | None:
    if value is not None and len(value) > 128:
        raise InvalidRequest("A cache namespace has at most 128 characters.", param="cache.namespace")
    return value


def _tags(listed: list[str] | None, header: str | None) -> tuple[str, ...]:
    tags = [*(listed or ()), *(tag.strip() for tag in (header or "").split(","))]
    found = tuple(dict.fromkeys(tag for tag in tags if tag))
    if len(found) > 16 or any(len(tag) > 128 for tag in found):
        raise InvalidRequest("At most 16 tags, each of at most 128 characters.", param="cache.tags")
    return found


def routing_ask(wished: Any, ours: Mapping[str, str]) -> Mapping[str, Any]:
    """The body's `routing` object over the `x-edgewise-route*` headers: `x-edgewise-route: cheap` names a strategy,
    `x-edgewise-route-max-cost-usd: 0.01` sets the option `max_cost_usd`."""
    found: dict[str, Any] = {}
    for name, value in ours.items():
        if name == "route":
            found["strategy"] = value
        elif name.startswith("route-"):
            found[name[6:].replace("-", "_")] = value
    if wished is None:
        return found
    if type(wished) is not dict:
        raise InvalidRequest("Invalid value for 'routing': expected an object.", param="routing", code="invalid_type")
    return {**found, **{name.replace("-", "_"): value for name, value in wished.items()}}
