"""Strategies on many models at once, in dollars: files of the ZeroEval shape.

Everything that is fitted or picked comes from the tuning half; every figure is of the other half. A strategy's row has
its whole curve's savings and one operating point that was chosen on the tuning half: that is the honest figure
(`net_saving` and `points` against the best single model, with paired bootstrap intervals). Costs count every call: the
cheap tries that were thrown away, and the second and third opinions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from bench.routes import metrics, peers
from bench.routes.recorded import Outcomes, finite, halves, source_of
from edgewise.routing.complexity import normalised, weights
from edgewise.routing.fitted import PlanKey
from edgewise.routing.fitting import beats_mix, fitted, hull, matrix_of
from edgewise.routing.learn import Learner, Seen

DRAWS = 400
PARTS = (0.95, 0.99, 1.0)
SPLITS = 10
CONTROLS = 5
CHEAP_MODELS = 4
STRONG_MODELS = 2
CHEAP = 0.4
"""What a first opinion may cost of the best single model's price."""
WORTH = 0.3
"""Quality that the best single model's whole price is worth when cheap models are shortlisted."""
SWEEP = 60
SLACK = 0.005
"""Half a point: what may be lost against the best single model."""


@dataclass(slots=True)
class Curve:
    """Points of one strategy on all questions: (questions, points). `chosen` is the tuned operating point."""

    quality: np.ndarray
    cost: np.ndarray
    chosen: int | None
    note: str = ""


def run(given: Outcomes, seed: int = 0, count: int = DRAWS) -> dict[str, Any]:
    """Every strategy's row on one split."""
    tune, test = halves(len(given.texts), seed)
    mean = given.correct[tune].mean(0)
    best = int(mean.argmax())
    reference = given.correct[:, best], given.cost[:, best]
    curves = {f"single: {m}": single(given, n) for n, m in enumerate(given.models)}
    curves |= mixes(given, tune)
    curves |= routed(given, tune, best)
    guard(curves, given, tune)
    draws = metrics.bootstrap_counts(len(test), count, seed)
    rows = {name: row(curve, reference, test, draws) for name, curve in curves.items()}
    kept = sorted(hull_of(given, tune), key=lambda model: given.cost[test, model].mean())
    line = given.cost[test].mean(0)[kept], given.correct[test].mean(0)[kept]
    for found in rows.values():
        # A strategy that refuses leaves everything to the best single model, which is on the line.
        over = found["accuracy"] - np.interp(found["usd_per_1k"] / 1000, *line)
        found["over_mix"] = 0.0 if found["refused"] else finite(over * 100)
    return rows


def single(given: Outcomes, model: int) -> Curve:
    return Curve(given.correct[:, [model]], given.cost[:, [model]], 0)


def mixes(given: Outcomes, tune: np.ndarray) -> dict[str, Curve]:
    """Random mix on the hull of single models, the domain table, the oracle, LiteLLM's rule."""
    hull = hull_of(given, tune)
    mixed_q, mixed_c = [], []
    for low, high in pairwise(hull):
        for part in np.linspace(0, 1, 11):
            mixed_q.append((1 - part) * given.correct[:, low] + part * given.correct[:, high])
            mixed_c.append((1 - part) * given.cost[:, low] + part * given.cost[:, high])
    if not mixed_q:
        mixed_q, mixed_c = [given.correct[:, hull[0]]], [given.cost[:, hull[0]]]
    found = {"random mix (hull)": Curve(np.stack(mixed_q, 1), np.stack(mixed_c, 1), len(mixed_q) - 1)}
    found["domain_table"] = domain_table(given, tune)
    cheapest_right = np.where(given.correct > 0, given.cost, np.inf)
    pick = np.where(np.isfinite(cheapest_right).any(1), cheapest_right.argmin(1), given.cost.argmin(1))
    found["oracle"] = picked(given, pick[:, None])
    tiers = np.array([peers.litellm_tier(text) for text in given.texts])
    ladder = np.array([hull[min(len(hull) - 1, round(tier * (len(hull) - 1) / 2))] for tier in range(4)])
    found["LiteLLM complexity rule"] = picked(given, ladder[tiers][:, None])
    return found


