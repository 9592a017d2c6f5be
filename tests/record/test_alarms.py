"""What wakes somebody up, by the alarms' own expressions over the lines that the gateway writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewise.clock import FakeClock
from edgewise.record.emf import NAMESPACE, UNITS
from edgewise.record.room import RecordRoom
from tests.record.cloudwatch import Watch
from tests.record.test_room import a_note

START = 1_800_000_000.0


class Scene:
    """A gateway's log on one side, the alarms on the other."""

    def __init__(self) -> None:
        self.clock = FakeClock(START)
        self.watch = Watch()
        self.room = RecordRoom(self.clock, service="edgewise-test", out=lambda line: self.watch.take([line]), emf=True)

    def asked(self, times: int, minute: int = 0, **changes: Any) -> None:
        for number in range(times):
            self.room.note(a_note(at=START + 60 * minute + number % 60, **changes))

    def rings(self, name: str, minute: int = 0) -> bool:
        return self.watch.rings(name, START + 60 * minute)


BAD: dict[str, Any] = {"status": 502, "error": "upstream_died"}


@pytest.mark.parametrize(
    ("good", "bad", "rings"),
    [(94, 6, True), (95, 5, False), (100, 0, False), (0, 19, False), (0, 20, True), (18, 1, False), (0, 0, False)],
)
def test_more_than_five_in_a_hundred_failed_and_enough_were_asked(good: int, bad: int, rings: bool) -> None:
    scene = Scene()
    scene.asked(good)
    scene.asked(bad, **BAD)
    assert scene.rings("ErrorShare") is rings


def test_a_stream_that_died_after_its_200_counts() -> None:
    scene = Scene()
    scene.asked(50)
    scene.asked(50, stream=True, first_ms=10.0, **BAD)
    assert scene.rings("ErrorShare")


def test_clients_mistakes_wake_nobody() -> None:
    scene = Scene()
    scene.asked(50, status=400, error="invalid_value")
    scene.asked(50, status=429, error="rate_limit_exceeded")
    assert not any(scene.rings(name) for name in scene.watch.alarms())


def test_the_slowest_hundredth_in_three_minutes_of_five() -> None:
    scene = Scene()
    for minute in range(5):
        scene.asked(98, minute)
        scene.asked(2, minute, latency_ms=5001.0 if minute >= 3 else 100.0)
    assert not scene.rings("Slow", 4)
    scene.asked(98, 5)
    scene.asked(2, 5, latency_ms=6000.0)
    assert scene.rings("Slow", 5)


@pytest.mark.parametrize(("a_minute", "rings"), [(19, False), (20, True)])
def test_slowness_is_judged_on_as_few_requests_as_errors_are(a_minute: int, rings: bool) -> None:
    scene = Scene()
    for minute in range(3):
        scene.asked(a_minute, minute, latency_ms=6000.0)
    assert scene.rings("Slow", 2) is rings


def test_no_alarm_waits_for_a_thousand_requests_a_minute() -> None:
    """Fewer are too few for CloudWatch to judge a plain alarm's P99 by, and the alarm stays as it is."""
    watch = Watch()
    assert [name for name in watch.alarms() if "ExtendedStatistic" in watch.alarm(name)] == []


@pytest.mark.parametrize(("used", "rung"), [(49.9, 0), (50, 1), (79, 1), (80, 2), (100, 3)])
def test_a_budget_rings_at_half_at_four_fifths_and_at_its_end(used: float, rung: int) -> None:
    scene = Scene()
    scene.room.signal("BudgetUsedPct", 3)
    scene.room.signal("BudgetUsedPct", used)
    assert sum(scene.rings(name) for name in ("Budget50", "Budget80", "Budget100")) == rung


def test_a_refusal_for_money_is_a_budget_at_its_end() -> None:
    scene = Scene()
    scene.asked(1, status=429, error="insufficient_quota")
    assert scene.rings("Budget100")


def test_bans_unsettled_money_and_floods_of_bad_keys_ring() -> None:
    scene = Scene()
    assert not scene.rings("Bans")
    scene.room.signal("Banned")
    scene.room.signal("SettleFailed")
    scene.asked(101, status=401, error="invalid_api_key", attempts=(), cost_usd=None)
    assert scene.rings("Bans") and scene.rings("Unsettled") and scene.rings("BadKeyFlood")


