"""What an answer says about itself once it is there: the cheapest evidence first, one number with its source.

Free: why it ended, whether it refuses, whether a schema or a tool's arguments hold, how its length compares, log
probabilities when the provider gives them. Paid: a second cheap model's answer, where two answers can be compared at
all. Agreement is worth most by far (on recorded outcomes the chance that the cheap answer is right is told with AUC
.88 by agreement, .80 by the answer's own looks, .79 by the question alone).

Confidence is the probability that the answer is good; `source` names what it rests on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgewise.chat import Answer, ChatRequest, text_of

Kind = Literal["tools", "json", "number", "label"]

AGREED = 0.954
DISAGREED = 0.433
"""Share of right cheap answers when two cheap models agree, and when they don't (ZeroEval, 2,840 questions)."""
SIDED = 0.72
"""Share of right third answers that side with one of two that disagreed (ZeroEval)."""
LENGTH_OUTLIER = 3.0
"""Standard deviations of log length beyond which an answer is suspicious."""

REFUSAL = re.compile(
    r"^\W*(?:i'?m sorry|i am sorry|sorry,|i can(?:no|')t|i cannot|i am unable|i'?m unable|as an ai\b|i won'?t"
    r"|很抱歉|抱歉|对不起|我无法|我不能|作为一个ai)",
    re.IGNORECASE,
)
UNSURE = re.compile(
    r"\b(?:i'?m not (?:entirely )?sure|i don'?t know|it is unclear|cannot be determined|not enough information)\b"
    r"|不确定|不知道|无法确定",
    re.IGNORECASE,
)
UNSURE_WORDS = (" sure", " know", "unclear", "determined", "not enough", "不确定", "不知道", "无法确定")
"""What is in every text that `UNSURE` finds."""
NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")
FINAL = re.compile(r"(?:####|\\boxed\{|answer\s*(?:is|:)|答案(?:是|为|：))\s*([^\n}]*)", re.IGNORECASE)
ASKS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|old|far|long|tall|fast)|calculate|compute|evaluate|what is the (?:value|sum|total|product"
    r"|probability|area|remainder|number)|find the (?:value|sum|number|smallest|largest|area|remainder))\b"
    r"|多少|几个|计算|求",
    re.IGNORECASE,
)
ASKS_LABEL = re.compile(
    r"\b(?:classify|which of the following|true or false|yes or no|one of:|choose (?:one|the)|label|multiple choice"
    r"|sentiment)\b|(?:^|\n)[^\S\n]*\(?[A-D][).:]\s|分类|选择|哪一项|是否",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Confidence:
    """How likely the answer is good, 0 to 1, and on what that rests ('schema', 'agreement', 'refusal', …)."""

    value: float
    source: str


def comparable(request: ChatRequest) -> Kind | None:
    """How two answers to this request could be compared; None for open text, where agreement means nothing."""
    if request.choices > 1:
        return None
    body = request.body
    if body.get("tools"):
        return "tools"
    wanted = body.get("response_format")
    if isinstance(wanted, Mapping) and wanted.get("type") in ("json_schema", "json_object"):
        return "json"
    last = next((m for m in reversed(request.messages) if m.get("role") == "user"), None)
    text = text_of(last.get("content")) if last else ""
    if ASKS_LABEL.search(text):
        return "label"
    if ASKS_NUMBER.search(text) and re.search(r"\d", text):
        return "number"
    return None


def own(
    request: ChatRequest, answer: Answer, *, base: float, usual_log_length: tuple[float, float] | None
) -> Confidence:
    """Confidence from the answer alone.

    base               what was expected of the model on this question, 0 to 1: the confidence when nothing is amiss
    usual_log_length   mean and deviation of this model's log answer tokens; None when too few were seen
    """
    broken = _broken(request, answer)
    if broken is not None:
        return broken
    text = answer.text
    if text and _unsure(text):
        return Confidence(min(base, 0.35), "unsure")
    mean_probability = _mean_probability(answer)
    if mean_probability is not None:
        # The geometric mean of token probabilities, taken half as seriously as what is known of the model.
        return Confidence(_bounded((2 * base + mean_probability) / 3), "logprobs")
    usage = answer.usage
    if usual_log_length is not None and usage is not None and usage.completion_tokens > 0:
        mean, deviation = usual_log_length
        if abs(math.log(usage.completion_tokens) - mean) > LENGTH_OUTLIER * max(deviation, 0.2):
            return Confidence(min(base, 0.5), "length")
    if request.body.get("tools") and answer.tool_calls:
        return Confidence(_bounded(base + 0.05), "tool-call")
    if _schema(request) is not None:
        return Confidence(_bounded(base + 0.03), "schema")
    return Confidence(base, "prior")


def _unsure(text: str) -> bool:
    # Plain words first: the pattern is tried at every letter of what may be a long answer.
    plain = text.lower()
    return any(word in plain for word in UNSURE_WORDS) and UNSURE.search(text) is not None


def _broken(request: ChatRequest, answer: Answer) -> Confidence | None:
    """A defect that settles it: no further evidence can save the answer."""
    if not answer.choices:
        return Confidence(0.0, "empty")
    finish = answer.finish_reasons[0]
    if finish == "content_filter":
        return Confidence(0.0, "content-filter")
    if finish == "length":
        return Confidence(0.05, "truncated")
    if answer.tool_calls:
        return None if all(_sound(call, request) for call in answer.tool_calls) else Confidence(0.0, "tool-call")
    text = answer.text
    if answer.refusal or REFUSAL.search(text[:200]):
        return Confidence(0.1, "refusal")
    if not text.strip():
        return Confidence(0.0, "empty")
    wanted = request.body.get("response_format")
    if isinstance(wanted, Mapping) and wanted.get("type") in ("json_schema", "json_object"):
        value = _json(text)
        if value is None or not matches(value, _schema(request) or {}):
            return Confidence(0.0, "schema")
    return None


def _sound(call: Mapping[str, Any], request: ChatRequest) -> bool:
    """A tool call that names a tool of the request, with arguments that its schema takes."""
    function = call.get("function")
    if not isinstance(function, Mapping):
        return True
    offered = {
        tool["function"].get("name"): tool["function"].get("parameters") or {}
        for tool in request.body.get("tools") or ()
        if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)
    }
    if function.get("name") not in offered:
        return False
    arguments = _json(str(function.get("arguments") or "{}"))
    return isinstance(arguments, dict) and matches(arguments, offered[function["name"]])


