"""Compiles the model catalogue at build time: prices from `genai-prices`, traits from `traits.json`.

The package's import costs 0.3 s and its types cost more, so the gateway never imports it: this module writes one
dated JSON that loads in milliseconds. What the source does not know stays unknown (None), never zero. Embedding,
audio, image and completion-only models are left out: this catalogue is of chat models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

PROVIDERS: dict[str, str] = {"openai": "openai", "anthropic": "anthropic", "aws": "bedrock"}
"""The price list's provider to ours."""

NOT_CHAT = re.compile(
    r"embed|whisper|tts|transcribe|translate|image|audio|realtime|moderation|sonic|search|davinci|babbage|curie"
    r"|^ada$|instruct$|^ft:|\.ft-|computer-use|deep-research|live-1|cyber|rosalind|safeguard|vision-preview|:extended|-0301$"
)
KINDS = (
    ("input_mtok", "i"),
    ("output_mtok", "o"),
    ("cache_read_mtok", "r"),
    ("cache_write_mtok", "w"),
    ("cache_write_1h_mtok", "h"),
)
TIERS = ("flex", "priority")
"""Of OpenAI's service tiers; `fast` is another name for priority, at its price."""


def compiled(as_of: date) -> dict[str, Any]:
    """The whole catalogue as plain JSON. Raises ImportError when the build-time package is absent."""
    from genai_prices import __version__, data_snapshot

    traits = json.loads((Path(__file__).parent / "traits.json").read_text())
    rows = [*_listed(data_snapshot.get_snapshot().providers, as_of, traits), *traits["own"]]
    return {
        "as_of": as_of.isoformat(),
        "source": f"genai-prices {__version__}; traits.json",
        "unit": "US dollars for one million tokens; i input, o output, r cached input, w cache write, h for an hour; "
        "b batch, t other tiers, a above",
        "models": rows,
    }


def _listed(providers: Any, as_of: date, traits: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for provider in providers:
        ours = PROVIDERS.get(provider.id)
        for model in provider.models if ours else ():
            if NOT_CHAT.search(model.id):
                continue
            price = _price(model, as_of)
            row: dict[str, Any] = {"provider": ours, "id": model.id.removeprefix("regional.")}
            if model.id.startswith("regional."):
                row["profile"] = "regional"
            row |= {"context": model.context_window, "price": price}
            row |= _matches(model.match, row["id"])
            row |= _traits(f"{ours}/{row['id']}", price, traits)
            if any(re.search(pattern, f"{ours}/{row['id']}") for pattern in traits["legacy"]):
                row["legacy"] = True
            yield row


def _price(model: Any, as_of: date) -> dict[str, Any] | None:
    """The list price on `as_of`, with its long-context step, its batch price and its other tiers'; None when there is
    none."""
    listed = model.prices
    if isinstance(listed, list):
        fitting = [p.prices for p in listed if _began(p.constraint, as_of)]
        listed = fitting[-1] if fitting else None
    if listed is None or listed.input_mtok is None or listed.output_mtok is None:
        return None
    price = _rates(listed)
    for variant in model.price_variants or ():
        listed, when = variant.prices, variant.when
        if not _began(variant.constraint, as_of) or listed.input_mtok is None or listed.output_mtok is None:
            continue
        if when == {"processing": "batch"}:
            price["b"] = _rates(listed)
        elif when.keys() == {"service_tier"} and when["service_tier"] in TIERS:
            price.setdefault("t", {})[when["service_tier"]] = _rates(listed)
    return price


def _began(constraint: Any, as_of: date) -> bool:
    """A price with no start date always holds; one bound to an hour of the day is not a list price."""
    if constraint is None:
        return True
    start = getattr(constraint, "start_date", None)
    return start is not None and start <= as_of


def _rates(listed: Any) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    above: dict[str, Any] = {}
    step = 0
    for field, letter in KINDS:
        value = getattr(listed, field, None)
        if value is None:
            continue
        if isinstance(value, Decimal | int):
            rates[letter] = above[letter] = str(value)
        else:
            rates[letter] = str(value.base)
            step = max(step, value.tiers[0].start)
            above[letter] = str(value.tiers[0].price)
    if step:
        rates["a"] = [step, above]
    return rates


def _matches(match: Any, own: str) -> dict[str, Any]:
    """Other spellings of the id, as exact ids and as prefixes; a pattern with a date needs no row of its own."""
    equals: set[str] = set()
    starts: set[str] = set()
    for clause in [match, *getattr(match, "or_", [])]:
        if (text := getattr(clause, "equals", None)) and "/" not in text:
            equals.add(text)
        if text := getattr(clause, "starts_with", None):
            starts.add(text)
    found: dict[str, Any] = {}
    if equals - {own}:
        found["also"] = sorted(equals - {own})
    if starts:
        found["starts"] = sorted(starts)
    return found


def _traits(name: str, price: Mapping[str, Any] | None, traits: Mapping[str, Any]) -> dict[str, Any]:
    has: set[str] = set()
    lacks: set[str] = set()
    for rule in traits["rules"]:
        if re.search(rule["pattern"], name):
            has |= set(rule.get("capabilities", ()))
            lacks |= set(rule.get("lacks", ()))
    known = traits["models"].get(name, {})
    tier = known.get("tier") or _tier(price, traits)
    return {
        "tier": tier,
        "capabilities": sorted(has - lacks),
        "quality": known.get("quality", traits["tier_quality"][tier]),
        "output": known.get("output_tokens"),
        "latency_ms": known.get("latency_ms", traits["tier_latency_ms"][tier]),
    }


def _tier(price: Mapping[str, Any] | None, traits: Mapping[str, Any]) -> str:
    if price is None:
        return "medium"
    blended = (3 * float(price["i"]) + float(price["o"])) / 4
    return next((tier for tier, ceiling in traits["tier_ceilings_usd"].items() if blended < ceiling), "huge")


def write(path: Path, as_of: date) -> int:
    """Write the catalogue to `path`, one model a line; the number of models."""
    catalogue = compiled(as_of)
    rows = catalogue.pop("models")
    lines = ",\n".join(
        json.dumps({k: v for k, v in row.items() if v is not None}, separators=(",", ":"), sort_keys=True)
        for row in rows
    )
    head = json.dumps(catalogue, indent=1, ensure_ascii=False)[:-2]
    path.write_text(f'{head},\n "models": [\n{lines}\n]\n}}\n')
    return len(rows)