def picked(given: Outcomes, pick: np.ndarray, chosen: int | None = 0, note: str = "") -> Curve:
    rows = np.arange(len(pick))[:, None]
    return Curve(given.correct[rows, pick], given.cost[rows, pick], chosen, note)


def hull_of(given: Outcomes, tune: np.ndarray) -> list[int]:
    """Models on the upper hull of the tuning half, cheapest first."""
    return hull(given.correct[tune].mean(0), given.cost[tune].mean(0))


def domain_table(given: Outcomes, tune: np.ndarray) -> Curve:
    tasks = np.array(given.tasks)
    grid = sweep(given, tune)
    pick = np.zeros((len(tasks), len(grid)), int)
    for task in sorted(set(given.tasks)):
        own = tune[tasks[tune] == task]
        if len(own):
            value = given.correct[own].mean(0)[:, None] - grid * given.cost[own].mean(0)[:, None]
            pick[tasks == task] = value.argmax(0)
    curve = picked(given, pick)
    curve.chosen = tuned(curve, given, tune)
    return curve


def sweep(given: Outcomes, tune: np.ndarray) -> np.ndarray:
    """λ from "money is no object" to "the cheapest", in quality a dollar, on the scale of the costs at hand."""
    scale = float(np.median(given.cost[tune].max(1))) or 1.0
    return np.geomspace(1e-3 / scale, 10.0 / scale, SWEEP)


def tuned(curve: Curve, given: Outcomes, tune: np.ndarray) -> int | None:
    """The cheapest point that holds the best single model's quality on the tuning half; None when none is cheaper."""
    best = int(given.correct[tune].mean(0).argmax())
    held, paid = given.correct[tune, best].mean(), given.cost[tune, best].mean()
    cost = curve.cost[tune].mean(0)
    able = np.flatnonzero((curve.quality[tune].mean(0) >= held - 1e-12) & (cost < paid))
    return int(able[cost[able].argmin()]) if len(able) else None


def read(given: Outcomes) -> list[Seen]:
    """The questions as our strategies see them, by weights that were fitted without them."""
    reader = Learner(weights(source_of(given.name, set(given.tasks))))
    return [reader.read(normalised(text)) for text in given.texts]


def routed(given: Outcomes, tune: np.ndarray, best: int) -> dict[str, Curve]:
    """Our strategies."""
    seen = read(given)
    keys, quality, cost = plans_of(given, tune, best)
    alone = [number for number, key in enumerate(keys) if key.strong is None]
    pairs = [number for number, key in enumerate(keys) if key.strong is not None and key.third is None]
    found = {"complexity": by_difficulty(given, tune, np.array([question.score for question in seen]))}
    found["cascading"] = own_looks(given, tune, best)
    if pairs:
        found["agreement"] = pair_rule(quality, cost, keys, pairs, tune, best)
    for name, plans in (("learned", alone), ("hybrid", list(range(len(keys))))):
        found[name] = fitted_plans(
            seen, [keys[n] for n in plans], quality[:, plans], cost[:, plans], best, tune, sweep(given, tune)
        )
    return found


def plans_of(given: Outcomes, tune: np.ndarray, best: int) -> tuple[list[PlanKey], np.ndarray, np.ndarray]:
    """Single models, agreeing pairs, and pairs with a third opinion, with the outcome of each on every question."""
    quality, cost = given.correct[tune].mean(0), given.cost[tune].mean(0)
    order = np.argsort(-quality)
    strong = [int(m) for m in order if CHEAP * cost[best] <= cost[m] <= 1.2 * cost[best]][:STRONG_MODELS]
    able = [m for m in range(len(cost)) if cost[m] < CHEAP * cost[best]]
    cheap = sorted(able, key=lambda m: WORTH * cost[m] / cost[best] - quality[m])[:CHEAP_MODELS]
    keys = [PlanKey((name,)) for name in given.models]
    outcomes = [(given.correct[:, n], given.cost[:, n]) for n in range(len(given.models))]
    for last in strong:
        for one, two in combinations(cheap, 2):
            for third in (None, *(m for m in cheap if m not in (one, two))):
                names = given.models[one], given.models[two]
                keys.append(PlanKey(names, None if third is None else given.models[third], given.models[last]))
                outcomes.append(chain(given, one, two, third, last))
    return keys, np.stack([q for q, _ in outcomes], 1), np.stack([c for _, c in outcomes], 1)