@pytest.mark.parametrize(("failed", "rings"), [(0, False), (5, False), (6, True), (20, True)])
def test_a_judge_that_fails_a_quarter_of_its_checks_in_an_hour_rings(failed: int, rings: bool) -> None:
    scene = Scene()
    for number in range(20):
        scene.room.signal("JudgeChecked")
        if number < failed:
            scene.room.signal("JudgeFailed")
    assert scene.rings("BrokenJudge") is rings


def test_dead_letters_ring_at_the_first_and_age_after_three_minutes() -> None:
    watch = Watch(JobsQueue="jobs", DeadLetterQueue="dead")
    assert not watch.rings("DeadLetters", START)
    watch.put("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "dead"}, START, 1)
    assert watch.rings("DeadLetters", START)
    for minute in range(2):
        watch.put("AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": "jobs"}, START + 60 * minute, 901)
    assert not watch.rings("QueueAge", START + 60)
    watch.put("AWS/SQS", "ApproximateAgeOfOldestMessage", {"QueueName": "jobs"}, START + 120, 901)
    assert watch.rings("QueueAge", START + 120)


def test_silence_rings_nothing() -> None:
    scene = Scene()
    assert len(scene.watch.alarms()) >= 11
    assert not any(scene.rings(name) for name in scene.watch.alarms())


def test_rate_concurrency_and_the_price_of_tokens_are_on_the_dashboard() -> None:
    """30 requests in a minute, each under way for 4 s, are half a request a second and two under way at any time."""
    scene = Scene()
    scene.asked(30, latency_ms=4_000.0)
    shown = {name: scene.watch.shows(name, START) for name in ("QPS", "Concurrency", "CostPer1kTokens")}
    assert shown == pytest.approx({"QPS": 0.5, "Concurrency": 2.0, "CostPer1kTokens": 0.0003})


def test_want_of_concurrency_rings() -> None:
    watch = Watch(GatewayFunction="gateway")
    assert not watch.rings("Throttles", START)
    watch.put("AWS/Lambda", "Throttles", {"FunctionName": "gateway"}, START, 1)
    assert watch.rings("Throttles", START)


def test_a_function_that_dies_before_it_can_write_a_line_rings() -> None:
    """One long request that runs into the function's end does not."""
    watch = Watch(GatewayFunction="gateway")
    watch.put("AWS/Lambda", "Errors", {"FunctionName": "gateway"}, START, 1)
    assert not watch.rings("Crashes", START)
    watch.put("AWS/Lambda", "Errors", {"FunctionName": "gateway"}, START, 3)
    assert watch.rings("Crashes", START)


def test_no_alarm_is_without_a_test_that_rings_it() -> None:
    """Whoever adds an alarm adds what rings it: each is named in a test of this file."""
    words = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in Watch().alarms() if f'"{name}"' not in words] == []


def test_every_alarm_tells_the_topic() -> None:
    watch = Watch()
    for name in watch.alarms():
        assert watch.alarm(name)["AlarmActions"] == ["Topic"], name


def test_the_topic_takes_what_alarms_publish() -> None:
    """CloudWatch may not use the key that AWS manages for SNS: with it, no alarm would reach anybody."""
    assert "KmsMasterKeyId" not in Watch().template["Resources"]["Topic"]["Properties"]


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    shown = {
        metric[1]
        for widget in Watch().dashboard()["widgets"]
        for metric in widget["properties"]["metrics"]
        if metric[0] == NAMESPACE
    }
    assert shown == set(UNITS)


def test_the_hand_written_metrics_are_what_powertools_would_write() -> None:
    """The same names, units, namespace and dimensions, as Powertools itself serialises them."""
    from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

    lines: list[bytes] = []
    RecordRoom(FakeClock(START), service="s", out=lines.append, emf=True).note(a_note(model="", usage=None))
    ours = json.loads(lines[0])
    provider = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service="s")
    declared = ours["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    for metric in declared:
        provider.add_metric(metric["Name"], metric["Unit"], ours[metric["Name"]])
    theirs = json.loads(json.dumps(provider.serialize_metric_set()))
    directive = theirs["_aws"]["CloudWatchMetrics"][0]
    assert ours["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == directive["Dimensions"]
    assert ours["_aws"]["CloudWatchMetrics"][0]["Namespace"] == directive["Namespace"]
    assert declared == [{"Name": m["Name"], "Unit": m["Unit"]} for m in directive["Metrics"]]
    assert {name: ours[name] for name in theirs if name != "_aws"} == {
        name: value[0] if isinstance(value, list) else value for name, value in theirs.items() if name != "_aws"
    }
