"""Recorded outcomes in one shape: questions, and who answered them right at what cost.

Two kinds of file are read: RouteLLM's pairs (`routellm_*.jsonl.gz`: weak and strong, right or wrong) and files of the
ZeroEval shape (`*_outcomes.parquet` with `*_questions.jsonl.gz`: any number of models, normalised answers, tokens).
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgewise.routing.tokens import estimate

SEED = 20261122
PRICED_AT = datetime(2024, 12, 15, tzinfo=UTC)
PAIR_MODELS = ("mixtral-8x7b-instruct", "gpt-4-1106-preview")


@dataclass(slots=True)
class Pairs:
    """A weak and a strong model on the same questions; `weak` and `strong` are quality from 0 to 1."""

    name: str
    texts: list[str]
    weak: np.ndarray
    strong: np.ndarray
    domains: list[str]
    weak_usd: float
    strong_usd: float

    @property
    def gain(self) -> np.ndarray:
        gain: np.ndarray = self.strong - self.weak
        return gain


@dataclass(slots=True)
class Outcomes:
    """Many models on the same questions. Arrays are (questions, models)."""

    name: str
    texts: list[str]
    tasks: list[str]
    models: list[str]
    correct: np.ndarray
    answers: np.ndarray
    cost: np.ndarray
    tokens: np.ndarray
    strict: np.ndarray
    unpriced: list[str]


def folder_of(given: str) -> Path:
    """The folder with the routing sets: `given` itself or its `routing` folder."""
    path = Path(given)
    return path / "routing" if (path / "routing").is_dir() else path


def lines(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def pairs(path: Path) -> Pairs:
    """A RouteLLM set without its contaminated rows. Sets with scores (MT-Bench) count the mean of turns over ten."""
    rows = [row for row in lines(path) if not row.get("contaminated")]
    name = path.name.split(".")[0]
    if rows and "scores" in rows[0]:
        strong_name, weak_name = list(rows[0]["scores"])[:2]
        weak = np.array([np.mean(row["scores"][weak_name]) / 10 for row in rows])
        strong = np.array([np.mean(row["scores"][strong_name]) / 10 for row in rows])
        texts = [row["turns"][0] for row in rows]
    else:
        weak = np.array([float(row["weak"]) for row in rows])
        strong = np.array([float(row["strong"]) for row in rows])
        texts = [row["prompt"] for row in rows]
    domains = [str(row.get("domain") or row.get("category") or "") for row in rows]
    tokens = float(np.mean([len(text) for text in texts])) / 4
    costs = [_usd(model, tokens, 150.0) or 0.0 for model in PAIR_MODELS]
    return Pairs(name, texts, weak, strong, domains, costs[0], costs[1])


def outcomes(table: Path, questions: Path, name: str) -> Outcomes:
    """A set of the ZeroEval shape: the models that answered every question and whose price is known."""
    import pyarrow.parquet as pq

    asked = list(lines(questions))
    place = {(str(row.get("task") or ""), str(row["qid"])): number for number, row in enumerate(asked)}
    columns = pq.read_table(table).to_pydict()
    models = sorted(set(columns["model"]))
    column = {model: number for number, model in enumerate(models)}
    shape = (len(asked), len(models))
    correct = np.full(shape, np.nan)
    tokens = np.full(shape, np.nan)
    strict = np.ones(shape)
    answers = np.full(shape, None, dtype=object)
    blank: list[Any] = [None] * len(columns["model"])
    for task, qid, model, right, answer, out, json_ok in zip(
        columns.get("task", blank), columns["qid"], columns["model"], columns["correct"], columns.get("answer", blank),
        columns.get("out_tokens", blank), columns.get("strict_json", blank), strict=True,
    ):  # fmt: skip
        at = place.get((str(task or ""), str(qid))), column[model]
        if at[0] is None or right is None:
            continue
        correct[at], answers[at] = float(right), answer if answer != "" else None
        tokens[at] = np.nan if out is None else float(out)
        strict[at] = float(json_ok is not False)
    for number in range(len(models)):
        # A length that was not recorded is the model's usual one; where none was, its cost is unknown.
        known = tokens[np.isfinite(tokens[:, number]), number]
        tokens[~np.isfinite(tokens[:, number]), number] = np.median(known) if len(known) else np.nan
    prompt = np.array([float(row.get("prompt_tokens") or estimate(row["question"])) for row in asked])
    cost = np.full(shape, np.nan)
    for model, number in column.items():
        rates = _rates(model)
        if rates is not None:
            cost[:, number] = (prompt * rates[0] + tokens[:, number] * rates[1]) / 1e6
    # A model that left out too many questions would cost the others those questions.
    whole = np.isfinite(correct).mean(axis=0) > 0.995
    keep = whole & np.isfinite(cost).all(axis=0)
    rows = np.isfinite(correct[:, keep]).all(axis=1)
    return Outcomes(
        name=name,
        texts=[row["question"] for row, kept in zip(asked, rows, strict=True) if kept],
        tasks=[str(row.get("task") or "") for row, kept in zip(asked, rows, strict=True) if kept],
        models=[model for model, kept in zip(models, keep, strict=True) if kept],
        correct=correct[rows][:, keep],
        answers=answers[rows][:, keep],
        cost=cost[rows][:, keep],
        tokens=tokens[rows][:, keep],
        strict=strict[rows][:, keep],
        unpriced=[m for m, w, k in zip(models, whole, keep, strict=True) if w and not k],
    )


HAND_PRICES = {
    "gemini-1.5-flash": (0.075, 0.30),
    "gemini-1.5-pro": (1.25, 5.0),
    "llama-3.1-8b": (0.22, 0.22),
    "llama-3-8b": (0.30, 0.60),
    "llama-3.1-70b": (0.72, 0.72),
    "llama-3-70b": (2.65, 3.5),
    "llama-3.1-405b": (2.40, 2.40),
    "mistral-large": (2.0, 6.0),
    "mixtral-8x7b": (0.45, 0.70),
    "command-r-plus": (2.5, 10.0),
    "command-r": (0.15, 0.60),
    "jamba-1.5-large": (2.0, 8.0),
    "nemo": (0.15, 0.15),
}
"""Dollars per million tokens, input and output, on the lists of 2024-12, for models whose price list today has no
historic row: Google, Bedrock (Llama, Mixtral), Mistral, Cohere and AI21."""


HIDDEN_REASONING = re.compile(r"^(o1|o3|o4)|thinking|reasoner|deepseek-r1")
"""Models that bill for tokens which the recorded outputs don't show: their cost is unknown."""


