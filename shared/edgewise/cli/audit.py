"""`edgewise cache audit`: how often the judge of matches by meaning errs, on pairs whose answer people know.

The judge is asked through the running gateway, with the question that it is asked in production, so the audit needs no
other credentials and passes the policy of the key that asks. What an answer is matters to the judge; so where a pair
brings none, the answering model is asked the first question, as it was when an entry was made, and gives the one that
the cache would have kept. Verdicts are never taken from the cache.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgewise.cli.costs import estimated, say_cost
from edgewise.cli.wire import answered

if TYPE_CHECKING:
    from edgewise.cache.semantic.audit import Rate, Tally
    from edgewise.chat import Answer
    from edgewise.words import Model

LABELLED = "JSON lines: {a, b, same_answer, answer?}; left out, pairs of the project's own."
OWN_PAIRS = Path(__file__).with_name("audit_pairs.jsonl")
UNCACHED = {"cache": {"no-cache": True, "no-store": True}}
STAND_IN = "An answer that nobody has asked for yet, of the usual length. " * 15
"""For an estimate of what verdicts cost before there are answers."""
MOST_MISSED = 0.5
"""From here on the setting refuses the rate: who lets every second wrong match pass is no judge."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions. same_answer: what people say; answer: what the first was given, '' when nobody asked yet."""

    a: str
    b: str
    same_answer: bool
    answer: str = ""


@dataclass(slots=True)
class Spent:
    """What calls cost. None: one of them of unknown price."""

    usd: Decimal | None = Decimal(0)

    def add(self, told: str | None) -> None:
        known = None if told in (None, "unknown") else Decimal(str(told))
        self.usd = None if known is None or self.usd is None else self.usd + known


@dataclass(slots=True)
class Audit:
    """What came of it: verdicts by what people say, and the pairs on which the judge says otherwise."""

    verdicts: dict[bool, Tally]
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0

    def take(self, pair: Pair, answer: Answer | None) -> None:
        """Take in what the judge said of a pair; None: it did not answer."""
        from edgewise.assemble.judging import verdict_of

        if answer is None:
            self.failed += 1
            return
        said = verdict_of(answer)
        self.verdicts[pair.same_answer].count(said)
        if said is not pair.same_answer:
            self.mistakes.append({"a": pair.a, "b": pair.b, "same_answer": pair.same_answer, "said": said})


def audit(
    file: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False, help=LABELLED)] = None,
    model: Annotated[str | None, typer.Option(help="The judge; left out, EDGEWISE_CACHE_JUDGE_MODEL.")] = None,
    answers_by: Annotated[str, typer.Option(help="Who answers the first question of pairs without answer.")] = "auto",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="That both rates hold.")] = 0.95,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Calls at once.")] = 8,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON, mistakes included.")] = False,
) -> None:
    """Measure how often the judge errs on labelled pairs; what it may cost is said first."""
    from edgewise.cache.semantic.audit import Tally

    judge = _judge(model)
    pairs = list(_pairs(file or OWN_PAIRS))
    if not pairs:
        typer.echo(f"edgewise: {file} has no pairs", err=True)
        raise typer.Exit(2)
    _say_costs(judge, pairs, answers_by, aside=as_json)
    if not yes and not typer.confirm("Go on?", err=as_json):
        raise typer.Exit(1)
    spent = Spent()
    whole = _answered(pairs, answers_by, parallel, spent)
    done = Audit({True: Tally(), False: Tally()}, failed=len(pairs) - len(whole))
    asking = [_verdict_body(judge, pair) for pair in whole]
    for pair, answer in zip(whole, _asked("verdicts", asking, parallel, spent), strict=True):
        done.take(pair, answer)
    told = _told(done, judge.name, confidence, own=file is None, spent=spent)
    typer.echo(json.dumps(told, indent=2, ensure_ascii=False) if as_json else _text(told))
    if told["settings"] is None:
        raise typer.Exit(1)


def _judge(name: str | None) -> Model:
    """The judge as the catalogue has it, or by its bare name where only the gateway knows it."""
    from edgewise.cli.route import EVERY, catalog_of
    from edgewise.words import Model

    catalog, settings = catalog_of(EVERY)
    asked = name or settings.cache_judge_model
    if not asked:
        typer.echo("edgewise: set EDGEWISE_CACHE_JUDGE_MODEL, or name the judge with --model", err=True)
        raise typer.Exit(2)
    if found := catalog.find(asked):
        return found[0]
    provider, _, rest = asked.partition("/")
    if not rest:
        typer.echo(f"edgewise: no model is named {asked!r}; name it as provider/model", err=True)
        raise typer.Exit(2)
    return Model(provider, rest, capabilities=frozenset())


def _pairs(file: Path) -> Iterator[Pair]:
    from edgewise.cli.distill import read

    for number, told in enumerate(read(file), 1):
        texts = [told.get("a"), told.get("b"), told.get("answer", "")]
        if not all(isinstance(each, str) for each in texts) or not isinstance(told.get("same_answer"), bool):
            typer.echo(
                f"edgewise: pair {number} of {file} lacks `a`, `b` or a `same_answer` of true or false", err=True
            )
            raise typer.Exit(2)
        yield Pair(told["a"], told["b"], told["same_answer"], told.get("answer", ""))


