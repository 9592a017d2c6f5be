"""`/v1/models`: what this caller may ask for, in OpenAI's shape, or Anthropic's for clients that name its version."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api.door import credentials_of
from edgewise.api.edge import Edge
from edgewise.api.problems import DIALECT
from edgewise.api.reply import reply
from edgewise.errors import ModelNotFound
from edgewise.words import Model, Principal

Listing = Callable[[], Iterable[Model]]
"""Every model that may be asked for by name, in the order to show; an alias is a model of provider 'edgewise'."""

AUTO = Model(provider="edgewise", id="auto", owned_by="edgewise")


def routes(edge: Edge, listing: Listing) -> list[Route]:
    async def models(request: Request) -> Response:
        told = _wire_for(request)
        principal = await edge.rooms.policy.identify(credentials_of(request))
        found = [told(model) for model in _allowed(principal, listing())]
        if told is wire:
            return reply({"object": "list", "data": found})
        return reply({"data": found, "has_more": False, "first_id": found[0]["id"], "last_id": found[-1]["id"]})

    async def model(request: Request) -> Response:
        told = _wire_for(request)
        principal = await edge.rooms.policy.identify(credentials_of(request))
        asked = request.path_params["id"]
        allowed = _allowed(principal, listing())
        for found in allowed:
            if asked == name_of(found):
                return reply(told(found))
        for found in allowed:
            if asked in (found.id, found.name):
                return reply({**told(found), "id": asked})
        raise ModelNotFound(f"The model {asked[:200]!r} does not exist or is not available here.", param="model")

    return [Route("/models", models, methods=["GET"]), Route("/models/{id:path}", model, methods=["GET"])]


def name_of(model: Model) -> str:
    """The name to ask for: `provider/id`, or an alias's own."""
    return model.id if model.provider == "edgewise" else model.name


def wire(model: Model) -> dict[str, Any]:
    return {
        "id": name_of(model),
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by or model.provider,
    }


def _wire_for(request: Request) -> Callable[[Model], dict[str, Any]]:
    """How this request's client reads a model; what goes wrong is then told in the same dialect."""
    if "anthropic-version" not in request.headers:
        return wire
    from edgewise.api.messages import MESSAGES

    request.scope[DIALECT] = MESSAGES
    return _anthropic_wire


def _anthropic_wire(model: Model) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name_of(model),
        "display_name": name_of(model),
        "created_at": datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": model.context_tokens,
        "max_tokens": model.output_tokens,
    }


def _allowed(principal: Principal, listed: Iterable[Model]) -> list[Model]:
    patterns = principal.settings.get("models") or ("*",)
    every = {name_of(model): model for model in (AUTO, *listed)}
    return [
        model
        for name, model in every.items()
        if model.provider == "edgewise" or any(fnmatchcase(spelt, p) for p in patterns for spelt in (name, model.id))
    ]