def _schema(request: ChatRequest) -> Mapping[str, Any] | None:
    wanted = request.body.get("response_format")
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        return None
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip


def matches(value: Any, schema: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether `value` meets the parts of JSON Schema that models get wrong: type, enum, required, items.

    What it doesn't know (references, patterns, bounds) it lets pass: it looks for broken answers, it doesn't certify.
    """
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind] if kind else []
    if kinds and not any(_is(value, name) for name in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if depth > 12:
        return True
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        if any(name not in value for name in schema.get("required") or ()):
            return False
        if schema.get("additionalProperties") is False and any(name not in properties for name in value):
            return False
        return all(matches(value[n], s, depth + 1) for n, s in properties.items() if n in value)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return all(matches(item, schema["items"], depth + 1) for item in value)
    return True


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES.get(name, (object,)))


def _json(text: str) -> Any:
    """The JSON value of a text, with or without a code fence; None when there is none."""
    plain = text.strip()
    if plain.startswith("```"):
        plain = plain.split("\n", 1)[-1].rsplit("```", 1)[0]
    try:
        return json.loads(plain)
    except ValueError:
        return None


def _mean_probability(answer: Answer) -> float | None:
    logprobs = answer.choices[0].get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    values = [
        t["logprob"] for t in tokens or () if isinstance(t, Mapping) and isinstance(t.get("logprob"), int | float)
    ]
    return math.exp(sum(values) / len(values)) if values else None


def conclusion(answer: Answer, kind: Kind) -> str | None:
    """The comparable part of an answer, normalised; None when it has none."""
    if kind == "tools":
        if not answer.tool_calls:
            return f"text:{plain_label(answer.text)}" if answer.text else None
        return json.dumps(sorted(_call(call) for call in answer.tool_calls))
    text = answer.text
    value = _json(text)
    if kind == "json":
        return None if value is None else json.dumps(_plain(value), sort_keys=True)
    if isinstance(value, dict) and "answer" in value:
        text = str(value["answer"])
    final = FINAL.findall(text)
    said = final[-1] if final and final[-1].strip() else text
    if kind == "number":
        numbers = NUMBER.findall(said) or NUMBER.findall(text)
        return number(numbers[-1]) if numbers else None
    return plain_label(said)


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function") or {}
    arguments = _json(str(function.get("arguments") or "{}"))
    return f"{function.get('name')}({json.dumps(_plain(arguments), sort_keys=True)})"


def _plain(value: Any) -> Any:
    """JSON without differences that mean nothing: case and space of strings, 2.0 and 2."""
    if isinstance(value, str):
        return " ".join(value.lower().split())
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def number(text: str) -> str:
    """A number in one spelling: `1,200.0`, `$1200` and `1200` are one."""
    plain = text.replace(",", "").replace("$", "").rstrip("%").rstrip(".")
    try:
        value = float(plain)
    except ValueError:
        return plain
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def plain_label(text: str) -> str:
    """A short answer in one spelling; a choice's letter stands for the whole."""
    words = " ".join(re.sub(r"[^\w\s.-]", " ", text.lower()).split())
    letter = re.match(r"^(?:option |choice )?([a-j])(?:[.) ]|$)", words)
    return letter.group(1) if letter else words.strip(" .")[:200]


def agreement(first: Answer, second: Answer, kind: Kind) -> Confidence:
    """Confidence in `first` given a second model's independent answer."""
    one, two = conclusion(first, kind), conclusion(second, kind)
    agreed = one is not None and one == two
    return Confidence(AGREED if agreed else DISAGREED, "agreement" if agreed else "disagreement")


def majority(third: Answer, earlier: Sequence[Answer], kind: Kind) -> Confidence:
    """Confidence in a third answer, by whether it sides with one of two that disagreed."""
    said = conclusion(third, kind)
    sided = said is not None and any(conclusion(answer, kind) == said for answer in earlier)
    return Confidence(SIDED if sided else DISAGREED, "majority" if sided else "disagreement")


def _bounded(value: float) -> float:
    return min(0.99, max(0.01, value))
