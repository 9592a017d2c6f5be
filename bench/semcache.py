"""How often may an answer be reused, and how often is that wrong? Edgewise beside what others ship.

    edgewise bench semcache --data DIR [--json FILE] [--pairs FILE] [--conversations FILE] [--quick]

Pairs are isolated: `a` is stored, `b` is looked up. Conversations the same, through the real keys. Streams are run
once, in order, every policy over the same vectors: Edgewise with labels from a judge, plain cosine at the cuts that
others ship and at the best cut in hindsight, and vCache written from its published formulas. On the development pairs
the shipped verifier is partly in-sample; `bench/fit_verifier.py --folds` prints what it does on pairs left out, and
`--pairs` takes any other file.

hit_rate       pairs: share of the same-answer pairs served; streams: share of requests served
wrong_per_hit  share of what was served that was wrong
traps_served   share of the different-answer pairs served
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from bench.semcache_streams import (
    Findings,
    Noise,
    Outcome,
    Product,
    Stream,
    banking,
    drifted,
    run_cosine,
    run_vcache,
    upset,
)
from edgewise.cache.semantic.bound import Evidence, Rule, licence
from edgewise.cache.semantic.index import Row, WarmIndex
from edgewise.cache.semantic.log import pack, unpack
from edgewise.cache.semantic.serving import allowed
from edgewise.cache.semantic.verifier import Verifier
from edgewise.chat import ChatRequest
from edgewise.query.asker import ExactAsker
from edgewise.query.classify import Meaningful, read_turn
from edgewise.query.embed import ByLanguage
from edgewise.query.text import normal
from edgewise.words import CachePolicy, Plan, Principal, Query, Target

BOUNDS = (0.01, 0.02, 0.05, 0.1)
SHIPPED = {"gptcache@0.60": 0.60, "litellm@0.80": 0.80, "redisvl@0.90": 0.90, "portkey@0.95": 0.95}
GRID = tuple(round(0.6 + 0.01 * i, 2) for i in range(40))
VCACHE = (0.02, 0.05, 0.1)


class Lab:
    """The shipped parts, and vectors remembered."""

    def __init__(self) -> None:
        self.verifier = Verifier.shipped()
        self.embedders = ByLanguage.shipped()
        self._vectors: dict[str, Any] = {}

    def vectors(self, texts: list[str]) -> Any:
        """One row per text, all by the embedder of the first one's language (English when it has none)."""
        missing = sorted({text for text in texts if text not in self._vectors})
        by: dict[str, list[str]] = defaultdict(list)
        for text in missing:
            embedder = self.embedders.of(text) or self.embedders.of("what is this")
            assert embedder is not None
            by[embedder.id].append(text)
        for several in by.values():
            embedder = self.embedders.of(several[0]) or self.embedders.of("what is this")
            assert embedder is not None
            for start in range(0, len(several), 256):
                part = several[start : start + 256]
                self._vectors.update(zip(part, embedder.encode(part), strict=True))
        return [self._vectors[text] for text in texts]

    def stack(self, texts: list[str]) -> Any:
        return np.array(self.vectors(texts))

    def cosine(self, a: str, b: str) -> float:
        one, two = self.vectors([a, b])
        return float(one @ two) if one.shape == two.shape else 0.0

    def may_serve(self, kept: str, asked: str, bound: float) -> bool:
        """What the product does with one stored question and no labels."""
        if normal(kept) == normal(asked):
            return True
        finding = self.verifier.judge(asked, kept, self.cosine(kept, asked))
        return allowed(finding, licence(Evidence(), Rule(bound))) is not None


def interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval."""
    if not of:
        return (0.0, 1.0)
    z, p = 1.96, count / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    wide = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return (max(0.0, middle - wide), min(1.0, middle + wide))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


Serve = Callable[[dict[str, Any]], bool]


def over_pairs(rows: list[dict[str, Any]], serve: Serve, kind: str) -> dict[str, Any]:
    """Shares over labelled pairs, traps by category."""
    served = [serve(row) for row in rows]
    same = [bool(row["same_answer"]) for row in rows]
    hits = sum(s and y for s, y in zip(served, same, strict=True))
    traps = sum(s and not y for s, y in zip(served, same, strict=True))
    should, must_not = sum(same), len(same) - sum(same)
    by: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row, s, y in zip(rows, served, same, strict=True):
        by[str(row.get(kind, "?"))][0] += s
        by[str(row.get(kind, "?"))][1] += 1
        del y
    return {
        "hit_rate": hits / max(1, should),
        "hit_rate_95": interval(hits, should),
        "wrong_per_hit": traps / max(1, hits + traps),
        "wrong_per_hit_95": interval(traps, hits + traps),
        "traps_served": traps / max(1, must_not),
        "traps_served_95": interval(traps, must_not),
        "served_by_category": {name: [count, of] for name, (count, of) in sorted(by.items())},
        "judge_calls_per_1000": 0.0,
    }


def best_cosine(score: Callable[[dict[str, Any]], float], rows: list[dict[str, Any]], kind: str, most: float) -> Any:
    """The cut that hits most with no more wrong per hit than `most`, chosen with the labels in hand."""
    tried = [(over_pairs(rows, lambda row, c=cut: score(row) >= c, kind), cut) for cut in GRID]  # type: ignore[misc]
    kept = [pair for pair in tried if pair[0]["wrong_per_hit"] <= most + 1e-9]
    return max(kept, key=lambda pair: pair[0]["hit_rate"]) if kept else None


def pairs_set(lab: Lab, rows: list[dict[str, Any]]) -> dict[str, Any]:
    lab.vectors([row[side] for row in rows for side in ("a", "b")])

    def product(row: dict[str, Any], bound: float) -> bool:
        a, b = row["a"], row["b"]
        if any(read_turn(text, within=False).nearness == "skip" for text in (a, b)):
            return False
        if normal(a) == normal(b):
            return True
        if any(read_turn(text, within=False).nearness != "semantic" for text in (a, b)):
            return False
        return lab.may_serve(a, b, bound)

    found = {f"edgewise@{bound}": over_pairs(rows, lambda r, b=bound: product(r, b), "category") for bound in BOUNDS}  # type: ignore[misc]

    def score(row: dict[str, Any]) -> float:
        return lab.cosine(row["a"], row["b"])

    with_cosine(found, rows, score, "category")
    return found


def with_cosine(found: dict[str, Any], rows: list[dict[str, Any]], score: Any, kind: str) -> None:
    for name, cut in SHIPPED.items():
        found[name] = over_pairs(rows, lambda row, c=cut: score(row) >= c, kind)  # type: ignore[misc]
    for bound in BOUNDS:
        best = best_cosine(score, rows, kind, found[f"edgewise@{bound}"]["wrong_per_hit"])
        if best is not None:
            found[f"cosine-hindsight@{bound}"] = {**best[0], "cut": best[1]}
    # One entry never gathers the six observations that vCache wants before it serves.
    found["vcache@0.02"] = over_pairs(rows, lambda row: False, kind)


def conversations_set(lab: Lab, rows: list[dict[str, Any]]) -> dict[str, Any]:
    asker = ExactAsker(Meaningful())

    def query(messages: list[dict[str, Any]]) -> Query:
        plan = Plan(
            Principal("bench", "key"), ChatRequest({"model": "m", "messages": messages}), CachePolicy("semantic")
        )
        return asker.query(plan, Target("bench/m", ()))

    asked = {row["id"]: (query(row["a"]), query(row["b"])) for row in rows}

    def product(row: dict[str, Any], bound: float) -> bool:
        a, b = asked[row["id"]]
        if a.key == b.key or (a.text_key is not None and a.text_key == b.text_key):
            return a.nearness != "skip"
        together = (a.partition and a.partition == b.partition) or (
            a.solo_partition and a.solo_partition == b.solo_partition
        )
        return bool(together and a.text and b.text and lab.may_serve(a.text, b.text, bound))

    found = {f"edgewise@{bound}": over_pairs(rows, lambda r, b=bound: product(r, b), "subtype") for bound in BOUNDS}  # type: ignore[misc]

    def last(row: dict[str, Any]) -> float:
        return lab.cosine(row["a"][-1]["content"], row["b"][-1]["content"])

    with_cosine(found, rows, last, "subtype")

    def joined(row: dict[str, Any]) -> float:
        # LiteLLM joins the contents and skips what has more than four messages.
        if len(row["a"]) > 4 or len(row["b"]) > 4:
            return 0.0
        return lab.cosine(*("".join(m["content"] for m in row[side]) for side in ("a", "b")))

    found["litellm@0.80"] = over_pairs(rows, lambda row: joined(row) >= 0.8, "subtype")
    return found


def unique_set(lab: Lab, questions: list[str]) -> dict[str, Any]:
    """No two questions are the same: every hit is wrong."""
    stream = Stream("unique", questions, [str(i) for i in range(len(questions))], lab.stack(questions))
    findings = Findings(lab.verifier)
    found: dict[str, Any] = {}
    for bound in BOUNDS:
        found[f"edgewise@{bound}"] = told(Product(stream, bound, findings).run())
        found[f"edgewise@{bound} without a judge"] = told(Product(stream, bound, findings, judged=False).run())
    for name, cut in SHIPPED.items():
        found[name] = told(run_cosine(stream, cut))
    return found


def second_turns_set(lab: Lab, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each second turn is looked up among the others': no hit is right."""
    texts = [row["turns"][1] for row in rows]
    reads = [read_turn(text, within=True) for text in texts]
    vectors = lab.stack(texts)
    near = vectors @ vectors.T - 2 * np.eye(len(texts))
    found: dict[str, Any] = {}

    def wrong(serves: Callable[[int, int], bool]) -> dict[str, Any]:
        hits = sum(any(serves(i, j) for j in range(len(texts)) if j != i) for i in range(len(texts)))
        return {"hit_rate": hits / len(texts), "wrong_per_hit": 1.0 if hits else 0.0, "hits": hits}

    def product(i: int, j: int, bound: float) -> bool:
        return reads[i].alone and reads[j].alone and lab.may_serve(texts[j], texts[i], bound)

    for bound in BOUNDS:
        found[f"edgewise@{bound}"] = wrong(lambda i, j, b=bound: product(i, j, b))  # type: ignore[misc]
    for name, cut in SHIPPED.items():
        found[name] = wrong(lambda i, j, c=cut: near[i, j] >= c)  # type: ignore[misc]
    return found


