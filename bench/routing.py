"""`edgewise bench routing --data DIR [--json FILE] [--outcomes FILE --questions FILE]`: does routing pay, and how much?

Per recorded set, every strategy beside each single model, the random mix, the hull, a domain table, the oracle,
RouteLLM's published routers and LiteLLM's complexity rule: accuracy, dollars with every failed try counted, saving at
95, 99 and 100 % of the best single model, APGR and CPT. What is fitted comes from one half, every figure from the
other. Prices are the lists of December 2024, when the sets were recorded.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.routes import outcome_bench, pair_bench, speed
from bench.routes.recorded import folder_of, outcomes, pairs


def main(argv: list[str] | None = None) -> int:
    words = argparse.ArgumentParser(prog="edgewise bench routing", description=__doc__)
    words.add_argument("--data", help="folder of recorded sets, or one that has it as `routing`")
    words.add_argument("--json", help="write the figures to this file")
    words.add_argument("--outcomes", help="a parquet file of the ZeroEval shape")
    words.add_argument("--questions", help="its questions, JSON lines, may be gzipped")
    given = words.parse_args(argv)
    if not given.data and not (given.outcomes and given.questions):
        words.error("--data, or --outcomes with --questions, is needed")
    report: dict[str, Any] = {"sets": {}}
    for name, rows in sets(given):
        report["sets"][name] = rows
        print_set(name, rows)
    report["decision"] = speed.measure()
    print_speed(report["decision"])
    if given.json:
        Path(given.json).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 0


def sets(given: argparse.Namespace) -> Any:
    """(name, rows) of each set, as it is ready."""
    if given.data:
        folder = folder_of(given.data)
        for path in sorted([*folder.glob("routellm_*.jsonl.gz"), *folder.glob("routellm_*.jsonl")]):
            found = pairs(path)
            yield found.name, pair_bench.run(found)
        for table in sorted(folder.glob("*_outcomes.parquet")):
            stem = table.name.removesuffix("_outcomes.parquet")
            questions = next(iter(sorted(folder.glob(f"{stem}_questions.jsonl*"))), None)
            if questions is not None:
                yield stem, many(table, questions, stem)
    if given.outcomes and given.questions:
        table = Path(given.outcomes)
        name = table.name.split(".")[0].removesuffix("_outcomes")
        yield name, many(table, Path(given.questions), name)


def many(table: Path, questions: Path, name: str) -> dict[str, Any]:
    found = outcomes(table, questions, name)
    if found.unpriced:
        print(f"{name}: left out, price or hidden tokens unknown: {', '.join(found.unpriced)}", file=sys.stderr)
    if len(found.models) < 2:
        print(
            f"{name}: fewer than two models of known price answered every question: nothing to route", file=sys.stderr
        )
        return {}
    rows = outcome_bench.over_splits(found)
    rows["permuted labels (control)"] = outcome_bench.control(found)
    return rows


COLUMNS = (
    ("apgr", "APGR", 1), ("cpt50", "CPT50", 100), ("cpt80", "CPT80", 100), ("served_share", "serves %", 100),
    ("accuracy", "acc %", 100),
    ("usd_per_1k", "$/1k", 1), ("points", "points", 1), ("over_mix", "over mix", 1), ("net_saving", "net save %", 100),
    ("saving_at_95", "save@95", 100), ("saving_at_99", "save@99", 100), ("saving_at_100", "save@100", 100),
)  # fmt: skip


def print_set(name: str, rows: dict[str, Any]) -> None:
    if not rows:
        return
    used = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows.values())]
    wide = max(len(label) for label in rows) + 2
    print(f"\n{name}\n{'':{wide}}" + "".join(f"{title:>11}" for _, title, _ in used) + "   interval")
    for label, row in rows.items():
        cells = []
        for key, _, scale in used:
            value = row.get(key)
            cells.append(f"{'-':>11}" if value is None else f"{value * scale:>11.{3 if scale == 1 else 1}f}")
        said = " refuses to route" if row.get("refused") else ""
        print(f"{label:{wide}}" + "".join(cells) + f"   {row.get('ci', '')}{said} {row.get('note', '')}".rstrip())


def print_speed(found: dict[str, Any]) -> None:
    print("\ndecision: " + ", ".join(f"{key} {value}" for key, value in found.items()))


if __name__ == "__main__":
    raise SystemExit(main())
