"""Who embeds, by the name that a client asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise.words import Model

if TYPE_CHECKING:
    from edgewise.api.embeddings import Embed, Find
    from edgewise.assemble.house import House


def embedders(house: House) -> Find:
    """What embeds by name: `provider/id` there, any other id at the first provider that embeds."""

    def find(name: str) -> tuple[Model, Embed] | None:
        first, _, rest = name.partition("/")
        named = rest != "" and first in house.providers
        for provider in [house.providers[first]] if named else house.providers.values():
            embed: Embed | None = getattr(provider, "embed", None)
            if embed is not None:
                model_id = rest if named else name
                known = (m for m in house.models if m.provider == provider.name and m.id == model_id)
                return next(known, Model(provider.name, model_id)), embed
        return None

    return find
