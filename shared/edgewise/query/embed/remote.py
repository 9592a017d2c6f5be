"""An embedder behind a call: Amazon Titan, OpenAI, vLLM, Ollama, whatever one of the gateway's providers embeds with.

A lookup waits for it, so it is asked as little and as briefly as may be. The vectors of the last texts are remembered:
the question that was not found is stored a moment later under the same vector. A service that failed or was too slow
rests for a while, in which every question is a miss at once instead of after another wait. Vectors are brought to unit
length: not every server does.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgewise.clock import Clock
from edgewise.query.embed import EmbedderDown

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Ask = Callable[[list[str]], Awaitable[Sequence[Sequence[float]]]]
"""Texts to their vectors, in order; raises whatever the call raises."""
MOST_TEXTS = 256
REMEMBERED = 512


class RemoteEmbedder:
    """One model behind one call.

    name       of the model, and whatever else names its vector space
    timeout_s  how long a call may take
    rest_s     how long a service that failed is not asked
    """

    dim = 0
    """Known once the first text has its vector."""

    def __init__(self, name: str, ask: Ask, clock: Clock, *, timeout_s: float, rest_s: float = 10.0) -> None:
        self._name = name
        self._ask = ask
        self._clock = clock
        self._timeout_s = timeout_s
        self._rest_s = rest_s
        self._rests_until = float("-inf")
        self._known: OrderedDict[str, Array] = OrderedDict()

    @property
    def id(self) -> str:
        """A server that changes its model's dimension has another vector space."""
        return f"{self._name}/{self.dim}"

    async def encode(self, texts: list[str]) -> Array:
        """(n, dim) float32 rows of unit length. Raises `EmbedderDown`."""
        import numpy as np

        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        fresh: dict[str, Array] = {}
        for at in range(0, len(new), MOST_TEXTS):
            part = new[at : at + MOST_TEXTS]
            fresh |= zip(part, await self._called(part), strict=True)
        rows = np.stack([fresh[text] if text in fresh else self._known[text] for text in texts])
        self._known |= fresh
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return rows

    async def _called(self, texts: list[str]) -> Array:
        import numpy as np

        if self._clock.tick() < self._rests_until:
            raise EmbedderDown(f"{self._name} has just failed and is left alone")
        try:
            async with asyncio.timeout(self._timeout_s):
                rows = np.array(await self._ask(texts), np.float32)
        except BaseException as error:
            # A caller that gave up has waited too long as well.
            self._rests_until = self._clock.tick() + self._rest_s
            if isinstance(error, Exception):
                raise EmbedderDown(f"{self._name} did not embed: {type(error).__name__}") from error
            raise
        if rows.ndim != 2 or len(rows) != len(texts) or not rows.shape[1] or rows.shape[1] % 64:
            raise EmbedderDown(f"{self._name} gave {len(texts)} texts vectors of shape {rows.shape}")
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise EmbedderDown(f"{self._name} gave a vector without a direction")
        if self.dim not in (0, rows.shape[1]):
            self._known.clear()
        self.dim = rows.shape[1]
        found: Array = rows / norms
        return found
