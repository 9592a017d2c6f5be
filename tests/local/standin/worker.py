"""An SQS handler whose messages say what becomes of them."""

from __future__ import annotations

import json
from typing import Any


def handler(event: dict[str, Any], context: object) -> Any:
    orders = {record["messageId"]: json.loads(record["body"]) for record in event["Records"]}
    assert all(record["eventSource"] == "aws:sqs" for record in event["Records"])
    if any(order.get("crash") for order in orders.values()):
        raise RuntimeError("crash")
    return {"batchItemFailures": [{"itemIdentifier": name} for name, order in orders.items() if order.get("fail")]}
