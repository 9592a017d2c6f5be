"""The one HTTP client: a pooled aiohttp session, made at the first call.

aiohttp, because it costs a twentieth of the CPU of the alternatives (docs/decisions); provider SDKs never, because
they cost seconds of import. Redirects are not followed (they would carry credentials elsewhere), proxies and netrc of
the environment are ignored, cookies are not kept, and answers are asked for uncompressed: between data centres bytes
are cheaper than time. Sockets have Nagle's delay switched off.

A failure to reach the server or to read from it becomes an `UpstreamError` here, so the adapters see no aiohttp error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from edgewise.clock import Clock, Deadline
from edgewise.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from edgewise.provider.refusal import BROKEN, refused, retry_after_s
from edgewise.provider.sse import Event, EventParser, EventTooLong

if TYPE_CHECKING:
    import aiohttp

_LONGEST_REFUSAL_BYTES = 65_536
_DRAIN_S = 1.0
_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Times in seconds. `idle_s` is the longest silence within a stream; before it begins only the deadline counts,
    as a reasoning model may think for minutes. `connections` are per server, 0 for any number."""

    connect_s: float = 5.0
    idle_s: float = 300.0
    keepalive_s: float = 50.0
    connections: int = 0


class Http:
    """POST and GET with deadlines. Cheap to build; `close` gives the connections back, and the next call makes new
    ones, which is also what a restored snapshot needs."""

    def __init__(self, clock: Clock, options: HttpOptions | None = None) -> None:
        self._clock = clock
        self.options = options or HttpOptions()
        self._session: aiohttp.ClientSession | None = None
        self._used_at = 0.0
        self._draining: set[asyncio.Task[None]] = set()

    async def _open(self) -> aiohttp.ClientSession:
        """The session. After a pause it lets the loop see which servers have hung up meanwhile: a Lambda environment
        is frozen between requests, and its clock may have stood still too."""
        now = self._clock.now()
        pause_s, self._used_at = now - self._used_at, now
        if self._session is not None and pause_s > self.options.keepalive_s:
            await self.close()
        elif pause_s > _PAUSE_S:
            for _ in range(3):
                await asyncio.sleep(0)
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    limit_per_host=self.options.connections,
                    keepalive_timeout=self.options.keepalive_s,
                    ttl_dns_cache=30,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"user-agent": "edgewise", "accept-encoding": "identity"},
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        session, self._session = self._session, None
        for task in self._draining:
            task.cancel()
        if session is not None:
            await session.close()

    async def begin(
        self, url: str, headers: Mapping[str, str], body: bytes | None, deadline: Deadline
    ) -> aiohttp.ClientResponse:
        """POST `body` (GET when None); the answer once its head is there with status 200. Hand it to `end` after.

        Raises `UpstreamError`: for a refusal by its status, for silence by what kind it was.
        """
        import aiohttp

        session = await self._open()
        left_s = max(0.001, deadline.left_s())
        options = self.options
        try:
            response = await session.request(
                "GET" if body is None else "POST",
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=left_s, sock_connect=min(options.connect_s, left_s)),
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamUnavailable("The provider cannot be reached.") from error
        except TimeoutError as error:
            raise UpstreamTimeout("The provider did not begin to answer in time.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamUnavailable("The provider cannot be reached.") from error
        if response.status != 200:
            try:
                raise await self._refusal(response)
            finally:
                self.end(response)
        return response

    async def tell(self, url: str, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> int:
        """POST `body` and read nothing of the answer but its status. Raises OSError, TimeoutError."""
        import aiohttp

        session = await self._open()
        limit = aiohttp.ClientTimeout(total=max(0.001, deadline.left_s()))
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False, timeout=limit) as answer:
                return answer.status
        except aiohttp.ClientError as error:
            raise OSError(type(error).__name__) from error

    def end(self, response: aiohttp.ClientResponse, *, whole: bool = False) -> None:
        """Done with `response`. A connection whose answer has ended is already back in the pool. `whole` says that
        only the body's terminator can still come, which is worth a moment's wait; otherwise the call is broken off."""
        if response.content.is_eof() or not whole:
            response.close()
            return
        task = asyncio.get_running_loop().create_task(_drained(response))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _refusal(self, response: aiohttp.ClientResponse) -> UpstreamError:
        """The provider's refusal; its body is read only as far as an error object reaches."""
        import aiohttp

        told: Any = None
        try:
            told = orjson.loads(await response.content.read(_LONGEST_REFUSAL_BYTES))
        except (ValueError, TimeoutError, aiohttp.ClientError, OSError):
            told = None
        if isinstance(told, list) and told:
            told = told[0]
        error = told.get("error", told) if isinstance(told, dict) else None
        if isinstance(error, str):
            error = {"message": error}
        wait_s = retry_after_s(response.headers, self._clock.now())
        return refused(response.status, error if isinstance(error, dict) else None, wait_s)

    async def whole(
        self, url: str, headers: Mapping[str, str], body: bytes | None, deadline: Deadline
    ) -> dict[str, Any]:
        """The JSON object that is the answer. Raises `UpstreamError`."""
        import aiohttp

        response = await self.begin(url, headers, body, deadline)
        try:
            told = orjson.loads(await response.read())
        except TimeoutError as error:
            raise UpstreamTimeout("The provider's answer did not arrive in time.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise broken("The provider's answer broke off.") from error
        except ValueError as error:
            raise broken("The provider's answer is not JSON.") from error
        finally:
            self.end(response)
        if not isinstance(told, dict):
            raise broken("The provider's answer is not an object.")
        return told


async def events(response: aiohttp.ClientResponse, idle_s: float) -> AsyncGenerator[list[Event], None]:
    """The server-sent events of an answer, those of each read together. Raises `UpstreamError`, also after a
    silence of `idle_s` to twice that."""
    import aiohttp

    parser = EventParser()
    content = response.content
    watch = _Watch(content, idle_s)
    try:
        while piece := await content.readany():
            watch.reads += 1
            if found := parser.feed(piece):
                yield found
    except TimeoutError as error:
        raise UpstreamTimeout("The provider fell silent.") from error
    except (aiohttp.ClientError, OSError) as error:
        raise broken("The provider's stream broke off.") from error
    except EventTooLong as error:
        raise broken("The provider's stream has an event that is too long.") from error
    finally:
        watch.timer.cancel()


class _Watch:
    """Ends a stream that is silent for too long. It looks only now and then: a timer for every read would cost as
    much as the read."""

    __slots__ = ("_content", "_idle_s", "_seen", "reads", "timer")

    def __init__(self, content: aiohttp.StreamReader, idle_s: float) -> None:
        self._content, self._idle_s = content, idle_s
        self.reads = self._seen = 0
        self.timer = asyncio.get_running_loop().call_later(idle_s, self._look)

    def _look(self) -> None:
        if self.reads == self._seen:
            self._content.set_exception(TimeoutError())
            return
        self._seen = self.reads
        self.timer = asyncio.get_running_loop().call_later(self._idle_s, self._look)


async def _drained(response: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(_DRAIN_S):
            await response.content.wait_eof()
    except Exception:  # noqa: BLE001  whatever it was, nobody waits for this answer any more
        return
    finally:
        response.close()


def broken(message: str) -> UpstreamUnavailable:
    """An answer that began with status 200 and is not whole. Before anything of it was handed on, another attempt
    may help; after that the caller makes it `UpstreamDied`."""
    return UpstreamUnavailable(message, code=BROKEN, status=502)