def chain(given: Outcomes, one: int, two: int, third: int | None, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcome and cost: the pair's answer where it agrees, else a third's that sides with one, else the last's."""
    said = given.answers
    agreed = same(said[:, one], said[:, two])
    cost = given.cost[:, one] + given.cost[:, two]
    quality, rest = given.correct[:, last], given.cost[:, last]
    if third is not None:
        sided = same(said[:, third], said[:, one]) | same(said[:, third], said[:, two])
        quality = np.where(sided, given.correct[:, third], quality)
        rest = given.cost[:, third] + np.where(sided, 0.0, rest)
    return np.where(agreed, given.correct[:, one], quality), cost + np.where(agreed, 0.0, rest)


def same(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.array([a is not None and a == b for a, b in zip(first, second, strict=True)])


def by_difficulty(given: Outcomes, tune: np.ndarray, score: np.ndarray) -> Curve:
    """No labels: the harder-looking share goes to the best hull model, the rest to the next below it."""
    hull = hull_of(given, tune)
    low, high = hull[-2] if len(hull) > 1 else hull[-1], hull[-1]
    cuts = np.quantile(score[tune], np.linspace(0, 1, 41))
    curve = picked(given, np.where(score[:, None] >= cuts, high, low))
    curve.chosen = tuned(curve, given, tune)
    return curve


def own_looks(given: Outcomes, tune: np.ndarray, best: int) -> Curve:
    """A cheap model first, kept unless its own answer looks wrong: broken format, or length beyond a tuned quantile."""
    hull = hull_of(given, tune)
    cheap = hull[-2] if len(hull) > 1 else hull[-1]
    tokens = given.tokens[:, cheap]
    cuts = np.quantile(tokens[tune], np.linspace(0, 1, 41))
    kept = (tokens[:, None] <= cuts) & (given.strict[:, [cheap]] > 0)
    quality = np.where(kept, given.correct[:, [cheap]], given.correct[:, [best]])
    cost = given.cost[:, [cheap]] + np.where(kept, 0.0, given.cost[:, [best]])
    curve = Curve(quality, cost, None)
    curve.chosen = tuned(curve, given, tune)
    return curve


def pair_rule(
    quality: np.ndarray, cost: np.ndarray, keys: list[PlanKey], pairs: list[int], tune: np.ndarray, reference: int
) -> Curve:
    """The one agreeing pair that is cheapest on the tuning half among those that hold the best model's quality."""
    held = quality[tune, reference].mean()
    able = [n for n in pairs if quality[tune, n].mean() >= held]
    pick = min(able or pairs, key=lambda n: cost[tune, n].mean())
    note = keys[pick].label()
    return Curve(quality[:, pairs], cost[:, pairs], pairs.index(pick) if able else None, note)


def fitted_plans(
    seen: list[Seen], keys: list[PlanKey], quality: np.ndarray, cost: np.ndarray, reference: int, tune: np.ndarray,
    grid: np.ndarray,
) -> Curve:  # fmt: skip
    """The table that the tuning half gives, as it would serve: its own few plans, its own λ."""
    table = fitted([seen[n] for n in tune], keys, quality[tune], cost[tune], reference)
    if table is None:
        return Curve(quality[:, [reference]], cost[:, [reference]], None)
    matrix, _ = matrix_of(seen, np.array(table.rarity))
    worth = [np.array(block) for pair in zip(*table.weights, strict=True) for block in pair]
    expected = matrix @ np.stack(worth, 1) + np.array(
        [value for column in zip(*table.base, strict=True) for value in column]
    )
    plans = len(table.plans)
    good, dear = np.clip(expected[:, :plans], 0, 1), np.maximum(expected[:, plans:], 0)
    pick = np.stack([(good - lam * dear).argmax(1) for lam in (table.lam, *grid)], 1)
    place = np.array([keys.index(key) for key in table.plans])[pick]
    rows = np.arange(len(quality))[:, None]
    return Curve(quality[rows, place], cost[rows, place], 0, table.tested)


def row(curve: Curve, reference: tuple[np.ndarray, np.ndarray], test: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
    """One strategy's figures on the reporting half."""
    held, paid = reference[0][test], reference[1][test]
    quality, cost = curve.quality[test], curve.cost[test]
    means = quality.mean(0), cost.mean(0)
    found: dict[str, Any] = {}
    drawn_q, drawn_c = draws @ quality, draws @ cost
    drawn_held, drawn_paid = draws @ held, draws @ paid
    for part in PARTS:
        value = metrics.saving_at(*means, held.mean(), paid.mean(), part)
        found[f"saving_at_{round(part * 100)}"] = finite(value)
        savings = [
            metrics.saving_at(drawn_q[n], drawn_c[n], drawn_held[n], drawn_paid[n], part)
            for n in range(0, len(draws), 4)
        ]
        found[f"saving_at_{round(part * 100)}_ci"] = metrics.interval(np.array(savings))
    found["ci"] = found["saving_at_100_ci"]
    found["refused"] = curve.chosen is None
    if curve.chosen is not None:
        at = curve.chosen
        found |= {
            "accuracy": finite(means[0][at]),
            "usd_per_1k": finite(means[1][at] * 1000),
            "points": finite((means[0][at] - held.mean()) * 100),
            "points_ci": metrics.interval((drawn_q[:, at] - drawn_held) * 100),
            "net_saving": finite(1 - means[1][at] / paid.mean()),
            "net_saving_ci": metrics.interval(1 - drawn_c[:, at] / drawn_paid),
        }
    else:
        # It refuses: the best single model answers everything, and nothing is saved.
        found |= {f"saving_at_{round(part * 100)}": 0.0 for part in PARTS}
        found |= {f"saving_at_{round(part * 100)}_ci": [0.0, 0.0] for part in PARTS}
        found |= {
            "ci": [0.0, 0.0],
            "accuracy": finite(held.mean()), "usd_per_1k": finite(paid.mean() * 1000), "points": 0.0, "net_saving": 0.0,
        }  # fmt: skip
    if curve.note:
        found["note"] = curve.note
    return found


def guard(curves: dict[str, Curve], given: Outcomes, tune: np.ndarray) -> None:
    """A strategy that the tuning half does not show to beat the random mix of equal cost, by a paired test, refuses.

    Fitted plans have passed the same test, cross-validated, or there is no table.
    """
    for name in ("complexity", "cascading", "agreement"):
        curve = curves.get(name)
        if curve is None or curve.chosen is None:
            continue
        earned, paid = curve.quality[tune, curve.chosen], float(curve.cost[tune, curve.chosen].mean())
        if not beats_mix(earned, paid, given.correct[tune], given.cost[tune]):
            curve.chosen = None


def over_splits(given: Outcomes) -> dict[str, Any]:
    """Rows of the first split, with the operating points of further splits beside them."""
    rows = run(given, 0)
    more = [rows, *(run(given, seed, 4) for seed in range(1, SPLITS))]
    for name in ("complexity", "cascading", "agreement", "learned", "hybrid", "domain_table"):
        if name in rows:
            rows[name]["splits"] = {
                "net_saving": [found[name]["net_saving"] for found in more if name in found],
                "points": [found[name]["points"] for found in more if name in found],
                "over_mix": [found[name]["over_mix"] for found in more if name in found],
                "refused": sum(bool(found[name]["refused"]) for found in more if name in found),
            }
    return rows


def control(given: Outcomes) -> dict[str, Any]:
    """Questions dealt out anew among the outcomes: routing by the question can then claim nothing."""
    served, savings = 0, []
    seen, count = read(given), len(given.texts)
    keys = [PlanKey((name,)) for name in given.models]
    for seed in range(CONTROLS):
        dealt = [seen[n] for n in np.random.default_rng(seed).permutation(count)]
        tune, test = halves(count, seed)
        best = int(given.correct[tune].mean(0).argmax())
        curve = fitted_plans(dealt, keys, given.correct, given.cost, best, tune, sweep(given, tune))
        served += curve.chosen is not None
        lost = given.correct[test, best].mean() - curve.quality[test, 0].mean()
        saved = 1 - curve.cost[test, 0].mean() / given.cost[test, best].mean()
        savings.append(saved if curve.chosen is not None and lost <= SLACK else 0.0)
    return {"refused": served < CONTROLS / 2, "served": served, "net_saving": finite(np.mean(savings)), "of": CONTROLS}
