"""One thing of a question replaced by another of its kind: whatever the question, it is not served, with vectors that
could hardly be nearer. Made from templates, so that no list can have been written to the cases."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.cache.semantic.bound import Evidence, Rule, licence
from edgewise.cache.semantic.serving import scores_of
from edgewise.cache.semantic.verifier import Verifier

COS = 0.985
UNHURRIED = settings(max_examples=60, deadline=None)
"""The first pair reads the lexicon."""
VERIFIER = Verifier.shipped()
SUBJECTS = (
    "the annual report",
    "a blue bicycle",
    "my library loan",
    "the garden shed",
    "our team meeting",
    "a rail pass",
)
PLACES = ("Lisbon", "Toronto", "Nairobi", "Oslo", "Madrid", "Dublin", "Vienna", "Seoul", "Lima", "Prague")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "June", "July", "August", "September", "October", "November")
UNITS = ("kg", "litres", "miles", "hours", "minutes", "days", "metres", "euros", "weeks")
OPPOSITES = (("open", "close"), ("buy", "sell"), ("increase", "decrease"), ("enable", "disable"), ("lock", "unlock"),
             ("import", "export"), ("accept", "reject"), ("pause", "resume"), ("before", "after"), ("with", "without"),
             ("first", "last"), ("cheapest", "most expensive"), ("arrive", "depart"), ("open", "shut"))  # fmt: skip
WORDS = ("rotate", "window", "parser", "ledger", "shipping", "token", "batch", "vector", "socket", "cursor")


def served(a: str, b: str, bound: float = 0.02) -> bool:
    """Whether the prior serves the pair, by sameness alone or, as with a judge at hand, by topic."""
    finding = VERIFIER.judge(a, b, COS)
    if finding.veto:
        return False
    allowed = licence(Evidence(), Rule(bound), prior=("same", "topic")).allows(scores_of(finding))
    return finding.repeat or allowed is not None


def two_of(several: tuple[str, ...]) -> st.SearchStrategy[tuple[str, str]]:
    return st.permutations(several).map(lambda row: (row[0], row[1]))


@UNHURRIED
@given(st.sampled_from(SUBJECTS), st.integers(2, 900), st.integers(2, 900), st.sampled_from(UNITS))
def test_another_number(what: str, one: int, other: int, unit: str) -> None:
    if one != other:
        assert not served(f"Can I keep {what} for {one} {unit}?", f"Can I keep {what} for {other} {unit}?")


@UNHURRIED
@given(st.sampled_from(SUBJECTS), st.integers(2, 900), two_of(UNITS))
def test_another_unit(what: str, number: int, units: tuple[str, str]) -> None:
    a, b = (f"Is {what} limited to {number} {unit}?" for unit in units)
    assert not served(a, b)


@UNHURRIED
@given(st.sampled_from(SUBJECTS), st.one_of(two_of(PLACES), two_of(DAYS), two_of(MONTHS)))
def test_another_place_day_or_month(what: str, both: tuple[str, str]) -> None:
    a, b = (f"Where can I find {what} in {each}?" for each in both)
    assert not served(a, b)


@UNHURRIED
@given(two_of(PLACES), st.sampled_from(("fly from {} to {}", "send money from {} to {}", "get to {1} from {0} by bus")))
def test_there_and_back(places: tuple[str, str], way: str) -> None:
    x, y = places
    assert not served(f"How do I {way.format(x, y)}?", f"How do I {way.format(y, x)}?")


@UNHURRIED
@given(two_of(PLACES), st.sampled_from(("beat", "visit", "sue", "outscore", "replace", "invade", "follow")))
def test_who_does_it_to_whom(names: tuple[str, str], verb: str) -> None:
    x, y = names
    assert not served(f"Did {x} {verb} {y} last season?", f"Did {y} {verb} {x} last season?")
    assert not served(f"Is {x} larger than {y}?", f"Is {y} larger than {x}?")


@UNHURRIED
@given(st.sampled_from(SUBJECTS), st.sampled_from(OPPOSITES))
def test_the_opposite(what: str, pair: tuple[str, str]) -> None:
    a, b = (f"What is the right way to {word} {what} here?" for word in pair)
    assert not served(a, b)


@UNHURRIED
@given(st.sampled_from(SUBJECTS), st.sampled_from(("can", "should", "must", "may", "do")))
def test_a_denial(what: str, verb: str) -> None:
    assert not served(f"When {verb} I return {what}?", f"When {verb} I not return {what}?")


@UNHURRIED
@given(two_of(WORDS), two_of(WORDS), st.sampled_from(("_", ".", "")))
def test_another_identifier(one: tuple[str, str], other: tuple[str, str], joint: str) -> None:
    a, b = (f"What does {x}{joint or y.title()}{y if joint else ''} do in our code?" for x, y in (one, other))
    if a != b:
        assert not served(a, b)


@UNHURRIED
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_another_version(a: int, b: int, c: int, d: int) -> None:
    if (a, b) != (c, d):
        assert not served(f"Is version {a}.{b} still maintained?", f"Is version {c}.{d} still maintained?")


@UNHURRIED
@given(st.integers(0, 10_000), st.integers(3, 12))
def test_a_question_padded_to_collide(seed: int, count: int) -> None:
    """Random words or syllables at the end, as an attack by search would leave them."""
    chance = random.Random(seed)
    syllables = [
        "".join(chance.choice("bcdfgklmnprstvz") + chance.choice("aeiou") for _ in range(3)) for _ in range(count)
    ]
    question = "How do I reset the password of my bank account?"
    assert not served(question, f"{question} {' '.join(syllables)}")
    assert not served(question, " ".join(syllables))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("小张借给小李多少钱？", "小李借给小张多少钱？"),
        ("这个药饭前吃吗？", "这个药饭后吃吗？"),
        ("最多可以带3公斤行李吗？", "最多可以带5公斤行李吗？"),
        ("北京飞成都要多久？", "北京飞重庆要多久？"),
        ("孕妇可以喝咖啡吗？", "孕妇不可以喝咖啡吗？"),
        ("五月的票怎么买？", "六月的票怎么买？"),
        ("如何打开定位服务？", "如何关闭定位服务？"),
        ("周一营业到几点？", "周五营业到几点？"),
    ],
)
def test_in_chinese(a: str, b: str) -> None:
    assert not served(a, b)
