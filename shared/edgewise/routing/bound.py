"""The most tokens that a request's prompt can be, whatever it says and whoever reads it.

Theory. A byte-level tokenizer (that of OpenAI, Llama, Mistral, Claude, Qwen) never makes more tokens of a text than it
has bytes of UTF-8, and mostly a fourth as many: emoji, rare characters and random bytes come near the bound, prose does
not. Some tokenizers normalise first (NFKC makes up to eleven times as many bytes of one character), so the larger of
the two counts. Everything of the body that may be put into a prompt counts, names of fields and braces too: what a
template adds around a message is no longer than the JSON that it replaces.

What is not text has the published most of its kind (`IMAGE_TOKENS`), and what can be of any length (a file, the pages
of a web search) leaves only the model's context window as a bound, which holds for every prompt: a longer one is
refused and not charged.

An estimate is kept apart from this: choosing by cost needs what is likely (`edgewise.routing.tokens`), holding money
needs what is possible.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgewise.chat import ChatRequest

TEMPLATE_TOKENS = 64
TOOLS_TOKENS = 1_024
"""What a provider's own instructions for tools come to at most (Anthropic tells of 804)."""
NUMBER_TOKENS = 24
AUDIO_CHARS = 40
"""Of base64 audio, characters a token: a token is a tenth of a second, which at 2.4 kbit/s is 40 characters."""
IMAGE_TOKENS: tuple[tuple[str, int], ...] = (
    # platform.openai.com/docs/guides/images-vision: 2833 and 5667 a tile of 512, of which eight fit 2048 by 768.
    ("gpt-4o-mini", 48_169),
    ("gpt-|o1|o3|o4|chatgpt", 4_096),
    # platform.claude.com/docs/en/build-with-claude/vision: pixels by 750, up to the model's largest image.
    ("claude", 4_784),
    # ai.google.dev/gemini-api/docs/image-understanding: 258 a tile of 768.
    ("gemini", 4_128),
)
OTHER_IMAGE_TOKENS = 16_384
ENDLESS = frozenset({"file", "input_file", "document", "video_url", "input_video"})
SEARCHES = ("web_search_options", "plugins")


class Most(NamedTuple):
    """The most tokens of a prompt without its images (infinite: only a context window bounds it), the images, and
    whether a part of it is to be kept for an hour."""

    most_tokens: float
    images: int = 0
    for_an_hour: bool = False


def most_prompt_tokens(request: ChatRequest) -> Most:
    """The most that a request's prompt can be."""
    body = request.body
    if any(body.get(name) is not None for name in SEARCHES):
        return Most(math.inf, for_an_hour=True)
    found = _Sum()
    for name, value in body.items():
        if name != "model":
            found.add(value)
    tools = TOOLS_TOKENS if body.get("tools") or body.get("functions") else 0
    return Most(found.tokens + TEMPLATE_TOKENS + tools, found.images, found.for_an_hour or _for_an_hour(body))


def image_tokens(model_id: str) -> int:
    """The most tokens that one image is for this model."""
    return next((most for pattern, most in IMAGE_TOKENS if re.search(pattern, model_id)), OTHER_IMAGE_TOKENS)


def text_tokens(text: str) -> int:
    """The most tokens that `text` can be."""
    if text.isascii():
        return len(text)
    return max(_bytes(text), _bytes(unicodedata.normalize("NFKC", text)))


def _for_an_hour(value: Mapping[str, Any]) -> bool:
    """Whether what has this mark is to be kept longer than the usual minutes."""
    mark = value.get("cache_control")
    return isinstance(mark, Mapping) and mark.get("ttl") not in (None, "5m")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


class _Sum:
    """Adds up a body's values."""

    __slots__ = ("for_an_hour", "images", "tokens")

    def __init__(self) -> None:
        self.tokens: float = 0
        self.images = 0
        self.for_an_hour = False

    def add(self, value: Any) -> None:
        if isinstance(value, str):
            self.tokens += text_tokens(value) + 2
        elif isinstance(value, Mapping):
            self._add_object(value)
        elif isinstance(value, list | tuple):
            self.tokens += 2 + len(value)
            for item in value:
                self.add(item)
        else:
            self.tokens += NUMBER_TOKENS

    def _add_object(self, value: Mapping[str, Any]) -> None:
        kind = value.get("type")
        self.for_an_hour = self.for_an_hour or _for_an_hour(value)
        if kind in ("image_url", "input_image", "image"):
            self.images += 1
        elif kind == "input_audio":
            told = value.get("input_audio")
            self.tokens += len(str(told.get("data", "")) if isinstance(told, Mapping) else "") / AUDIO_CHARS + 2
        elif isinstance(kind, str) and kind in ENDLESS:
            self.tokens = math.inf
        else:
            self.tokens += 2 + 4 * len(value)
            for name, item in value.items():
                self.tokens += text_tokens(name)
                self.add(item)
