"""CloudWatch as far as the alarms need it: metrics out of EMF lines, statistics by period, metric math, verdicts.

It reads the alarms from the template itself and evaluates their own expressions, so a test says what would wake
somebody, not what we think we wrote.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgewise.local import template

WATCH = Path(__file__).resolve().parents[2] / "infra" / "watch.yaml"
Series = dict[int, list[float]]
Key = tuple[str, str, tuple[tuple[str, str], ...]]


class Watch:
    """The template with its parameters filled in, and the metrics that have arrived."""

    def __init__(self, **parameters: str) -> None:
        self.template = template.load(WATCH)
        defaults = {name: each.get("Default", name) for name, each in self.template["Parameters"].items()}
        self.parameters = {**defaults, "AWS::Region": "us-east-1", "Stage": "test", **parameters}
        self._arrived: dict[Key, Series] = defaultdict(lambda: defaultdict(list))

    def alarm(self, name: str) -> dict[str, Any]:
        found = self.template["Resources"][name]
        assert found["Type"] == "AWS::CloudWatch::Alarm"
        filled: dict[str, Any] = self._filled(found["Properties"])
        return filled

    def alarms(self) -> list[str]:
        return [n for n, r in self.template["Resources"].items() if r["Type"] == "AWS::CloudWatch::Alarm"]

    def dashboard(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(
            self._filled(self.template["Resources"]["Dashboard"]["Properties"]["DashboardBody"])
        )
        return body

    def _filled(self, node: Any) -> Any:
        match node:
            case {"Ref": str(name)} if len(node) == 1:
                return self.parameters.get(name, name)
            case {"Fn::Sub": str(text)} if len(node) == 1:
                return re.sub(r"\$\{([^}]+)\}", lambda m: str(self.parameters[m[1]]), text)
            case dict():
                return {key: self._filled(value) for key, value in node.items()}
            case list():
                return [self._filled(value) for value in node]
        return node

    def take(self, lines: Iterable[bytes]) -> None:
        """Read log lines as CloudWatch does: only what `_aws` names becomes a metric."""
        for line in lines:
            found = json.loads(line)
            if "_aws" not in found:
                continue
            at = found["_aws"]["Timestamp"] // 1000
            for directive in found["_aws"]["CloudWatchMetrics"]:
                for names in directive["Dimensions"]:
                    dimensions = {name: found[name] for name in names}
                    for metric in directive["Metrics"]:
                        values = found[metric["Name"]]
                        for value in values if isinstance(values, list) else [values]:
                            self.put(directive["Namespace"], metric["Name"], dimensions, at, value)

    def put(self, namespace: str, name: str, dimensions: Mapping[str, str], at: float, value: float) -> None:
        self._arrived[namespace, name, tuple(sorted(dimensions.items()))][int(at)].append(value)

    def _statistic(self, metric: Mapping[str, Any], stat: str, start: int, period: int) -> float | None:
        dimensions = tuple(sorted((d["Name"], str(d["Value"])) for d in metric.get("Dimensions", ())))
        series = self._arrived.get((metric["Namespace"], metric["MetricName"], dimensions), {})
        values = sorted(v for at, each in series.items() if start <= at < start + period for v in each)
        if not values:
            return None
        if stat.startswith("p"):
            return values[max(1, math.ceil(float(stat[1:]) / 100 * len(values))) - 1]
        return {"Sum": sum(values), "Maximum": values[-1], "Average": sum(values) / len(values)}[stat]

    def shows(self, label: str, at: float) -> float | None:
        """What the dashboard's line `label` shows of the period that holds `at`, by its own expression."""
        for widget in self.dashboard()["widgets"]:
            told = widget["properties"]
            rows = [row for row in told["metrics"] if isinstance(row[0], dict) and row[0].get("label") == label]
            if rows:
                return self._line(rows[0][0]["expression"], told, int(at) // told["period"] * told["period"])
        raise KeyError(label)

    def _line(self, expression: str, told: Mapping[str, Any], start: int) -> float | None:
        values: dict[str, float | None] = {}
        for namespace, name, *pairs, options in (row for row in told["metrics"] if isinstance(row[0], str)):
            dimensions = [{"Name": n, "Value": v} for n, v in zip(pairs[::2], pairs[1::2], strict=True)]
            metric = {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions}
            values[options["id"]] = self._statistic(metric, options["stat"], start, told["period"])
        expression = re.sub(r"PERIOD\(\w+\)", str(told["period"]), expression)
        return _evaluate(ast.parse(expression, mode="eval").body, values)

    def rings(self, name: str, at: float) -> bool:
        """Whether the alarm is in ALARM after the period that holds `at`."""
        alarm = self.alarm(name)
        stats = [m["MetricStat"]["Period"] for m in alarm.get("Metrics", ()) if "MetricStat" in m]
        period = int(alarm.get("Period") or stats[0])
        last = int(at) // period * period
        periods = [last - number * period for number in range(int(alarm["EvaluationPeriods"]))]
        over = sum(self._breaches(alarm, start, period) for start in periods)
        return over >= int(alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]))

    def _breaches(self, alarm: Mapping[str, Any], start: int, period: int) -> bool:
        if "Metrics" in alarm:
            value = self._math(alarm["Metrics"], start)
        else:
            value = self._statistic(alarm, alarm["Statistic"], start, period)
        if value is None:
            return str(alarm["TreatMissingData"]) == "breaching"
        bound = float(alarm["Threshold"])
        above = {"GreaterThanThreshold": value > bound, "GreaterThanOrEqualToThreshold": value >= bound}
        return above[alarm["ComparisonOperator"]]

    def _math(self, metrics: list[Mapping[str, Any]], start: int) -> float | None:
        values: dict[str, float | None] = {}
        expression = ""
        for each in metrics:
            if "Expression" in each:
                expression = each["Expression"]
            else:
                stat = each["MetricStat"]
                values[each["Id"]] = self._statistic(stat["Metric"], stat["Stat"], start, int(stat["Period"]))
        return _evaluate(ast.parse(expression, mode="eval").body, values)


def _evaluate(node: ast.expr, values: Mapping[str, float | None]) -> float | None:
    """Metric math: a missing series makes what is computed from it missing, except under FILL."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return values[name]
        case ast.Call(func=ast.Name(id="FILL"), args=[inner, other]):
            found = _evaluate(inner, values)
            return _evaluate(other, values) if found is None else found
        case ast.Call(func=ast.Name(id="IF"), args=[test, yes, no]):
            truth = _evaluate(test, values)
            return None if truth is None else _evaluate(yes if truth else no, values)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            one, two = _evaluate(left, values), _evaluate(right, values)
            if one is None or two is None:
                return None
            return float({ast.GtE: one >= two, ast.Gt: one > two}[type(op)])
        case ast.BinOp(left=left, op=op, right=right):
            one, two = _evaluate(left, values), _evaluate(right, values)
            if one is None or two is None or (isinstance(op, ast.Div) and two == 0):
                return None
            return {ast.Mult: one * two, ast.Add: one + two, ast.Div: one / (two or 1)}[type(op)]
    raise NotImplementedError(ast.dump(node))