def told(done: Outcome) -> dict[str, Any]:
    return {
        "hit_rate": done.hit_rate,
        "hit_rate_95": interval(done.hits, done.requests),
        "wrong_per_hit": done.wrong_per_hit,
        "wrong_per_hit_95": interval(done.wrong, done.hits),
        "errors_per_request": done.wrong / done.requests,
        "hits": done.hits,
        "judge_calls_per_1000": 1000 * done.judged / done.requests,
    }


def stream_set(
    stream: Stream, findings: Findings, *, noise: Noise | None = None, others: bool = True
) -> dict[str, Any]:
    """Every policy over one stream; hindsight's cut is the one that hits most at Edgewise's own share of wrong."""
    found = {f"edgewise@{bound}": told(Product(stream, bound, findings, noise=noise).run()) for bound in BOUNDS}
    if not others:
        return found
    curve = [(cut, run_cosine(stream, cut)) for cut in GRID]
    for name, cut in SHIPPED.items():
        found[name] = told(next((done for c, done in curve if c == cut), run_cosine(stream, cut)))
    for bound in BOUNDS:
        most = found[f"edgewise@{bound}"]["wrong_per_hit"]
        kept = [pair for pair in curve if pair[1].wrong_per_hit <= most + 1e-9]
        if kept:
            cut, done = max(kept, key=lambda pair: pair[1].hits)
            found[f"cosine-hindsight@{bound}"] = {**told(done), "cut": cut}
    for delta in VCACHE:
        found[f"vcache@{delta}"] = told(run_vcache(stream, delta))
    return found


