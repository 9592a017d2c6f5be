"""What a provider's refusal means, told by its HTTP status and error code, never by its prose.

    400 404 413 422 …   the request itself: passed to the client as it is (`UpstreamRefused`); where its code says that
                        the prompt was too long or its content not wanted, that is told by the class
    401 402 403         our credentials or our account: not the client's fault, so 502; another provider may do
    408 504             too slow (`UpstreamTimeout`)            429   too many (`UpstreamRateLimited`)
    409 500 502 503 529 busy or broken (`UpstreamUnavailable`)

A spent quota arrives as 429 or 400 with a code; no retry helps it. The provider's message goes to the client only
where the client can act on it; our own credentials' trouble is told in our own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.errors import (
    ContentFiltered,
    ContextTooLong,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

BROKEN = "upstream_broken_answer"
"""Code of an answer that came with status 200 but is not whole or not JSON: it may have been charged."""

_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
_REASONS: dict[str | None, type[UpstreamRefused]] = {
    "context_length_exceeded": ContextTooLong,
    "content_policy_violation": ContentFiltered,
    # Azure's word, and that of OpenAI's reasoning models.
    "content_filter": ContentFiltered,
    "invalid_prompt": ContentFiltered,
}
_LONGEST_MESSAGE = 2000


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after` (seconds or an HTTP date); None when absent or senseless.

    `now` is seconds since the epoch. Header names are looked up as given: pass a case-insensitive mapping.
    """
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(milliseconds) / 1000)
        if (told := headers.get("retry-after")) is None:
            return None
        try:
            return max(0.0, float(told))
        except ValueError:
            from email.utils import parsedate_to_datetime

            return max(0.0, parsedate_to_datetime(told).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def refused(status: int, told: Mapping[str, Any] | None, wait_s: float | None = None) -> UpstreamError:
    """The error for an HTTP answer of `status` ≥ 300. `told` is the provider's error object, if it sent one:
    `message`, `type`, `param` and `code` are read. `wait_s` is its Retry-After."""
    told = told or {}
    code = _text(told.get("code")) or None
    kind = _text(told.get("type"))
    message = _text(told.get("message"))[:_LONGEST_MESSAGE]
    if code in _QUOTA or kind in _QUOTA or status == 402:
        return UpstreamError("The provider's account has no credit left.", code="upstream_quota")
    if status in (401, 403):
        return UpstreamError("The provider does not accept the gateway's credentials.", code="upstream_credentials")
    if status == 429:
        return UpstreamRateLimited(message or "The provider's rate limit is reached.", retry_after_s=wait_s)
    if status in (408, 504):
        return UpstreamTimeout(message or "The provider took too long.")
    if status in (409, 425) or status >= 500:
        shown = 503 if status in (503, 529, 409, 425) else 502
        return UpstreamUnavailable(message or "The provider is not available.", retry_after_s=wait_s, status=shown)
    if status < 400:
        return UpstreamError("The provider redirects, which is not followed.", code="upstream_redirect")
    if status == 404:
        code = code or "model_not_found"
    return _REASONS.get(code, UpstreamRefused)(
        message or f"The provider refused the request with status {status}.",
        status=status,
        code=code,
        param=_text(told.get("param")) or None,
    )


def in_band(told: Mapping[str, Any] | None, wait_s: float | None = None) -> UpstreamError:
    """The error for an error object that came as an event of a stream, before anything else did."""
    told = told or {}
    code = told.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else _BY_TYPE.get(_text(told.get("type")), 502)
    return refused(status, {**told, "code": None if isinstance(code, int) else code}, wait_s)


_BY_TYPE = {
    "api_error": 500,
    "authentication_error": 401,
    "billing_error": 402,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "request_too_large": 413,
    "timeout_error": 504,
}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
