"""Fits the verifier's models and writes `shared/edgewise/cache/semantic/verifier.json`.

    python bench/fit_verifier.py --data DIR [--folds | --authors]

Fitted to: the project's own pairs (bench/pairs), near-repeats made from them, the development half of fow-cache's
pairs, and for topic alone BANKING77 pairs of every other intent. `--folds` prints what the forest does on pairs that it
was not fitted to, and the scores by which `bound.py`'s prior was set; `--authors` leaves out an author at a time,
which is what to expect of pairs by somebody else. Needs the extra `fit` (scikit-learn), which the package does not.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgewise.cache.semantic.bound import Evidence, Rule, licence
from edgewise.cache.semantic.features import NAMES, compare
from edgewise.cache.semantic.hanzi import is_chinese
from edgewise.cache.semantic.verifier import leads, reading, vetoed

OUT = Path("shared/edgewise/cache/semantic/verifier.json")
PAIRS = Path("bench/pairs")
ENGLISH = ("english_a.txt", "english_b.txt", "english_c.txt", "english_d.txt", "english_e.txt", "english_f.txt")
CHINESE = ("chinese.txt", "chinese_b.txt", "chinese_c.txt")
TREES, LEAF, TRIED = 60, 8, 12


class Pair(NamedTuple):
    a: str
    b: str
    same: int
    kind: str
    group: str


def blocks(path: Path) -> list[tuple[list[str], list[tuple[str, str]]]]:
    """(wordings of one question, [(kind, look-alike)]) of each block of a pairs file."""
    found: list[tuple[list[str], list[tuple[str, str]]]] = []
    fresh = True
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            fresh = True
        elif fresh:
            found.append(([line.strip()], []))
            fresh = False
        elif line.startswith("="):
            found[-1][0].append(line[1:].strip())
        else:
            found[-1][1].append((line[1], line[2:].strip()))
    return found


def own(names: Iterable[str]) -> list[Pair]:
    """Every pair that the blocks say something of."""
    found = []
    for name in names:
        if not (PAIRS / name).exists():
            continue
        for number, (same, others) in enumerate(blocks(PAIRS / name)):
            group = f"{name}:{number}"
            found += [Pair(a, b, 1, "=", group) for a, b in itertools.combinations(same, 2)]
            found += [Pair(a, b, 0, kind, group) for kind, b in others for a in same]
            found += [Pair(a, b, 0, "x", group) for (_, a), (_, b) in itertools.combinations(others, 2)]
    return found


def repeats(seed: int = 0) -> list[Pair]:
    """Near-repeats: the same words with another case, greeting, punctuation or a slip of the pen."""
    chance = random.Random(seed)
    found = []
    for name in ENGLISH:
        if not (PAIRS / name).exists():
            continue
        for number, (same, _) in enumerate(blocks(PAIRS / name)):
            text = chance.choice(same)
            for _ in range(2):
                varied = _vary(text, chance)
                if varied != text:
                    found.append(Pair(text, varied, 1, "near", f"{name}:{number}"))
    return found


def _vary(text: str, chance: random.Random) -> str:
    way = chance.randrange(7)
    if way == 0:
        return text.lower().rstrip("?.")
    if way == 1:
        hello = chance.choice(["Hi, ", "Hello! ", "Hey ", "Good morning, "])
        return hello + text[0].lower() + text[1:] + chance.choice([" Thanks", " Cheers", " thank you!", " please"])
    if way == 2:
        return text.rstrip("?") + chance.choice(["??", "...", " ?", ".", "!"])
    if way == 3:
        return chance.choice(["um ", "so, ", "ok ", "quick question: ", "just wondering, "]) + text.lower()
    if way == 4:
        return text.upper() if chance.random() < 0.5 else text.replace("What's", "What is").replace("I'm", "I am")
    words = text.split()
    long = [i for i, word in enumerate(words) if len(word) >= 6 and word.isalpha()]
    for i in chance.sample(long, min(len(long), chance.choice([1, 1, 2]))):
        word = words[i]
        j = chance.randrange(1, len(word) - 2)
        swapped = word[:j] + word[j + 1] + word[j] + word[j + 2 :]
        words[i] = chance.choice([swapped, word[:j] + word[j + 1 :], word[:j] + word[j] + word[j:]])
    return " ".join(words)


def half(key: str) -> int:
    """0 or 1 by hash. The second bit: the lowest is the one by which the development half itself was drawn."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) // 2 % 2


