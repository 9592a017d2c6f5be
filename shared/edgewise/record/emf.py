"""The metrics of a request, in CloudWatch's Embedded Metric Format, on the request's own log line.

EMF is a JSON object with an `_aws` member that names which of its other members are metrics; CloudWatch extracts
them from the log, so a metric costs no call. Putting them on the line that is written anyway costs one write, not
two. The shape is written by hand because Powertools' Metrics takes 95 ms of import, a quarter of this gateway's cold
start; a test holds this file's output against what Powertools itself serialises. Functions that nobody waits for
use Powertools (`edgewise.record.powertools`).

Every dimension set of a metric is a billed custom metric. So: one set `[service]` for everything, and one
`[service, model]` for what is asked by model. Tenants and keys are never dimensions; roll-ups have those.

Source  docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from edgewise.errors import NotCached
from edgewise.settings import Settings
from edgewise.words import Note

NAMESPACE = "Edgewise"

UNITS: dict[str, str] = {
    "RequestLatency": "Milliseconds",
    "UpstreamLatency": "Milliseconds",
    "Overhead": "Milliseconds",
    "TimeToFirstToken": "Milliseconds",
    "Requests": "Count",
    "Errors": "Count",
    "ErrorsClient": "Count",
    "ErrorsUpstream": "Count",
    "ErrorsGateway": "Count",
    "Throttled": "Count",
    "Attempts": "Count",
    "TokensIn": "Count",
    "TokensOut": "Count",
    "TokensCached": "Count",
    "TokensCompressed": "Count",
    "CostMicroUSD": "None",
    "SavedMicroUSD": "None",
    "CostUnknown": "Count",
    "Confidence": "None",
    "Completed": "Count",
    "Truncated": "Count",
    "Filtered": "Count",
    "CacheHit": "Count",
    "CacheHitExact": "Count",
    "CacheHitSemantic": "Count",
    "CacheHitStale": "Count",
    "CacheHitCoalesced": "Count",
    "CacheMiss": "Count",
    "CacheBypass": "Count",
    "CacheBytes": "Bytes",
    "CacheEntries": "Count",
    "CacheExpired": "Count",
    "CacheEvicted": "Count",
    "CacheError": "Count",
    "FeedbackCount": "Count",
    "FeedbackScore": "None",
    "JudgeChecked": "Count",
    "JudgeFailed": "Count",
    "InjectionFlagged": "Count",
    "PIIFound": "Count",
    "GuardrailIntervened": "Count",
    "AuthFailed": "Count",
    "Banned": "Count",
    "PolicyViolation": "Count",
    "BudgetUsedPct": "Percent",
    "BudgetRefused": "Count",
    "SettleFailed": "Count",
    "BatchLinesDone": "Count",
    "BatchLinesFailed": "Count",
    "BackgroundFailed": "Count",
    "JobMessages": "Count",
    "JobMessagesBack": "Count",
    "ChoresDone": "Count",
    "InvocationsFailed": "Count",
}
"""Every metric of the product with its CloudWatch unit. The dashboard shows each; a test holds it to that."""


def is_emf(settings: Settings) -> bool:
    """Whether metrics go to CloudWatch by the log: where they are asked for, and on Lambda unless they are not."""
    return settings.metrics == "emf" or (settings.metrics is None and settings.function_name is not None)


BY_MODEL = frozenset(
    {"Requests", "RequestLatency", "TimeToFirstToken", "TokensIn", "TokensOut", "CostMicroUSD", "Errors"}
)

HIT_METRICS = {
    "exact": "CacheHitExact",
    "text": "CacheHitExact",
    "semantic": "CacheHitSemantic",
    "stale": "CacheHitStale",
    "coalesced": "CacheHitCoalesced",
}
CACHE_METRICS = {"hit": "CacheHit", "miss": "CacheMiss", "bypass": "CacheBypass"}
FINISH_METRICS = {"stop": "Completed", "tool_calls": "Completed", "length": "Truncated", "content_filter": "Filtered"}
BESIDE = frozenset({"shadow", "judge", "refresh", "dry-run"})
"""Routes of calls that the gateway makes of its own accord, and of dry runs: they may cost, but are no traffic."""
FLAG_METRICS = {"injection": "InjectionFlagged", "pii": "PIIFound", "guardrail": "GuardrailIntervened"}
STORE_TROUBLE = ("store-error", "store-slow")


def metrics_of(note: Note) -> dict[str, float]:
    """The request's metrics by name. Money in millionths of a dollar, times in ms."""
    if note.route in BESIDE:
        return _money(note, {})
    found: dict[str, float] = {"Requests": 1, "RequestLatency": note.latency_ms, "Overhead": note.overhead_ms}
    if note.status >= 400:
        _add_errors(found, note)
    else:
        found["Errors"] = 0
    if note.first_ms is not None:
        found["TimeToFirstToken"] = note.first_ms
    if note.usage is not None:
        found["TokensIn"] = note.usage.prompt_tokens
        found["TokensOut"] = note.usage.completion_tokens
        if note.usage.cached_tokens:
            found["TokensCached"] = note.usage.cached_tokens
    _money(note, found)
    if note.saved_usd is not None:
        found["SavedMicroUSD"] = float(note.saved_usd) * 1e6 if note.saved_usd else 0.0
    if note.saved_tokens:
        found["TokensCompressed"] = note.saved_tokens
    if note.confidence is not None:
        found["Confidence"] = note.confidence
    _add_cache(found, note)
    if note.finish is not None and (word := FINISH_METRICS.get(note.finish)) is not None:
        found[word] = 1
    for flag in note.flags:
        if (word := FLAG_METRICS.get(flag.partition(":")[0])) is not None:
            found[word] = 1
    return found