def _rates(model: str) -> tuple[float, float] | None:
    if HIDDEN_REASONING.search(model.lower()):
        return None
    plain = model.lower().split("@")[0].split("/")[-1].replace("meta-", "")
    plain = re.sub(r"[-_](fc|prompt)$", "", plain)
    for prefix, rates in sorted(HAND_PRICES.items(), key=lambda item: -len(item[0])):
        if prefix in plain and "exp" not in plain:
            return rates
    million = _usd(plain, 1e5, 0.0), _usd(plain, 0.0, 1e5)
    return None if million[0] is None or million[1] is None else (million[0] * 10, million[1] * 10)


def _usd(model: str, tokens_in: float, tokens_out: float) -> float | None:
    """List price in December 2024; None when it is unknown. Small counts keep clear of long-context steps."""
    from genai_prices import Usage, calc_price

    for prefix, rates in HAND_PRICES.items():
        if prefix in model:
            return (tokens_in * rates[0] + tokens_out * rates[1]) / 1e6
    for provider in ("openai", "anthropic", "google", "mistral", "cohere"):
        try:
            found = calc_price(
                Usage(input_tokens=round(tokens_in), output_tokens=round(tokens_out)),
                model_ref=model,
                provider_id=provider,
                genai_request_timestamp=PRICED_AT,
            )
        except LookupError:
            continue
        return float(found.total_price)
    return None


def halves(count: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray]:
    """A tuning half and a reporting half, drawn once."""
    order = np.random.default_rng(seed).permutation(count)
    return order[: count // 2], order[count // 2 :]


def source_of(name: str, tasks: Iterable[str] = ()) -> str:
    """The recorded source whose questions a set shares: what a fit must be without to be tried on it."""
    told = " ".join([name, *tasks]).lower()
    if "zeroeval" in told or "gsm" in told:
        return "gsm8k"
    return "mmlu" if "mmlu" in told else ""


def finite(value: Any) -> float | None:
    """A number that JSON can carry."""
    return round(float(value), 4) if math.isfinite(value) else None
