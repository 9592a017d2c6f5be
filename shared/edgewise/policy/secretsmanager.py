"""The root key and the pepper from AWS Secrets Manager, read when first needed and again every few minutes.

The secret is either the root key alone, or a JSON object `{"root_key": …, "pepper": …}`. While a refresh fails, the
secrets last read stay good: rotation waits, callers do not. Before the first success nobody gets in.
"""

from __future__ import annotations

import json

from edgewise.aws import Aws, AwsError
from edgewise.clock import Clock
from edgewise.errors import Unavailable
from edgewise.policy.root import Secrets

KEEP_S = 300.0
RETRY_S = 5.0


class SecretsManagerVault:
    """`name` is the secret's name or ARN."""

    def __init__(self, aws: Aws, name: str, clock: Clock) -> None:
        self._aws = aws
        self._name = name
        self._clock = clock
        self._known: Secrets | None = None
        self._read_again_at = 0.0

    async def secrets(self) -> Secrets:
        if self._known is not None and self._clock.tick() < self._read_again_at:
            return self._known
        try:
            answer = await self._aws.call("secretsmanager", "get_secret_value", SecretId=self._name)
            self._known = _parsed(answer.get("SecretString") or "")
            self._read_again_at = self._clock.tick() + KEEP_S
        except (AwsError, ValueError) as error:
            if self._known is None:
                raise Unavailable("The gateway cannot read its own secrets; try again shortly.") from error
            self._read_again_at = self._clock.tick() + RETRY_S
        return self._known


def _parsed(text: str) -> Secrets:
    if text.lstrip().startswith("{"):
        fields = json.loads(text)
        root, pepper = fields.get("root_key"), fields.get("pepper")
    else:
        root, pepper = text.strip(), None
    if not isinstance(root, str) or not root:
        raise ValueError("the secret holds no root key")
    return Secrets.of(root, pepper)