def fow(folder: Path) -> list[Pair]:
    rows = [json.loads(line) for line in (folder / "fow_pairs_dev.jsonl").read_text("utf-8").splitlines()]
    return [Pair(r["a"], r["b"], int(r["same_answer"]), r["category"], r["id"]) for r in rows]


def banking(folder: Path, which: int, seed: int = 3, asked: int = 2200) -> tuple[list[Pair], list[float]]:
    """Questions of half of the intents with their two nearest among 1,500 others of that half, and their leads."""
    with (folder / "banking77_train.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if half(row["category"] + "x") == which]
    order = np.random.default_rng(seed).permutation(len(rows))
    texts = [row["text"] for row in rows]
    vectors = encode(texts, "first")
    asks, bank = order[:asked], order[asked : asked + 1500]
    pairs, ahead = [], []
    for a in asks:
        cosines = vectors[bank] @ vectors[a]
        near = np.argsort(-cosines)[:5]
        found = leads([float(cosines[n]) for n in near], [str(n) for n in near])
        for n, lead in list(zip(near, found, strict=True))[:2]:
            b = bank[n]
            same = rows[a]["category"] == rows[b]["category"]
            pairs.append(Pair(texts[a], texts[b], int(same), "bank", rows[a]["category"]))
            ahead.append(lead)
    return pairs, ahead


_VECTORS: dict[tuple[str, str], Any] = {}


def encode(texts: list[str], which: str) -> Any:
    """Unit rows by the English embedder ('first') or the multilingual one ('second'); remembered."""
    from edgewise.query.embed.minilm import MiniLm
    from edgewise.query.embed.multilingual import Multilingual

    model = MiniLm() if which == "first" else Multilingual()
    missing = sorted({text for text in texts if (which, text) not in _VECTORS})
    if missing:
        for text, row in zip(missing, model.encode(missing), strict=True):
            _VECTORS[which, text] = row
    return np.array([_VECTORS[which, text] for text in texts])


def table(pairs: list[Pair]) -> tuple[Any, Any]:
    """(features, whether a veto fires) of every pair."""
    texts = sorted({text for pair in pairs for text in pair[:2]})
    vectors = {}
    for text in texts:
        vectors.setdefault(is_chinese(text), []).append(text)
    place = {text: i for several in vectors.values() for i, text in enumerate(several)}
    first, second = encode(vectors.get(False, []), "first"), encode(vectors.get(True, []), "second")
    rows, vetoes = [], []
    for pair in pairs:
        i, j = place[pair.a], place[pair.b]
        bank = second if is_chinese(pair.a) else first
        found = compare(reading(pair.a), reading(pair.b), float(bank[i] @ bank[j]))
        rows.append([found[name] for name in NAMES])
        vetoes.append(bool(vetoed(found)))
    return np.array(rows, np.float32), np.array(vetoes)


def forest(rows: Any, same: Any, seed: int = 0) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    model = ExtraTreesClassifier(
        n_estimators=TREES, min_samples_leaf=LEAF, max_features=TRIED, class_weight="balanced", random_state=seed
    )
    return model.fit(rows, same)


def linear(rows: Any, same: Any) -> tuple[list[float], float]:
    """Logistic weights on the raw features (the scaling is folded in)."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    model = LogisticRegression(C=0.1, max_iter=3000).fit((rows - mean) / spread, same)
    weights = model.coef_[0] / spread
    return [round(float(w), 5) for w in weights], round(float(model.intercept_[0] - weights @ mean), 5)


def flat(model: Any) -> dict[str, Any]:
    """The forest in preorder: a left child follows its parent, a leaf has feature -1 and its value as cut."""
    feature: list[int] = []
    cut: list[float] = []
    right: list[int] = []
    roots: list[int] = []
    depth = 0

    def walk(tree: Any, node: int, level: int) -> None:
        nonlocal depth
        depth = max(depth, level)
        here = len(feature)
        leaf = tree.children_left[node] < 0
        share = tree.value[node][0]
        feature.append(-1 if leaf else int(tree.feature[node]))
        cut.append(round(float(share[1] / share.sum()), 3) if leaf else round(float(tree.threshold[node]), 4))
        right.append(0)
        if not leaf:
            walk(tree, tree.children_left[node], level + 1)
            right[here] = len(feature)
            walk(tree, tree.children_right[node], level + 1)

    for each in model.estimators_:
        roots.append(len(feature))
        walk(each.tree_, 0, 0)
    return {"feature": feature, "cut": cut, "right": right, "roots": roots, "depth": depth}


def training(folder: Path) -> tuple[list[Pair], Any]:
    """Pairs with their weights: Chinese twice and fow-cache's three times, since there are fewer of them."""
    english, chinese, recorded = own(ENGLISH) + repeats(), own(CHINESE), fow(folder)
    pairs = english + chinese + recorded
    weights = np.array([1] * len(english) + [2] * len(chinese) + [3] * len(recorded))
    return pairs, weights


def author(pair: Pair) -> str:
    """The file that the pair is from; the last two are by one author."""
    name = pair.group.split(":")[0] if ":" in pair.group else "fow"
    return "english_f.txt" if name == "chinese_c.txt" else name


def folded(pairs: list[Pair], folds: int = 5) -> Any:
    """A number below `folds` for each pair, the same for all of a block."""
    groups = sorted({pair.group for pair in pairs})
    fold = dict(zip(groups, np.random.default_rng(0).permutation(len(groups)) % folds, strict=True))
    return np.array([fold[pair.group] for pair in pairs])


def held_out(pairs: list[Pair], weights: Any, rows: Any, parts: Any, seeds: int = 1) -> Any:
    """Scores of every pair by forests that saw none of its part."""
    same = np.array([pair.same for pair in pairs])
    scores = np.zeros(len(pairs))
    for part in np.unique(parts):
        keep = parts != part
        for seed in range(seeds):
            model = forest(np.repeat(rows[keep], weights[keep], 0), np.repeat(same[keep], weights[keep]), seed)
            scores[~keep] += model.predict_proba(rows[~keep])[:, 1] / seeds
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folds", action="store_true")
    parser.add_argument("--authors", action="store_true")
    asked = parser.parse_args()
    if asked.folds:
        report(asked.data)
        return
    if asked.authors:
        authors(asked.data)
        return
    pairs, weights = training(asked.data)
    rows, _ = table(pairs)
    same = np.array([pair.same for pair in pairs])
    model = forest(np.repeat(rows, weights, 0), np.repeat(same, weights))
    intents, ahead = banking(asked.data, 0)
    topic_rows, _ = table(intents)
    weights_of, bias = linear(np.column_stack([topic_rows, ahead]), np.array([pair.same for pair in intents]))
    content = {
        "made_by": "bench/fit_verifier.py",
        "fitted_to": {
            "forest": "bench/pairs and near-repeats of them; fow-cache 0.1.0 pairs, development half (CC BY 4.0)",
            "topic": "BANKING77 training pairs of half of the intents (CC BY 4.0)",
            "pairs": len(pairs),
        },
        "features": list(NAMES),
        "topic": {"weights": weights_of[:-1], "lead": weights_of[-1], "bias": bias},
        "forest": flat(model),
    }
    OUT.write_text(json.dumps(content, separators=(",", ":")) + "\n", "utf-8")
    print(OUT, OUT.stat().st_size, "bytes,", len(content["forest"]["feature"]), "nodes")


def report(folder: Path) -> None:
    pairs, weights = training(folder)
    rows, vetoes = table(pairs)
    scores = np.where(vetoes, 0.0, held_out(pairs, weights, rows, folded(pairs)))
    same = np.array([pair.same for pair in pairs], bool)
    names = np.array(["fow" if ":" not in p.group else p.group.split(":")[0].split("_")[0] for p in pairs])
    for name in sorted(set(names)):
        mine = names == name
        print(f"{name}: {mine.sum()} pairs")
        for cut in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85):
            hit, trap = (scores[mine & same] >= cut).mean(), (scores[mine & ~same] >= cut).mean()
            wrong = (scores[mine & ~same] >= cut).sum() / max(1, (scores[mine] >= cut).sum())
            print(f"  at {cut:.2f}: hits {hit:.3f}  traps served {trap:.3f}  wrong per hit {wrong:.3f}")
    repeat = rows[:, NAMES.index("repeat")] > 0
    for bound in (0.01, 0.02, 0.05, 0.1):
        cuts = licence(Evidence(), Rule(bound)).cuts
        serve = ~vetoes & (repeat | (scores >= cuts["same"]))
        mine = names == "fow"
        hit, trap = serve[mine & same].mean(), serve[mine & ~same].mean()
        wrong = serve[mine & ~same].sum() / max(1, serve[mine].sum())
        print(f"fow at bound {bound}: hits {hit:.3f}  traps served {trap:.3f}  wrong per hit {wrong:.3f}")
    alone(pairs, rows, vetoes, same, names)


