"""Fits the complexity weights to recorded outcomes and writes them with their provenance.

`python -m bench.routes.fit_complexity DIR`. Ridge regression of the gain (strong right less weak right) on
standardised counts; half of MMLU (the tuning half) and all of GSM8K take part. Each source is also left out once, so
that benchmarks on it can use weights that have never seen it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.routes.recorded import folder_of, halves, pairs
from edgewise.routing import complexity

PENALTY = 0.5


def main(given: str) -> None:
    folder = folder_of(given)
    mmlu, gsm = pairs(folder / "routellm_mmlu.jsonl.gz"), pairs(folder / "routellm_gsm8k.jsonl.gz")
    tune, _ = halves(len(mmlu.texts))
    sources = {
        "mmlu": ([mmlu.texts[i] for i in tune], mmlu.gain[tune], mmlu.weak[tune]),
        "gsm8k": (gsm.texts, gsm.gain, gsm.weak),
    }
    counted = {name: (matrix(texts), gain, weak) for name, (texts, gain, weak) in sources.items()}
    fits: dict[str, Any] = {"all": fit(list(counted.values()))}
    for name in counted:
        fits[f"without {name}"] = fit([part for other, part in counted.items() if other != name])
    written = {
        "provenance": "Gain of GPT-4-1106 over Mixtral-8x7B on RouteLLM's published outcomes (lm-sys/RouteLLM,"
        " Apache-2.0): a random half of MMLU and all of GSM8K, contaminated rows left out; ridge over counts"
        " standardised per source. Mean and deviation are those of the pooled sources. Slope and offset: logistic"
        " curve to 'the weak model is wrong'.",
        "command": "python -m bench.routes.fit_complexity DIR",
        "counts": list(complexity.DENSE),
        "fits": fits,
    }
    path = Path(complexity.__file__).with_name("complexity.json")
    path.write_text(json.dumps(written, indent=1) + "\n")
    print(json.dumps(fits, indent=1))


def matrix(texts: list[str]) -> np.ndarray:
    rows = [complexity.features(complexity.normalised(text)) for text in texts]
    return np.array([[row[name] for name in complexity.DENSE] for row in rows])


def fit(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, Any]:
    size = len(complexity.DENSE)
    square, right = np.zeros((size, size)), np.zeros(size)
    for counts, gain, _ in parts:
        standard = np.clip((counts - counts.mean(0)) / (counts.std(0) + 1e-9), -3, 3)
        square += standard.T @ standard / len(counts)
        right += standard.T @ (gain - gain.mean()) / len(counts)
    weight = np.linalg.solve(square + PENALTY * len(parts) * np.eye(size), right)
    pooled = np.vstack([counts for counts, _, _ in parts])
    mean, deviation = pooled.mean(0), pooled.std(0) + 1e-6
    scores = np.clip((pooled - mean) / deviation, -3, 3) @ weight
    weight /= scores.std()
    scores /= scores.std()
    slope, offset = logistic(scores, 1 - np.concatenate([weak for _, _, weak in parts]))
    return {
        "mean": [round(float(v), 5) for v in mean],
        "deviation": [round(float(v), 5) for v in deviation],
        "weight": [round(float(v), 5) for v in weight],
        "slope": round(slope, 4),
        "offset": round(offset, 4),
    }


def logistic(score: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """Slope and offset of P(wrong | score), by Newton's method."""
    design = np.column_stack([score, np.ones(len(score))])
    beta = np.zeros(2)
    for _ in range(30):
        chance = 1 / (1 + np.exp(-design @ beta))
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design
        beta += np.linalg.solve(hessian, design.T @ (wrong - chance))
    return float(beta[0]), float(beta[1])


if __name__ == "__main__":
    main(sys.argv[1])
