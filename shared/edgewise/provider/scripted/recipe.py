"""The recipe: how a scripted model shall behave, in `key=value` words.

A recipe is read from three places, each laid over the one before:

    model id         scripted/echo?latency_ms=200&tokens=50            URL query, percent-encoded
    body.metadata    {"script": "status=429 retry_after_s=2 times=1"}  shell words
    last user turn   Tell me a story. [[script tokens=80 die=mid-chunk]]   shell words; cut out of what is answered

Its words:

    latency_ms=N       before the first byte                 token_ms=N      between tokens
    text="…"           say this                              tokens=N        say N tokens
    tool=NAME args=JSON  call this tool                      refusal="…"     refuse in these words
    finish=REASON      finish_reason (length, content_filter, …)
    confidence=P       mean token probability in `logprobs`, 0 to 1
    prompt_tokens=N cached_tokens=N reasoning_tokens=N       usage, instead of counted
    status=N           fail with this HTTP status            code=C message="…"   of that error
    retry_after_s=N    its Retry-After
    die=POINT          die at before-headers, after-headers, mid-chunk, after-content, before-finish or before-usage
    times=N            `status` and `die` only for the first N attempts at the same request

The model's name says what it does when the recipe says nothing: `tool` calls a tool whenever it is given one, `json`
answers with a JSON object, every other (`echo`) decides by the request as `reply.py` tells. An unknown word is
refused with 400, so a typing error is never a silent success.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

from edgewise.chat import text_of
from edgewise.errors import UpstreamRefused

Point = Literal["before-headers", "after-headers", "mid-chunk", "after-content", "before-finish", "before-usage"]
POINTS: tuple[Point, ...] = get_args(Point)

_IN_PROMPT = re.compile(r"(?<!\s)\s*\[\[script\s+(.{0,2000}?)\]\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Recipe:
    """See the module. None: not told, so natural."""

    latency_ms: float = 0.0
    token_ms: float = 0.0
    tokens: int | None = None
    text: str | None = None
    tool: str | None = None
    args: str | None = None
    refusal: str | None = None
    finish: str | None = None
    confidence: float = 0.9
    prompt_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    retry_after_s: float | None = None
    die: str | None = None
    times: int | None = None

    @property
    def fails(self) -> bool:
        return self.status is not None or self.die is not None

    def without_failure(self) -> Recipe:
        return dataclasses.replace(self, status=None, die=None)


_KINDS: dict[str, type] = {
    field.name: float if "float" in str(field.type) else int if "int" in str(field.type) else str
    for field in dataclasses.fields(Recipe)
}


def read(model_id: str, body: Mapping[str, Any]) -> Recipe:
    """The recipe of one request. Raises `UpstreamRefused` (400) for a word that is none."""
    words = dict(parse_qsl(model_id.partition("?")[2], keep_blank_values=True))
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(metadata.get("script"), str):
        words |= _shell(metadata["script"], "metadata.script")
    for told in _IN_PROMPT.findall(last_user_text(body)):
        words |= _shell(told, "messages")
    recipe = Recipe(**{key: _value(key, text) for key, text in words.items()})
    if recipe.die is not None and recipe.die not in POINTS:
        raise UpstreamRefused(f"A script can die at {', '.join(POINTS)}.", param="die", code="invalid_script")
    return recipe


def last_user_text(body: Mapping[str, Any]) -> str:
    """The text of the last user turn, recipe included; '' when there is none."""
    for message in reversed(body.get("messages") or []):
        if message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def without_recipe(text: str) -> str:
    return _IN_PROMPT.sub("", text).strip()


def _shell(told: str, where: str) -> dict[str, str]:
    try:
        words = shlex.split(told)
    except ValueError as error:
        raise UpstreamRefused(f"The script cannot be read: {error}.", param=where, code="invalid_script") from error
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _value(key: str, text: str) -> Any:
    kind = _KINDS.get(key)
    try:
        if kind is not None:
            return kind(text)
    except ValueError:
        pass
    raise UpstreamRefused(f"A script has no word {key}={text}.", param=key, code="invalid_script")
