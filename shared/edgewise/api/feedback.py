"""`POST /v1/feedback {request_id, score | rating, reason, comment}`: idempotent by request and key.

`request_id` is the answer's `x-request-id`, which every OpenAI SDK hands out (`_request_id`). It finds a hit by meaning
whichever process served it, for thirty days; an exact hit by its request alone only where it was served, and anywhere
with `cache_key`, its `x-edgewise-cache-key`. The answer says what the opinion did: whether it was new (`changed`), and
whether it took a cached answer away or taught the router (`effects`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.api import body
from edgewise.api.door import credentials_of
from edgewise.api.reply import reply
from edgewise.clock import Clock
from edgewise.errors import InvalidRequest, NotFound
from edgewise.record.feedback import REASONS, Feedback, Opinion, may_exist
from edgewise.words import Credentials, Principal

Identify = Callable[[Credentials], Awaitable[Principal]]

MAX_BODY_BYTES = 32_000
MAX_COMMENT_CHARS = 4_000
RATINGS = {"up": 1.0, "down": -1.0}
FIELDS = {"request_id", "score", "rating", "reason", "comment", "cache_key"}
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_KEY = re.compile(r"[0-9a-f]{64}")


def routes(identify: Identify, feedback: Callable[[], Feedback], clock: Clock) -> list[Route]:
    async def give(request: Request) -> Response:
        who = await identify(credentials_of(request))
        raw = await body.read(request.receive, request.scope["headers"], MAX_BODY_BYTES)
        opinion = _opinion(body.parse(raw, 8), who, clock.now())
        if not may_exist(opinion.request_id, opinion.at):
            raise NotFound("No request of the last 180 days has this id.", param="request_id")
        heard = await feedback().give(opinion)
        told = {"request_id": opinion.request_id, "score": opinion.score}
        return reply({"object": "feedback", **told, "changed": heard.news, "effects": heard.effects})

    return [Route("/feedback", give, methods=["POST"])]


def _opinion(form: dict[str, Any], who: Principal, now: float) -> Opinion:
    """Raises InvalidRequest."""
    for name in form:
        if name not in FIELDS:
            raise InvalidRequest("There is no such field.", param=name[:64])
    request_id = form.get("request_id")
    if not isinstance(request_id, str) or not _ID.fullmatch(request_id):
        raise InvalidRequest("`request_id` must be an answer's x-request-id.", param="request_id")
    reason, comment = form.get("reason") or "", form.get("comment") or ""
    if reason not in REASONS:
        raise InvalidRequest(f"`reason` must be one of {', '.join(REASONS[1:])}.", param="reason")
    if not isinstance(comment, str) or len(comment) > MAX_COMMENT_CHARS:
        raise InvalidRequest(f"`comment` must be at most {MAX_COMMENT_CHARS} characters.", param="comment")
    cache_key = form.get("cache_key")
    if cache_key is not None and (not isinstance(cache_key, str) or not _KEY.fullmatch(cache_key)):
        raise InvalidRequest("`cache_key` must be an answer's x-edgewise-cache-key.", param="cache_key")
    return Opinion(request_id, who.tenant, who.key_id, _score(form), reason, comment, now, cache_key)


def _score(form: dict[str, Any]) -> float:
    score, rating = form.get("score"), form.get("rating")
    if (score is None) == (rating is None):
        raise InvalidRequest("Give either `score`, from -1 to 1, or `rating`, 'up' or 'down'.", param="score")
    if rating is not None:
        if not isinstance(rating, str) or rating not in RATINGS:
            raise InvalidRequest("`rating` must be 'up' or 'down'.", param="rating")
        return RATINGS[rating]
    if isinstance(score, bool) or not isinstance(score, int | float) or not -1 <= score <= 1:
        raise InvalidRequest("`score` must be a number from -1 to 1.", param="score")
    return float(score)
