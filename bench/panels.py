"""What can be learned without a gold label: plans from panels, and promises from disagreement. ZeroEval's questions.

- panels     two cheap models and a strong one answer; what most of them say is held for true; plans are fitted to that
             (`edgewise.routing.panels`), packed and unpacked as they are stored, and tried on the other half against
             the gold labels, beside the same fit to gold labels.
- gain       what a strong model gains where a cheap one disagrees with it: what a label is worth (`knowing.gain_of`).
- promises   operating points proved on disagreement alone, and what they lose on the other half by the gold labels.

    edgewise bench panels --data DIR [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.routes.recorded import Outcomes, folder_of, outcomes
from edgewise.routing.complexity import normalised, weights
from edgewise.routing.fitted import FittedPlans
from edgewise.routing.guarantee import operating_point
from edgewise.routing.knowing import gain_of
from edgewise.routing.labels import Panel
from edgewise.routing.learn import Learner, Seen
from edgewise.routing.panels import table_of

PANELS = (
    ("gemini-1.5-flash", "gpt-4o-mini-2024-07-18", "claude-3-5-sonnet-20241022"),
    ("gemini-1.5-flash", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"),
    ("claude-3-haiku-20240307", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"),
)
LABELS = (200, 400, 1000)
SPLITS = 6
DELTAS = (0.02, 0.05)


@dataclass(frozen=True, slots=True)
class Marked(Panel):
    """A panel whose answers somebody has marked."""

    marks: Mapping[str, bool] = field(default_factory=dict)

    def right(self) -> dict[str, bool]:
        return dict(self.marks)


def panel(given: Outcomes, row: int, models: tuple[int, ...], seen: Seen, *, gold: bool) -> Panel:
    """A question's panel as the gateway would have kept it; gold: with marks in place of what most of them say."""
    groups: dict[Any, int] = {}
    said, marks = {}, {}
    for model in models:
        answer, name = given.answers[row, model], given.models[model]
        group = -1 if answer is None else groups.setdefault(answer, len(groups))
        said[name], marks[name] = (group, float(given.cost[row, model])), bool(given.correct[row, model])
    return Marked(seen, said, marks=marks) if gold else Panel(seen, said)


def tried(given: Outcomes, found: FittedPlans, models: tuple[int, ...], rows: np.ndarray, seen: list[Seen]) -> Any:
    """(points against the strong model, saving) of a table on `rows`, by the gold labels."""
    place = {given.models[model]: model for model in models}
    strong = models[-1]
    points, paid = 0.0, 0.0
    for row in rows:
        key, _, _ = found.best(seen[row])
        asked = [place[name] for name in key.first]
        said = {given.answers[row, model] for model in asked}
        last = asked[0] if key.strong is None or (len(said) == 1 and None not in said) else place[key.strong]
        points += given.correct[row, last] - given.correct[row, strong]
        paid += sum(given.cost[row, model] for model in asked) + (given.cost[row, last] if last not in asked else 0.0)
    return 100 * points / len(rows), 100 * (1 - paid / given.cost[rows, strong].sum())


def panels(given: Outcomes, seen: list[Seen]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for names in PANELS:
        models = tuple(given.models.index(name) for name in names)
        for labels in LABELS:
            for kind in ("consensus", "gold"):
                found = [one_split(given, seen, models, labels, seed, gold=kind == "gold") for seed in range(SPLITS)]
                able = [pair for pair in found if pair is not None]
                means = np.mean(able, 0) if able else (float("nan"), float("nan"))
                spread = np.std([points for points, _ in able]) if able else float("nan")
                told[f"{'+'.join(names)} {labels} {kind}"] = {
                    "tables": len(able), "points": round(float(means[0]), 2), "sd": round(float(spread), 2),
                    "saving": round(float(means[1]), 1),
                }  # fmt: skip
    return told


def one_split(
    given: Outcomes, seen: list[Seen], models: tuple[int, ...], labels: int, seed: int, *, gold: bool
) -> tuple[float, float] | None:
    order = np.random.default_rng(seed).permutation(len(seen))
    kept = [panel(given, row, models, seen[row], gold=gold) for row in order[:labels]]
    found = table_of(kept)
    if found is None:
        return None
    result: tuple[float, float] = tried(given, FittedPlans.load(found.dump()), models, order[len(order) // 2 :], seen)
    return result


def gains(given: Outcomes) -> dict[str, float]:
    """Mean gain of each dear model over each cheap one on the questions where they differ, by the gold labels."""
    cost, quality = given.cost.mean(0), given.correct.mean(0)
    cheap, dear = np.argsort(cost)[:8], np.argsort(-quality)[:4]
    found = {}
    for strong in dear:
        for weak in cheap:
            pairs = zip(given.answers[:, weak], given.answers[:, strong], strict=True)
            apart = np.array([one is None or one != two for one, two in pairs])
            gain = (given.correct[apart, strong] - given.correct[apart, weak]).mean()
            found[f"{given.models[weak]}|{given.models[strong]}"] = round(float(gain), 3)
    return found


def promises(given: Outcomes, seen: list[Seen]) -> dict[str, Any]:
    """Points proved on one half by disagreement alone; what each loses on the other by gold labels."""
    told: dict[str, Any] = {}
    for weak, _, strong in PANELS[:1] + PANELS[1:2]:
        for name in (weak, "gpt-4o-mini-2024-07-18"):
            for delta in DELTAS:
                told[f"{name}|{strong} δ={delta}"] = promise(given, seen, name, strong, delta)
    return told


def promise(given: Outcomes, seen: list[Seen], weak: str, strong: str, delta: float) -> dict[str, Any]:
    one, two = given.models.index(weak), given.models.index(strong)
    proved, broken, lost, kept = 0, 0, [], []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(seen))
        half = len(order) // 2
        learner, scores, labels = Learner(weights()), [], []
        for row in order[:half]:
            first, second = given.answers[row, one], given.answers[row, two]
            scores.append(learner.gain(seen[row]))
            labels.append(gain_of(first is not None and first == second))
            learner.see(seen[row])
            learner.learn(seen[row], labels[-1])
        found = operating_point(scores[-1000:], labels[-1000:], delta=delta)
        if found is None:
            continue
        proved += 1
        rows = order[half:]
        cheap = np.array([learner.gain(seen[row]) < found.threshold for row in rows])
        loss = float(((given.correct[rows, two] - given.correct[rows, one]) * cheap).mean())
        lost.append(loss)
        kept.append(cheap.mean())
        broken += loss > delta
    return {"proved": proved, "of": SPLITS, "broken": broken, "lost": [round(v, 4) for v in lost],
            "cheap_share": round(float(np.mean(kept)), 3) if kept else None}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="edgewise bench panels")
    parser.add_argument("--data", required=True)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(sys.argv[1:])
    folder = folder_of(asked.data)
    given = outcomes(folder / "zeroeval_outcomes.parquet", folder / "zeroeval_questions.jsonl.gz", "zeroeval")
    reader = Learner(weights())
    seen = [reader.read(normalised(text)) for text in given.texts]
    told = {"panels": panels(given, seen), "gain_where_apart": gains(given), "promises": promises(given, seen)}
    for part, rows in told.items():
        print(f"\n{part}")
        for name, row in rows.items():
            print(f"  {name:90} {row}")
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
