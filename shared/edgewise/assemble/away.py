"""Providers' own batch services, as far as the settings turn them on, and what their answers leave in the sums."""

from __future__ import annotations

from edgewise.api.away import Admission
from edgewise.assemble.house import House
from edgewise.jobs.batch import Batch, Result
from edgewise.jobs.offer import ProviderBatch
from edgewise.jobs.remote import Remote
from edgewise.jobs.room import Room
from edgewise.words import Model, Note


def remote_of(house: House, room: Room) -> Remote | None:
    """What looks after batches that a provider's own batch service works; None where there is no such service. What
    went away before the operator turned it off comes back all the same."""
    services = _services(house, room)
    if not services:
        return None
    policy = house.policy
    offered = services if house.settings.provider_batches else {}
    admit = Admission(lambda: house.rooms, policy, offered, house.settings.jobs_rate_share)
    return Remote(room, admit, services, tell=_Sums(house), purse=policy)


def _services(house: House, room: Room) -> dict[str, ProviderBatch]:
    settings = house.settings
    services: dict[str, ProviderBatch] = {}
    if settings.openai_api_key:
        from edgewise.jobs.openai_batch import OpenAiBatches

        services["openai"] = OpenAiBatches(settings.openai_base_url, settings.openai_api_key)
    # Bedrock reads the bucket itself, so a stand-in's bucket is of no use to it.
    if settings.bedrock_batch_role and settings.bucket and not settings.local_aws_url:
        from edgewise.jobs.bedrock import BedrockBatches
        from edgewise.provider.bedrock_batch import ConverseRecords

        records = ConverseRecords(house.clock)
        services["bedrock"] = BedrockBatches(
            house.aws, room.blobs, settings.bucket, settings.bedrock_batch_role, records
        )
    return services


class _Sums:
    """Tokens and money of an answer that no request of ours brought, so it counts as none and took no time."""

    def __init__(self, house: House) -> None:
        self._house = house

    def __call__(self, batch: Batch, result: Result, model: Model) -> None:
        tally = result.tally()
        note = Note(
            request_id=result.request_id,
            route=batch.endpoint,
            at=self._house.clock.now(),
            tenant=batch.tenant,
            key_id=batch.key_id,
            model=model.name,
            provider=model.provider,
            cost_usd=result.cost_usd,
        )
        values = {"TokensIn": tally.prompt_tokens, "TokensOut": tally.completion_tokens, "CostUnknown": tally.unpriced}
        self._house.memory.rollups(note, values)
