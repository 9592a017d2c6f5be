"""A table of plans from own traffic, without a gold label: three models answered, and what most of them say is true.

Two cheap models of different makers and a strong one make a panel. Where two of the three agree, that is held for
true; where none do, the strong one is. On recorded outcomes a table fitted so is as good as one fitted to the gold
labels (docs/decisions/0050 has the figures); a fourth model makes the cheap ones outvote the strong one and loses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from edgewise.routing.fitted import FittedPlans, PlanKey
from edgewise.routing.fitting import LEAST_LABELS, fitted
from edgewise.routing.knowing import Counts
from edgewise.routing.labels import Panel

MOST_MODELS = 3


def table_of(panels: Sequence[Panel]) -> FittedPlans | None:
    """The table that the most frequent panel of models gives; None when its questions are too few, or none pays.

    Raises ImportError where numpy is not installed.
    """
    if len(panels) < LEAST_LABELS:
        return None
    asked = Counter(frozenset(panel.said) for panel in panels).most_common(1)[0][0]
    mine = [panel for panel in panels if asked <= panel.said.keys()]
    if len(mine) < LEAST_LABELS or not 2 <= len(asked) <= MOST_MODELS:
        return None
    paid = {name: sum(panel.said[name][1] for panel in mine) for name in asked}
    models = sorted(asked, key=lambda name: (paid[name], name))
    keys = [PlanKey((name,)) for name in models]
    keys += [PlanKey(pair, None, models[-1]) for pair in combinations(models[:-1], 2)]
    outcomes = [[_outcome(key, panel) for key in keys] for panel in mine]
    return fitted(
        [panel.question for panel in mine],
        keys,
        [[quality for quality, _ in row] for row in outcomes],
        [[cost for _, cost in row] for row in outcomes],
        reference=len(models) - 1,
    )


def _outcome(key: PlanKey, panel: Panel) -> tuple[float, float]:
    """Quality and cost that a plan would have had on a panel's question."""
    right, said = panel.right(), panel.said
    cost = sum(said[name][1] for name in key.first)
    groups = {said[name][0] for name in key.first}
    if key.strong is None or (len(groups) == 1 and -1 not in groups):
        return float(right[key.first[0]]), cost
    return float(right[key.strong]), cost + said[key.strong][1]


def counts_of(panels: Sequence[Panel]) -> Counts:
    """How often the answers that were served were right, by what their confidence rested on."""
    counts = Counts()
    for panel in panels:
        if panel.served in panel.said and panel.source:
            counts.add(panel.served, panel.source, panel.right()[panel.served])
    return counts
