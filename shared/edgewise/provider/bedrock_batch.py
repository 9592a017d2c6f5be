"""Chat requests as records of a Bedrock batch job, and its outputs as answers: Converse's words without a call.

What cannot be said in a record is None, never an error: whoever made the request hears what is wrong with it when it
is asked by itself.

Source: Bedrock's user guide, "Process multiple prompts with batch inference": no tools in jobs of type Converse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewise.chat import ChatRequest
from edgewise.clock import Clock, Deadline
from edgewise.errors import UpstreamRefused
from edgewise.provider.bedrock_answer import MALFORMED, answer_of
from edgewise.provider.bedrock_ask import ask
from edgewise.provider.port import Call
from edgewise.words import Model


class ConverseRecords:
    """`edgewise.jobs.bedrock.Converse`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def asked(self, model: Model, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The body of a Converse request; its model is the job's."""
        try:
            asked = ask(Call.of(model, ChatRequest(body), Deadline.after(self._clock, 0.0)))
        except (UpstreamRefused, KeyError, TypeError, ValueError, AttributeError):
            # Nobody has held this line to the route's description yet.
            return None
        del asked["modelId"]
        return None if "toolConfig" in asked else asked

    def answered(self, model: Model, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The chat completion; None for an output that is not whole, or that the model spoilt."""
        if told.get("stopReason") in MALFORMED:
            return None
        fresh, created = self._clock.token("chatcmpl-"), int(self._clock.now())
        try:
            return answer_of(told, id=fresh, created=created, model=model.id).completion
        except (KeyError, TypeError):
            return None