def _answer_body(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def _verdict_body(judge: Model, pair: Pair) -> dict[str, Any]:
    from edgewise.assemble.judging import question
    from edgewise.grading import one_word

    return {**one_word(judge, question(pair.b, pair.a, pair.answer or STAND_IN)).body, **UNCACHED}


def _unanswered(pairs: Iterable[Pair]) -> list[str]:
    """The questions that have to be asked, each once."""
    return list(dict.fromkeys(pair.a for pair in pairs if not pair.answer))


def _say_costs(judge: Model, pairs: list[Pair], answers_by: str, *, aside: bool) -> None:
    if missing := _unanswered(pairs):
        say_cost(estimated([_answer_body(answers_by, text) for text in missing]), aside=aside, what="answers")
    say_cost(estimated([_verdict_body(judge, pair) for pair in pairs]), aside=aside, what="verdicts")


def _answered(pairs: list[Pair], answers_by: str, parallel: int, spent: Spent) -> list[Pair]:
    """The pairs with an answer to their first question; those for which there is none are left out."""
    missing = _unanswered(pairs)
    asked = _asked("answers", [_answer_body(answers_by, text) for text in missing], parallel, spent)
    known = {text: answer.text for text, answer in zip(missing, asked, strict=True) if answer is not None}
    found = (replace(pair, answer=pair.answer or known.get(pair.a, "")) for pair in pairs)
    return [pair for pair in found if pair.answer]


def _asked(what: str, bodies: list[dict[str, Any]], parallel: int, spent: Spent) -> list[Answer | None]:
    """What the gateway answers, in order; None where it refuses, which it has said. A bar is on standard error."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console
    from rich.progress import track

    if not bodies:
        return []
    shown = Console(stderr=True)
    with ThreadPoolExecutor(parallel) as pool:
        each = pool.map(_ask, bodies)
        bar = track(each, what, len(bodies), console=shown, disable=not sys.stderr.isatty())
        told = list(bar)
    for _, cost in told:
        if cost is not None:
            spent.add(cost)
    return [answer for answer, _ in told]


def _ask(body: dict[str, Any]) -> tuple[Answer | None, str | None]:
    """The answer and its cost."""
    from edgewise.chat import Answer

    try:
        content, headers = answered("POST", "/v1/chat/completions", json.dumps(body).encode())
    except typer.Exit:
        return None, None
    return Answer(json.loads(content)), headers.get("x-edgewise-cost-usd", "unknown")


def _told(done: Audit, judge: str, confidence: float, *, own: bool, spent: Spent) -> dict[str, Any]:
    """The audit as JSON. own: the pairs are no matches of this gateway's, so their false alarms say nothing of it."""
    from edgewise.cache.semantic.audit import false_alarms, misses, needed

    alarms, missed = false_alarms(done.verdicts[True], confidence), misses(done.verdicts[False], confidence)
    rates = {"cache_judge_missed": _up(missed.limit), "cache_judge_false_alarm": 0.0 if own else _down(alarms.limit)}
    tighter = _up((missed.share + missed.limit) / 2)
    return {
        "judge": judge,
        "confidence": confidence,
        "false_alarm": _row(done.verdicts[True], alarms),
        "missed": _row(done.verdicts[False], missed),
        "failed": done.failed,
        "tighter": {"missed": tighter, "different_pairs": needed(missed, tighter, confidence)},
        "cost_usd": None if spent.usd is None else str(spent.usd),
        "own_pairs": own,
        "settings": {"cache_judge_model": judge, **rates}
        if max(_up(missed.limit), alarms.limit) < MOST_MISSED
        else None,
        "mistakes": done.mistakes,
    }


def _row(tally: Tally, rate: Rate) -> dict[str, Any]:
    said = {"yes": tally.right, "no": tally.wrong, "unclear": tally.unclear}
    return {"pairs": tally.total, **said, "share": round(rate.share, 4), "limit": round(rate.limit, 4)}


def _up(share: float) -> float:
    return math.ceil(share * 1000) / 1000


def _down(share: float) -> float:
    return math.floor(share * 1000) / 1000


def _text(told: dict[str, Any]) -> str:
    """The audit for people."""
    cost = "unknown" if told["cost_usd"] is None else f"${Decimal(told['cost_usd']):.4f}"
    lines = [f"{told['judge']}, {told['failed']} pairs without a verdict, cost {cost}"]
    for word, error, side in (("same", "false_alarm", "at least"), ("different", "missed", "at most")):
        row = told[error]
        said = f"{row['yes']} yes, {row['no']} no, {row['unclear']} can't tell"
        share = f"{error.replace('_', ' ')} {row['share']:.1%}, {side} {row['limit']:.1%}"
        lines.append(f"{word + ' answer':17}{row['pairs']:5} pairs: {said}; {share}")
    lines.append(f"Both limits hold with {told['confidence']:.1%} together; can't tell counts as missed.")
    tighter = told["tighter"]
    if tighter["different_pairs"] is not None:
        lines.append(f"For missed at most {tighter['missed']:.1%}: some {tighter['different_pairs']} different pairs.")
    if told["settings"] is None:
        lines.append("No settings: too few pairs, or a judge that errs every second time on one kind.")
        return "\n".join(lines)
    if told["own_pairs"]:
        lines.append("False alarms stay 0 in the settings: these pairs are harder than traffic, and have more of them.")
    return "\n".join([*lines, "", f"EDGEWISE_SETTINGS='{json.dumps(told['settings'])}'"])