def latency(lab: Lab, texts: list[str]) -> dict[str, Any]:
    """Milliseconds of one lookup among 10,000 entries and of making the index, in processor time of a single thread,
    which others on the machine do not lengthen; and the share of the true five nearest that a search finds."""
    texts = (texts * (10_000 // len(texts) + 1))[:10_000]
    vectors = lab.stack(texts)
    rows = [Row(str(i), str(i), text, 1e12) for i, text in enumerate(texts)]
    index = WarmIndex(vectors.shape[1])
    for row, vector in zip(rows, vectors, strict=True):
        index.put(row, vector)
    packed = pack(index, "")
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(5):
        a = time.process_time()
        opened = unpack(packed, vectors.shape[1], 0.0)
        times["hydrate 10k"].append((time.process_time() - a) * 1000)
    assert opened is not None
    exact, found = np.array(vectors), 0
    for i in range(0, 10_000, 25):
        asked = f"{texts[i]} please {i}"
        a = time.process_time()
        embedder = lab.embedders.of(asked) or lab.embedders.of("what is this")
        assert embedder is not None
        vector = embedder.encode([asked])[0]
        b = time.process_time()
        near = opened[0].nearest(vector, 5, 0.0)
        c = time.process_time()
        lab.verifier.judge_all(asked, [(each.row.text, each.similarity, each.row.key) for each in near])
        d = time.process_time()
        for name, took in (("embed", b - a), ("search", c - b), ("verify", d - c), ("all", d - a)):
            times[name].append(took * 1000)
        found += len({int(each.row.id) for each in near} & set(np.argsort(-(exact @ vector))[:5].tolist()))
    wide = np.random.default_rng(0).standard_normal((100_000, vectors.shape[1])).astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    large = WarmIndex(vectors.shape[1])
    scale = np.abs(wide).max(axis=1) / 127
    large.fill(
        [Row(str(i), str(i), "", 1e12) for i in range(len(wide))],
        np.round(wide / scale[:, None]).astype(np.int8),
        scale,
    )
    for i in range(100):
        a = time.process_time()
        large.nearest(wide[i], 5, 0.0)
        times["search 100k"].append((time.process_time() - a) * 1000)
    spread = {name: {"p50": float(np.median(v)), "p95": float(np.percentile(v, 95))} for name, v in times.items()}
    return {**spread, "snapshot_mb": len(packed) / 1e6, "recall@5": found / (5 * 400)}


def show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}")
    print(f"  {'':26}{'hits':>16}{'wrong per hit':>24}{'traps served':>22}{'judged/1000':>13}")
    for method, row in found.items():
        print(f"  {method:26}{_share(row, 'hit_rate'):>16}{_share(row, 'wrong_per_hit'):>24}", end="")
        print(f"{_share(row, 'traps_served'):>22}{row.get('judge_calls_per_1000', 0):>13.0f}")
        if method.startswith("edgewise@") and "served_by_category" in row:
            parts = (f"{kind} {count}/{of}" for kind, (count, of) in row["served_by_category"].items())
            print("      served: " + ", ".join(parts))


def _share(row: dict[str, Any], name: str) -> str:
    if name not in row:
        return ""
    low, high = row.get(f"{name}_95", (None, None))
    return f"{100 * row[name]:.1f} %" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if low is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--conversations", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the streams")
    parser.add_argument("--quick", action="store_true", help="pairs, conversations and one stream only")
    asked = parser.parse_args()
    if (asked.data / "semcache").is_dir():
        asked.data = asked.data / "semcache"
    lab, sets = Lab(), {}

    def add(name: str, found: dict[str, Any]) -> None:
        sets[name] = found
        show(name, found)
        if asked.json:
            asked.json.write_text(json.dumps({"sets": sets, "latency_ms": times}, indent=1) + "\n", "utf-8")

    times: dict[str, Any] = {}
    add("fow_pairs", pairs_set(lab, rows_of(asked.pairs or asked.data / "fow_pairs_dev.jsonl")))
    talks = asked.conversations or asked.data / "fow_conversations_dev.jsonl"
    add("fow_conversations", conversations_set(lab, rows_of(talks)))
    bank, findings = asked.data / "banking77_train.csv", Findings(lab.verifier)
    if bank.exists():
        with bank.open(encoding="utf-8", newline="") as file:
            times |= latency(lab, [row["text"] for row in csv.DictReader(file)])
        print("\nlatency, processor ms (p50 / p95), single thread")
        for name, each in times.items():
            print(f"  {name:14}", f"{each['p50']:.2f} / {each['p95']:.2f}" if isinstance(each, dict) else f"{each:.3f}")
        streams = [(s, seed) for s in (0.6, 0.9, 1.1) for seed in asked.seeds]
        streams = streams[:1] if asked.quick else streams
        for s, seed in streams:
            stream = banking(bank, s, seed, 5000, lab.stack)
            add(f"banking77 s={s} seed={seed}", stream_set(stream, findings))
            for name, changed in (("drift", drifted(stream)), ("upheaval", upset(stream))):
                add(f"{name} s={s} seed={seed}", stream_set(changed, findings, others=False))
            if (s, seed) == (0.9, asked.seeds[0]) and not asked.quick:
                for alarm, missed in ((0.02, 0.05), (0.05, 0.1)):
                    noisy = stream_set(stream, findings, noise=Noise(alarm, missed), others=False)
                    add(f"noisy judge fpr={alarm} fnr={missed}", noisy)
    if not asked.quick:
        questions = [row["question"] for row in rows_of(asked.data / "gsm8k_train.jsonl")[:3000]]
        add("unique questions", unique_set(lab, questions))
        add("mt_bench second turns", second_turns_set(lab, rows_of(asked.data / "mt_bench_question.jsonl")))
    if asked.json:
        asked.json.write_text(json.dumps({"sets": sets, "latency_ms": times}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