def _money(note: Note, found: dict[str, float]) -> dict[str, float]:
    """The calls that were made for it, and their cost: all there is of a call that is beside a request."""
    if note.attempts:
        found["Attempts"] = len(note.attempts)
        found["UpstreamLatency"] = sum(attempt.latency_ms for attempt in note.attempts)
    if note.cost_usd is not None:
        found["CostMicroUSD"] = float(note.cost_usd) * 1e6 if note.cost_usd else 0.0
    elif note.attempts:
        found["CostUnknown"] = 1
    return found


def _add_cache(found: dict[str, float], note: Note) -> None:
    if (word := CACHE_METRICS.get(note.cache)) is not None:
        found[word] = 1
    if note.cache_kind is not None:
        found[HIT_METRICS[note.cache_kind]] = 1
    if note.cache_reason in STORE_TROUBLE:
        found["CacheError"] = 1
    if note.cache_reason == "expired":
        found["CacheExpired"] = 1


def is_ours(status: int, error: str | None) -> bool:
    """Whether it is no fault of the client's. only-if-cached that finds nothing is its 504: RFC 9111 wants it so."""
    return status >= 500 and error != NotCached.code


def _add_errors(found: dict[str, float], note: Note) -> None:
    """`Errors` are the ones that wake somebody: ours and the providers', not a client's bad request."""
    failed_upstream = bool(note.attempts) and note.attempts[-1].error is not None
    ours = is_ours(note.status, note.error)
    found["Errors"] = 1 if ours else 0
    if ours:
        found["ErrorsUpstream" if failed_upstream else "ErrorsGateway"] = 1
    else:
        found["ErrorsClient"] = 1
    if note.status == 429:
        found["Throttled"] = 1
    if note.status == 401:
        found["AuthFailed"] = 1
    if note.status == 403 or note.error == "content_policy_violation":
        found["PolicyViolation"] = 1
    if note.error == "insufficient_quota":
        found["BudgetRefused"] = 1


@lru_cache(maxsize=256)
def _directives(names: tuple[str, ...], by_model: bool) -> Any:
    """What `_aws` says of these metrics, already as JSON: requests of one kind all have the same ones, and writing
    them out anew was a third of a line's cost."""
    declared = [{"Name": name, "Unit": UNITS[name]} for name in names]
    directives = [{"Namespace": NAMESPACE, "Dimensions": [["service"]], "Metrics": declared}]
    if by_model:
        some = [each for each in declared if each["Name"] in BY_MODEL]
        directives.append({"Namespace": NAMESPACE, "Dimensions": [["service", "model"]], "Metrics": some})
    return orjson.Fragment(orjson.dumps(directives))


def embed(
    line: dict[str, Any], values: Mapping[str, float], *, service: str, at: float, model: str | None = None
) -> None:
    """Put `values` on `line` as CloudWatch finds them. at is seconds since the epoch; model adds the second
    dimension set. The line is for orjson. Raises KeyError for a metric that is not in `UNITS`."""
    line["_aws"] = {
        "Timestamp": int(at * 1000),
        "CloudWatchMetrics": _directives(tuple(values), model is not None),
    }
    line["service"] = service
    if model is not None:
        line["model"] = model
    line.update(values)
