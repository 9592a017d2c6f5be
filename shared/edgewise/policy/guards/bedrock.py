"""Amazon Bedrock Guardrails as a judge of text (`ApplyGuardrail`): the option for what has no checksum.

One call per request that costs money and tens of milliseconds, so a key names its guardrail or there is none. When
the service does not answer, the request is refused: a guard that is down guards nothing.
"""

from __future__ import annotations

from typing import Any

from edgewise.aws import Aws, AwsError
from edgewise.errors import Unavailable


class BedrockJudge:
    """Implements `guard.Judge`."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    async def judge(self, guardrail: str, text: str) -> tuple[str, ...]:
        identifier, _, version = guardrail.partition(":")
        try:
            answer = await self._aws.call(
                "bedrock-runtime",
                "apply_guardrail",
                guardrailIdentifier=identifier,
                guardrailVersion=version,
                source="INPUT",
                content=[{"text": {"text": text}}],
            )
        except AwsError as error:
            raise Unavailable("The guardrail of this key does not answer.", code="guardrail_unavailable") from error
        if answer.get("action") != "GUARDRAIL_INTERVENED":
            return ()
        return tuple(sorted(_kinds(answer.get("assessments") or []))) or ("guardrail",)


def _kinds(assessments: list[dict[str, Any]]) -> set[str]:
    """The policies that intervened: 'topic', 'content', 'word', 'sensitive_information', …"""
    names = {
        "topicPolicy": "topic",
        "contentPolicy": "content",
        "wordPolicy": "word",
        "sensitiveInformationPolicy": "sensitive_information",
        "contextualGroundingPolicy": "grounding",
    }
    return {names[name] for assessment in assessments for name in assessment if name in names}
