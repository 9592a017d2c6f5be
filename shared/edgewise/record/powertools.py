"""Powertools' Logger and Metrics around the functions that nobody waits for (the worker, the upkeep).

Each invocation writes one line with its request id, whether the environment was new and what was done, and metrics in
the gateway's namespace and dimension. The gateway writes its own lines by hand (`edgewise.record.emf`): Powertools
would cost it a part of its start, and two lines where one does.

Only counts and the names of errors are written, never an event, a body or an error's message. Off Lambda nothing is
imported and the handler is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgewise.record.emf import NAMESPACE, UNITS, is_emf
from edgewise.settings import Settings

Handler = Callable[[Any, Any], Any]


def observed(handler: Handler, settings: Settings) -> Handler:
    """`handler` with a line and metrics for each invocation, where metrics go to CloudWatch."""
    if not is_emf(settings):
        return handler
    from aws_lambda_powertools import Logger, Metrics

    service = f"edgewise-{settings.stage}"
    logger = Logger(service=service, level=settings.log_level, log_uncaught_exceptions=False)
    metrics = Metrics(namespace=NAMESPACE, service=service)

    def observe(event: Mapping[str, Any], context: Any) -> Any:
        try:
            done = handler(event, context)
        except Exception as error:
            metrics.add_metric(name="InvocationsFailed", unit=UNITS["InvocationsFailed"], value=1)
            logger.error("failed", extra={"error": type(error).__name__})
            raise
        counts = counts_of(event, done)
        for name, value in counts.items():
            metrics.add_metric(name=name, unit=UNITS[name], value=value)
        logger.info("done", extra=counts)
        return done

    told: Handler = metrics.log_metrics(logger.inject_lambda_context(observe))
    return told


def counts_of(event: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, float]:
    """What an invocation did: the messages of a queue's event, or the chores of a scheduled one."""
    if "Records" in event:
        failed = len(done["batchItemFailures"])
        return {"JobMessages": len(event["Records"]), "JobMessagesBack": failed}
    return {"ChoresDone": len(done)}