def authors(folder: Path) -> None:
    """Rewordings and look-alikes of each author by a forest that saw none of them, at each cut of the prior."""
    pairs, weights = training(folder)
    rows, vetoes = table(pairs)
    names = np.array([author(pair) for pair in pairs])
    scores = held_out(pairs, weights, rows, names, seeds=6)
    same = np.array([pair.same for pair in pairs], bool)
    # Made near-repeats and pairs of two look-alikes tell nothing of how somebody writes.
    real = np.array([pair.kind not in ("near", "x") for pair in pairs])
    repeat = rows[:, NAMES.index("repeat")] > 0
    for name in sorted(set(names)):
        mine = real & (names == name)
        told = []
        for bound in (0.01, 0.02, 0.05, 0.1):
            serve = ~vetoes & (repeat | (scores >= licence(Evidence(), Rule(bound)).cuts["same"]))
            told.append(f"{bound}: {serve[mine & same].mean():.3f} / {serve[mine & ~same].mean():.3f}")
        print(f"{name} ({(mine & same).sum()} and {(mine & ~same).sum()}), hits / traps at {', '.join(told)}")


def alone(pairs: list[Pair], rows: Any, vetoes: Any, same: Any, names: Any) -> None:
    """A forest that never saw a pair of fow-cache's; its rows apart by whether failures among them were looked at."""
    weights = np.array([2 if name.startswith("chinese") else 1 for name in names])
    mine, repeat = names != "fow", rows[:, NAMES.index("repeat")] > 0
    halves = np.array([half(pair.group) for pair in pairs])
    for bound in (0.01, 0.02, 0.05, 0.1):
        cut = licence(Evidence(), Rule(bound)).cuts["same"]
        told: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
        for seed in range(3):
            model = forest(np.repeat(rows[mine], weights[mine], 0), np.repeat(same[mine], weights[mine]), seed)
            serve = ~vetoes & (repeat | (model.predict_proba(rows)[:, 1] >= cut))
            for which, found in told.items():
                at = ~mine & (halves == which)
                found.append((serve[at & same].mean(), serve[at & ~same].mean()))
        for which, name in ((0, "looked at"), (1, "not looked at")):
            hit, trap = np.mean(told[which], axis=0)
            print(f"own pairs alone, {name}, bound {bound}: hits {hit:.3f}  traps served {trap:.3f}")


if __name__ == "__main__":
    main()
