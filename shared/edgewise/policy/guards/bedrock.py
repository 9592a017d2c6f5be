"""Amazon Bedrock Guardrails as a judge of text (`ApplyGuardrail`): the option for what has no checksum.

A call costs money and tens of milliseconds, so a key names its guardrail or there is none. A guardrail blocks a text,
or masks parts of it (personal data that it is set to anonymise), and says which of its policies did so. It takes 25
units of a thousand characters at a time, so a longer text is judged in pieces.

Whether a judge that does not answer lets a request pass is the key's choice, not this module's.
Sources  docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ApplyGuardrail.html, aws.amazon.com/bedrock/pricing
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from edgewise.aws import Aws, AwsError
from edgewise.errors import Unavailable
from edgewise.words import Usd

Source = Literal["INPUT", "OUTPUT"]

PIECE_CHARS = 24_000
UNIT_CHARS = 1_000
UNIT_USD: Mapping[str, Usd] = {
    "contentPolicyUnits": Decimal("0.00015"),
    "contentPolicyImageUnits": Decimal("0.00075"),
    "topicPolicyUnits": Decimal("0.00015"),
    "sensitiveInformationPolicyUnits": Decimal("0.0001"),
    "contextualGroundingPolicyUnits": Decimal("0.0001"),
}
"""US dollars for a unit (us-east-1, 2026); what is not named is free."""
MOST_UNIT_USD = Decimal("0.0005")
KINDS = {
    "topicPolicy": "topic",
    "contentPolicy": "content",
    "wordPolicy": "word",
    "sensitiveInformationPolicy": "sensitive_information",
    "contextualGroundingPolicy": "grounding",
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """kinds: the policies that intervened, none for none. text: what the guardrail would have it say instead.
    is_masked: that is the same text with parts of it hidden; otherwise it is the guardrail's own words."""

    kinds: tuple[str, ...] = ()
    text: str = ""
    is_masked: bool = False
    usd: Usd = Decimal(0)


class BedrockJudge:
    """Implements `guard.Judge`."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    async def judge(self, guardrail: str, text: str, source: Source) -> Judgement:
        """Raises Unavailable, which tells what the pieces before have cost."""
        pieces = [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]
        found: list[Judgement] = []
        try:
            for piece in pieces:
                found.append(await self._judge(guardrail, piece, source))
        except Unavailable as error:
            error.spent_usd = sum((each.usd for each in found), Decimal(0))
            raise
        kinds = tuple(sorted({kind for each in found for kind in each.kinds}))
        usd = sum((each.usd for each in found), Decimal(0))
        blocked = next((each for each in found if each.kinds and not each.is_masked), None)
        if blocked is not None:
            return Judgement(kinds, blocked.text, is_masked=False, usd=usd)
        masked = "".join(each.text if each.kinds else piece for each, piece in zip(found, pieces, strict=True))
        return Judgement(kinds, masked, is_masked=bool(kinds), usd=usd)

    async def _judge(self, guardrail: str, text: str, source: Source) -> Judgement:
        identifier, _, version = guardrail.partition(":")
        try:
            told = await self._aws.call(
                "bedrock-runtime",
                "apply_guardrail",
                guardrailIdentifier=identifier,
                guardrailVersion=version,
                source=source,
                content=[{"text": {"text": text}}],
            )
        except AwsError as error:
            raise Unavailable("The guardrail of this key does not answer.", code="guardrail_unavailable") from error
        usage = told.get("usage") or {}
        usd = sum((usd * int(usage.get(name) or 0) for name, usd in UNIT_USD.items()), Decimal(0))
        if told.get("action") != "GUARDRAIL_INTERVENED":
            return Judgement(usd=usd)
        actions = list(_actions(told.get("assessments") or []))
        kinds = tuple(sorted({kind for kind, _ in actions})) or ("guardrail",)
        outputs = "".join(str(output.get("text", "")) for output in told.get("outputs") or [])
        masked = bool(actions) and all(action == "ANONYMIZED" for _, action in actions)
        return Judgement(kinds, outputs, is_masked=masked, usd=usd)


def _actions(assessments: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(kind, action) of all that a guardrail acted on: each policy has lists of findings, each with its action."""
    for assessment in assessments:
        for name, kind in KINDS.items():
            for findings in (assessment.get(name) or {}).values():
                for finding in findings:
                    if (action := finding.get("action", "BLOCKED")) != "NONE":
                        yield kind, action
