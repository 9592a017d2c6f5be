"""A stand-in for DynamoDB with vector indexes: moto's table, and `SearchVectors` as the service's own model says.

moto keeps the items and knows neither vector indexes nor the operation. This answers it from moto's items: requests and
answers are held to botocore's model of the service, results are the nearest of one hash value by cosine distance, and
an item without the index's attribute is not in the index. What it cannot show: how soon an item that was put is found,
approximate neighbours, throttling, and what the service calls an index that is not there.
"""

from __future__ import annotations

from typing import Any

import botocore.session
import numpy as np
from botocore.validate import ParamValidator

from edgewise.aws import Aws, AwsError

_SERVICE = botocore.session.get_session().get_service_model("dynamodb").operation_model("SearchVectors")


class VectorAws(Aws):
    """`indexes` by name to their definitions; `searches` counts."""

    def __init__(self, aws: Aws, *definitions: dict[str, Any]) -> None:
        super().__init__(aws.options)
        self.indexes = {each["IndexName"]: each for each in definitions}
        self.searches = 0

    async def call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation != "search_vectors":
            return await super().call(service, operation, **arguments)
        self.searches += 1
        _held_to(_SERVICE.input_shape, arguments)
        index = self.indexes.get(arguments["IndexName"])
        if index is None:
            raise AwsError("ResourceNotFoundException", "no such index", 400)
        vector = np.array([float(each["N"]) for each in arguments["SearchVector"]])
        assert len(vector) == index["Dimensions"]
        (hashed,) = [each["AttributeName"] for each in index["SearchSchema"]]
        assert arguments["SearchConditionExpression"] == f"#{hashed} = :{hashed}"
        wanted = arguments["ExpressionAttributeValues"][f":{hashed}"]
        names = [arguments["ExpressionAttributeNames"].get(n, n) for n in arguments["ProjectionExpression"].split(", ")]
        assert set(names) <= {*index["Projection"]["NonKeyAttributes"], "pk", "sk", hashed}
        attribute = index["VectorAttribute"]["AttributeName"]
        page = await super().call("dynamodb", "scan", TableName=arguments["TableName"], ConsistentRead=True)
        found: list[dict[str, Any]] = []
        for item in page["Items"]:
            if item.get(hashed) == wanted and attribute in item:
                row = np.array([float(each["N"]) for each in item[attribute]["L"]])
                distance = 1 - float(row @ vector) / float(np.linalg.norm(row) * np.linalg.norm(vector))
                found.append({"Item": {name: item[name] for name in names if name in item}, "Score": distance})
        answer = {"SearchResults": sorted(found, key=lambda each: each["Score"])[: arguments["TopK"]]}
        _held_to(_SERVICE.output_shape, answer)
        return answer


def _held_to(shape: Any, value: dict[str, Any]) -> None:
    report = ParamValidator().validate(value, shape)
    assert not report.has_errors(), report.generate_report()
