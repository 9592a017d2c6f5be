"""Everything that can be refused or fail, in one tree.

    EdgewiseError                    status, type, code, param, headers
    ├── InvalidRequest               400  the client's words are off; `param` is a JSON path
    │   ├── ContentRefused           400  content_policy_violation
    │   └── TooLarge                 413  request_too_large
    ├── NotAuthenticated             401  invalid_api_key
    ├── NotAllowed                   403
    ├── NotFound                     404
    │   └── ModelNotFound            404  model_not_found
    ├── MethodNotAllowed             405
    ├── Conflict                     409
    ├── RateLimited                  429  rate_limit_exceeded (worth a retry)
    │   └── QuotaExceeded            429  insufficient_quota (not worth one: x-should-retry: false)
    ├── UpstreamError                502  the provider failed; `status` is what the client sees
    │   ├── UpstreamRefused          4xx  the provider refused the request itself: no other attempt helps
    │   │   ├── ContextTooLong       400  context_length_exceeded: a model with a longer context may
    │   │   └── ContentFiltered      400  content_policy_violation: another provider may see it otherwise
    │   ├── UpstreamRateLimited      429  with the provider's Retry-After
    │   ├── UpstreamUnavailable      503  overloaded or unreachable: another attempt may help
    │   ├── UpstreamTimeout          504
    │   └── UpstreamDied             502  it stopped after the first byte
    ├── NotCached                    504  only-if-cached, and nothing is
    └── Unavailable                  503  a part of ours that must answer (policy) does not

Only `edgewise.api` turns these into JSON. Adapters raise them at the seam (`raise … from`), by class and status.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar


class EdgewiseError(Exception):
    """The root. `message` is shown to the client, so it never holds a secret or another's text."""

    status: int = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None
    spent_usd: Decimal | None = Decimal(0)
    """What had been paid for the request by then; None when a part of it is unknown."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status

    def body(self) -> dict[str, Any]:
        """The error in OpenAI's shape; all four keys are always there."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(EdgewiseError):
    status = 400
    type = "invalid_request_error"


class ContentRefused(InvalidRequest):
    code = "content_policy_violation"


class TooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class NotAuthenticated(EdgewiseError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class NotAllowed(EdgewiseError):
    status = 403
    type = "permission_error"
    code = "not_allowed"


class NotFound(EdgewiseError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(EdgewiseError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(EdgewiseError):
    status = 409
    type = "conflict_error"
    code = "conflict"


class RateLimited(EdgewiseError):
    """`retry_after_s` goes out as `Retry-After`, whole seconds, at least 1."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float | None = None, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.retry_after_s = retry_after_s
        if retry_after_s is not None:
            self.headers.setdefault("retry-after", str(max(1, round(retry_after_s))))


class QuotaExceeded(RateLimited):
    type = "insufficient_quota"
    code = "insufficient_quota"

    def __init__(self, message: str, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.headers["x-should-retry"] = "false"


class UpstreamError(EdgewiseError):
    """A provider failed. `retryable`: the same call may succeed if made again."""

    status = 502
    type = "upstream_error"
    code: str | None = "upstream_error"
    retryable: ClassVar[bool] = False


class UpstreamRefused(UpstreamError):
    status = 400
    type = "invalid_request_error"
    code: str | None = None


class ContextTooLong(UpstreamRefused):
    code = "context_length_exceeded"


class ContentFiltered(UpstreamRefused):
    code = "content_policy_violation"


class UpstreamRateLimited(UpstreamError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.retry_after_s = retry_after_s
        if retry_after_s is not None:
            self.headers.setdefault("retry-after", str(max(1, round(retry_after_s))))


class UpstreamUnavailable(UpstreamError):
    status = 503
    type = "service_unavailable_error"
    code = "upstream_unavailable"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.retry_after_s = retry_after_s


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"
    retryable = True


class UpstreamDied(UpstreamError):
    code = "upstream_died"


class NotCached(EdgewiseError):
    status = 504
    type = "invalid_request_error"
    code = "not_cached"


class Unavailable(EdgewiseError):
    status = 503
    type = "service_unavailable_error"
    code = "service_unavailable"
