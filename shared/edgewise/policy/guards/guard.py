"""The walk through the guards: one request in, the request that may go on out, with what was noticed.

Caps first (they bound the work of what follows), then schemas, URLs, injection and personal data, then Bedrock's
guardrail if the key names one. A guard that refuses says which part and why, never what it would have let through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from edgewise.chat import ChatRequest
from edgewise.errors import ContentRefused, InvalidRequest
from edgewise.policy.guards.injection import FLAG_AT, score
from edgewise.policy.guards.schemas import check_schemas
from edgewise.policy.guards.urls import check_url
from edgewise.policy.texts import all_texts, changed, has_tokens, outside_texts, tokens_of
from edgewise.words import Late

if TYPE_CHECKING:
    from edgewise.policy.guards.moderation import Moderator
    from edgewise.policy.guards.pii import Finding
    from edgewise.policy.terms import Guards

    Find = Callable[[str, tuple[str, ...]], list[Finding]]

NOTHING: Mapping[str, str] = MappingProxyType({})
INJECTION = ("injection",)
MASKED = "redacted"


class Checked(NamedTuple):
    """What goes on: the request, what was noticed, and what must be put back into the answer. A tuple, as each request
    makes one, and a frozen dataclass takes twice as long."""

    request: ChatRequest
    flags: tuple[str, ...] = ()
    masked: Mapping[str, str] = NOTHING


class Guard:
    """`open_moderator` makes what asks Bedrock's guardrail, when a key first names one; a key that does is refused
    where there is none."""

    def __init__(self, open_moderator: Callable[[], Moderator] | None = None) -> None:
        self._open = open_moderator
        self._moderator: Moderator | None = None

    @property
    def moderator(self) -> Moderator:
        """Raises InvalidRequest where there is none."""
        if self._moderator is None:
            if self._open is None:
                raise InvalidRequest("This key asks for a guardrail, and this gateway has none.", code="no_guardrail")
            self._moderator = self._open()
        return self._moderator

    async def check(self, request: ChatRequest, guards: Guards | None, late: Late | None = None) -> Checked:
        """guards  the key's; None for the root key: nothing is capped, attacks are noticed, as `Guards()` says, which
        is not imported for it        late  is told what is paid, also for a request that is refused
        Raises InvalidRequest, ContentRefused, Unavailable."""
        body = request.body
        if guards is not None:
            _check_caps(request, guards)
        if "tools" in body or "response_format" in body or "functions" in body:
            check_schemas(body)
        _check_images(request, data_only=guards is not None and guards.image_urls == "data")
        if guards is None:
            return Checked(request, INJECTION) if _looks_injected(request) else Checked(request)
        flags: list[str] = []
        if guards.injection != "off" and _looks_injected(request):
            if guards.injection == "refuse":
                raise ContentRefused(
                    "The request looks like an attempt to overrule its instructions.", param="messages"
                )
            flags += INJECTION
        masked = NOTHING
        if guards.pii != "off":
            request, found, masked = _pii(request, guards)
            flags += found
        if guards.bedrock_guardrail is not None:
            late = late or Late()
            request = await self.moderator.request(request, guards, late)
            flags += late.flags
            late.flags = ()
        return Checked(request, tuple(flags), masked)


def _check_caps(request: ChatRequest, guards: Guards) -> None:
    most = guards.max_messages
    if most is not None and len(request.messages) > most:
        raise InvalidRequest(f"This key may send {most} messages at most.", param="messages")
    if guards.max_choices is not None and request.choices > guards.max_choices:
        raise InvalidRequest(f"This key may ask for {guards.max_choices} choices at most.", param="n")
    most = guards.max_output_tokens
    if most is not None and (request.output_limit is None or request.output_limit > most):
        raise InvalidRequest(
            f"This key must set `max_completion_tokens`, to {most} at most.", param="max_completion_tokens"
        )
    if guards.max_input_tokens is not None and tokens_of(request) > guards.max_input_tokens:
        raise InvalidRequest(
            f"This key may send about {guards.max_input_tokens} tokens at most.",
            param="messages",
            code="context_length_exceeded",
        )


def _check_images(request: ChatRequest, *, data_only: bool) -> None:
    """Image URLs are data, or public https where the key allows it: a provider fetches what we pass on."""
    for number, message in enumerate(request.messages):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for place, part in enumerate(content):
            image = part.get("image_url") if isinstance(part, Mapping) else None
            url = image.get("url") if isinstance(image, Mapping) else image
            if not isinstance(url, str) or url[:5].lower() == "data:":
                continue
            param = f"messages[{number}].content[{place}].image_url"
            if data_only:
                raise InvalidRequest(
                    "This key may send images as data: URLs only.", param=param, code="url_not_allowed"
                )
            check_url(url, param=param)


def _looks_injected(request: ChatRequest) -> bool:
    for text in outside_texts(request):  # noqa: SIM110 — a generator here costs as much as the scoring of a short text
        if score(text) >= FLAG_AT:
            return True
    return False


@cache
def _find() -> Find:
    from edgewise.policy.guards.pii import find

    return find


def _pii(request: ChatRequest, guards: Guards) -> tuple[ChatRequest, list[str], Mapping[str, str]]:
    if guards.pii != "flag" and has_tokens(request):
        raise InvalidRequest(
            "This key's texts are searched for personal data, so send text, not tokens.", param="input"
        )
    find, kinds = _find(), guards.pii_kinds
    findings = [found for text in all_texts(request) if (found := find(text, kinds))]
    if not findings:
        return request, [], NOTHING
    kinds_found = sorted({finding.kind for found in findings for finding in found})
    flags = [f"pii:{kind}" for kind in kinds_found]
    if guards.pii == "flag":
        return request, flags, NOTHING
    if guards.pii == "refuse":
        raise ContentRefused(f"The request holds personal data: {', '.join(kinds_found)}.", param="messages")
    from edgewise.policy.guards.mask import Mask

    mask = Mask("\n".join(all_texts(request)), kinds)
    return changed(request, mask.text), [*flags, MASKED], mask.masked
