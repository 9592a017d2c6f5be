"""`/admin`: keys, tenants' budgets and bans, as JSON for the console and the command line.

Bodies are checked by pydantic models that allow no field beyond their own, so that nothing is set by being sent. The
module behind it is imported with the first administrative request: a cold start that only chats does not pay for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api import body
from edgewise.api.door import credentials_of
from edgewise.api.reply import reply
from edgewise.clock import Clock
from edgewise.errors import InvalidRequest
from edgewise.words import Principal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from edgewise.policy.bans import Ban
    from edgewise.policy.desk import KeyDesk
    from edgewise.policy.keys import KeyRow
    from edgewise.policy.room import PolicyRoom

MAX_BODY_BYTES = 256_000
MAX_DEPTH = 32

Handler = Callable[[Request, "KeyDesk", Principal], Awaitable[Response]]


def routes(policy: Callable[[], PolicyRoom], clock: Clock) -> list[Route]:
    """`policy` gives the room when a request comes."""

    def guarded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            from edgewise.policy.desk import KeyDesk, check_admin

            room = policy()
            who = await room.identify(credentials_of(request))
            check_admin(who)
            return await handler(request, KeyDesk(room, clock), who)

        return endpoint

    table: tuple[tuple[str, str, Handler], ...] = (
        ("POST", "/admin/keys", _create),
        ("GET", "/admin/keys", _list),
        ("GET", "/admin/keys/{key_id}", _show),
        ("PATCH", "/admin/keys/{key_id}", _change),
        ("POST", "/admin/keys/{key_id}/rotate", _rotate),
        ("DELETE", "/admin/keys/{key_id}", _revoke),
        ("PUT", "/admin/tenants/{tenant}/budgets", _budgets),
        ("GET", "/admin/bans", _bans),
        ("POST", "/admin/bans", _ban),
        ("DELETE", "/admin/bans/{whom:path}", _lift),
    )
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]


async def _read(request: Request, model: type[BaseModel], *, empty: bool = False) -> Any:
    """The body as `model`. Raises InvalidRequest with the place that is wrong."""
    from pydantic import ValidationError

    raw = await body.read(request.receive, request.scope["headers"], MAX_BODY_BYTES)
    found = {} if empty and not raw.strip() else body.parse(raw, MAX_DEPTH)
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise InvalidRequest(str(first["msg"]), param=".".join(str(part) for part in first["loc"]) or None) from error


async def _create(request: Request, desk: KeyDesk, who: Principal) -> Response:
    from edgewise.policy.forms import NewKey

    form = await _read(request, NewKey)
    row, token = await desk.create(
        who, tenant=form.tenant, name=form.name, terms=form.terms, expires_at=form.expires_at
    )
    return reply({**_wire(row), "key": token}, status=201)


async def _list(request: Request, desk: KeyDesk, who: Principal) -> Response:
    rows = await desk.all(who, request.query_params.get("tenant"))
    return reply({"object": "list", "data": [_wire(row) for row in rows], "has_more": False})


async def _show(request: Request, desk: KeyDesk, who: Principal) -> Response:
    row = await desk.find(who, request.path_params["key_id"])
    return reply({**_wire(row), "budgets": await desk.budgets_of(row)})


async def _change(request: Request, desk: KeyDesk, who: Principal) -> Response:
    from edgewise.policy.forms import ChangedKey

    form = await _read(request, ChangedKey)
    changes = {name: getattr(form, name) for name in form.model_fields_set}
    return reply(_wire(await desk.change(who, request.path_params["key_id"], changes)))


async def _rotate(request: Request, desk: KeyDesk, who: Principal) -> Response:
    from edgewise.policy.forms import Rotation

    form = await _read(request, Rotation, empty=True)
    row, token = await desk.rotate(who, request.path_params["key_id"], form.overlap_s)
    return reply({**_wire(row), "key": token})


async def _revoke(request: Request, desk: KeyDesk, who: Principal) -> Response:
    return reply(_wire(await desk.revoke(who, request.path_params["key_id"])))


async def _budgets(request: Request, desk: KeyDesk, who: Principal) -> Response:
    from edgewise.policy.forms import TENANT, TenantBudgets

    tenant = request.path_params["tenant"]
    if not TENANT.fullmatch(tenant):
        raise InvalidRequest("A tenant's name is 1 to 64 letters, digits, '.', '_' or '-'.", param="tenant")
    form = await _read(request, TenantBudgets)
    await desk.set_budgets(who, tenant, form.budgets)
    return reply({"object": "tenant", "tenant": tenant, **form.model_dump(mode="json")})


async def _bans(_: Request, desk: KeyDesk, who: Principal) -> Response:
    return reply({"object": "list", "data": [_ban_wire(ban) for ban in await desk.bans(who)], "has_more": False})


async def _ban(request: Request, desk: KeyDesk, who: Principal) -> Response:
    from edgewise.policy.forms import NewBan

    form = await _read(request, NewBan)
    return reply(_ban_wire(await desk.ban(who, form.whom, form.reason, form.for_s)), status=201)


async def _lift(request: Request, desk: KeyDesk, who: Principal) -> Response:
    whom = request.path_params["whom"]
    await desk.lift(who, whom)
    return reply({"object": "ban", "whom": whom, "lifted": True})


def _wire(row: KeyRow) -> dict[str, Any]:
    """A key as it is shown: never its text, never its digests."""
    return {
        "object": "key",
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "hint": f"ew_live_…{row.hint}",
        "terms": row.terms.model_dump(mode="json", exclude_defaults=True),
        "created_at": int(row.created_at),
        "created_by": row.created_by,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }


def _ban_wire(ban: Ban) -> dict[str, Any]:
    return {"object": "ban", "whom": ban.whom, "reason": ban.reason, "since": ban.since, "until": ban.until}
