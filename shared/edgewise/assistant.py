"""One object that does it all in this process: cache → route → stream → store.

    from edgewise import Assistant

    async with Assistant() as assistant:
        print((await assistant.ask("What is the capital of France?")).text)
        async for text in assistant.stream("And of Peru?"):
            print(text, end="")

The same corridor as behind the HTTP edge, without HTTP: the request passes `edgewise.flow.serve`, with the settings of
the environment or those given. It asks as the root key's tenant unless a key is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgewise.assemble.house import House, build
from edgewise.chat import Answer, CacheAsk, ChatRequest, text_of
from edgewise.clock import Deadline
from edgewise.errors import EdgewiseError
from edgewise.flow import serve
from edgewise.jobs.tasks.gather import Asked, Failed, Purse, Unasked
from edgewise.jobs.tasks.pursed import Pursed
from edgewise.rooms import Rooms
from edgewise.served import Served
from edgewise.settings import Settings
from edgewise.words import Credentials, Usd

ROUTE = "/v1/chat/completions"
IN_PROCESS = {"EDGEWISE_ROOT_KEY": "ew_in_process", "EDGEWISE_REQUEST_LOG": "false"}
"""Unless the environment says otherwise. Standard output is the program's own, not a place for lines of ours."""

Question = str | Sequence[Mapping[str, Any]]
"""A user's text, or a whole conversation in OpenAI's shape."""


class Assistant:
    """`settings` None: those of the environment, with a root key made up if there is none (nobody else can call)."""

    def __init__(self, settings: Settings | None = None, *, model: str = "auto", key: str | None = None) -> None:
        if settings is None:
            settings = Settings.of_process(IN_PROCESS)
        self._house: House = build(settings)
        self._model = model
        self._credentials = Credentials(key or settings.root_key, ROUTE)
        self.last: Served | None = None
        """What happened to the last question: verdict, choice, attempts, cost."""

    async def __aenter__(self) -> Assistant:
        await self._house.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._house.background.drain(within_s=5)
        await self._house.close()

    async def ask(self, question: Question, *, cache: CacheAsk | None = None, **parameters: Any) -> Answer:
        """The whole answer. `parameters` are OpenAI's (`temperature`, `tools`, …). Raises `EdgewiseError`."""
        served = await self._serve(question, cache, parameters, stream=False)
        assert served.answer is not None
        return served.answer

    async def stream(
        self, question: Question, *, cache: CacheAsk | None = None, **parameters: Any
    ) -> AsyncIterator[str]:
        """The answer's text as it comes. Raises `EdgewiseError`, in the middle too."""
        served = await self._serve(question, cache, parameters, stream=True)
        assert served.chunks is not None
        async for chunk in served.chunks:
            for choice in chunk["choices"]:
                if text := text_of(choice["delta"].get("content")):
                    yield text

    async def gather(
        self,
        questions: Sequence[Question],
        *,
        budget_usd: Usd | None = None,
        max_concurrent: int = 10,
        cache: CacheAsk | None = None,
        **parameters: Any,
    ) -> list[Asked[Answer] | Failed | Unasked]:
        """What came of independent questions, asked at once, in their order; together they cost `budget_usd` at most.

        A question for which there is no room waits for what others bring back, and is left unasked when none will.
        One that fails does not disturb the others.
        """
        purse, room = Purse(budget_usd), asyncio.Semaphore(max_concurrent)

        async def one(question: Question) -> Asked[Answer] | Failed | Unasked:
            policy: Any = Pursed(self._house.rooms.policy, purse)
            rooms = replace(self._house.rooms, policy=policy)
            async with room:
                try:
                    served = await self._serve(question, cache, dict(parameters), stream=False, rooms=rooms)
                except EdgewiseError as error:
                    return Unasked() if policy.refused else Failed(error)
            assert served.answer is not None
            return Asked(served.answer, served.cost_usd)

        return list(await asyncio.gather(*map(one, questions)))

    async def _serve(
        self,
        question: Question,
        cache: CacheAsk | None,
        parameters: dict[str, Any],
        *,
        stream: bool,
        rooms: Rooms | None = None,
    ) -> Served:
        rooms = rooms or self._house.rooms
        messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
        body = {"model": self._model, "messages": messages, **parameters}
        routing = body.pop("routing", {})
        request = ChatRequest(body, stream=stream, cache=cache or CacheAsk(), routing=routing)
        deadline = Deadline.after(rooms.clock, self._house.settings.deadline_s)
        self.last = await serve(rooms, self._credentials, request, deadline, rooms.clock.token("req_"))
        return self.last
