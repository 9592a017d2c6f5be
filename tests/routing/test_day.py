from bench.day import day


async def test_a_smaller_day_of_failing_providers_loses_nothing_and_keeps_its_budgets() -> None:
    found = await day(1500)
    assert found["lost"] == 0
    assert found["attempts_past_deadline"] == 0
    assert found["deadline_overruns"] == 0
    assert found["spent_usd"] <= found["budget_usd"]
    assert 0 < found["retries_share"] <= 0.1 and found["retries_over_budget"] == 0
    assert found["served"] + found["refused_by_budget"] + found["unservable"] == 1500
