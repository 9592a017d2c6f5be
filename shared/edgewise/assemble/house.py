"""The rooms of one process, as the settings describe them.

Cheap on purpose: a cold start runs all of this. Nothing is connected, no SDK is imported and no model is loaded
here; every adapter does that at its first use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgewise.assemble.caching import cache_of
from edgewise.assemble.embedding import HouseEmbedder
from edgewise.assemble.gauges import CacheGauges
from edgewise.assemble.learning import RecentHits, WrongHits
from edgewise.assemble.taught import Taught
from edgewise.aws import Aws, AwsOptions, Table
from edgewise.background import Background
from edgewise.clock import Clock, SystemClock
from edgewise.dynamo import Keys, Source
from edgewise.errors import InvalidRequest
from edgewise.policy.opening import open_policy
from edgewise.policy.room import PolicyRoom
from edgewise.provider.caller import Caller
from edgewise.query.asker import ExactAsker
from edgewise.query.classify import Meaningful
from edgewise.record.memory import Memory, open_memory
from edgewise.record.room import RecordRoom, open_record
from edgewise.rooms import Rooms
from edgewise.routing.breaker import Breakers
from edgewise.routing.catalog import Catalog
from edgewise.routing.names import Alias
from edgewise.routing.options import parse
from edgewise.routing.room import Room as RoutingRoom
from edgewise.settings import Settings
from edgewise.words import Model

if TYPE_CHECKING:
    from edgewise.cache.room import CacheRoom
    from edgewise.cache.semantic.shadow import Judge
    from edgewise.provider.port import Provider
    from edgewise.routing.dynamodb_learn import LearnTable
    from edgewise.routing.overrides import Overrides
    from edgewise.routing.pacing import Pacing

LOCAL_KEYS = Keys("local", "local")


def aws_of(settings: Settings, clock: Clock | None = None) -> Aws:
    """AWS for tables, bucket, queue and secrets: the real one, or a stand-in on this machine."""
    if settings.local_aws_url:
        return Aws(
            AwsOptions(
                region="us-east-1",
                endpoint_url=settings.local_aws_url,
                access_key_id=LOCAL_KEYS.access,
                secret_access_key=LOCAL_KEYS.secret,
                read_timeout_s=30,
                lean=Source(LOCAL_KEYS),
            ),
            clock,
        )
    options = AwsOptions(region=settings.aws_region, endpoint_url=settings.aws_endpoint_url, lean=_source(settings))
    return Aws(options, clock)


def _source(settings: Settings) -> Source | None:
    """Where the lean client finds credentials; None when only boto3 knows (a profile, an instance's role)."""
    if settings.aws_access_key_id and settings.aws_secret_access_key and not settings.aws_profile:
        return Source(Keys(settings.aws_access_key_id, settings.aws_secret_access_key, settings.aws_session_token))
    if settings.aws_credentials_uri:
        return Source(endpoint=settings.aws_credentials_uri, endpoint_token=settings.aws_credentials_token)
    return None


@dataclass(slots=True)
class House:
    """Everything that one process runs on."""

    settings: Settings
    clock: Clock
    aws: Aws
    rooms: Rooms
    policy: PolicyRoom
    record: RecordRoom
    memory: Memory
    cache: CacheRoom
    router: RoutingRoom
    providers: dict[str, Provider]
    background: Background = field(default_factory=Background)
    desk: Any = None
    """The async room, once somebody has asked for it (`edgewise.assemble.jobs`)."""

    @property
    def models(self) -> tuple[Model, ...]:
        """What can be asked for by name."""
        return tuple(self.router.catalog.models.values())

    @property
    def can_work(self) -> bool:
        """There is a table, a bucket and a queue for work that is done later."""
        settings = self.settings
        return bool(settings.state_table and settings.bucket and settings.jobs_queue_url)

    async def open(self) -> None:
        """Begin what may begin early: the embedded model loads while the first request is still on its way."""
        for provider in self.providers.values():
            warm = getattr(provider, "warm", None)
            if warm is not None:
                warm()

    async def close(self) -> None:
        """Give back connections and threads."""
        for provider in self.providers.values():
            await provider.close()
        self.aws.close()

    def renew(self) -> None:
        """After a restored snapshot: connections and credentials of the snapshot are nobody's."""
        self.aws.renew()


def wrong_routing(settings: Settings) -> str | None:
    """The routing that settings bring and every request would be refused for, said in a line; None: it is good."""
    layers = {"routing": settings.routing}
    layers |= {f"aliases.{name}": dict(Alias.of(value).routing) for name, value in settings.aliases.items()}
    for name, layer in layers.items():
        try:
            parse(layer)
        except InvalidRequest as error:
            return f"the setting `{name}`: {error.message}"
    return None


def build(settings: Settings, clock: Clock | None = None) -> House:
    """The house as the settings describe it. Raises what a setting that cannot work deserves."""
    if (why := wrong_routing(settings)) is not None:
        raise ValueError(why)
    clock = clock or SystemClock()
    aws = aws_of(settings, clock)
    record = open_record(settings, clock=clock)
    background = Background(failed=record.failed)
    memory = open_memory(settings, record, clock=clock, aws=aws, background=background)
    policy = open_policy(settings, clock=clock, aws=aws, background=background, signal=record.signal)
    # Models are asked for at the real service even where a stand-in plays the tables.
    models_aws = Aws(AwsOptions(region=settings.aws_region)) if settings.local_aws_url else aws
    providers = _providers(settings, clock, models_aws)
    catalog = _catalog(settings, providers, {})
    router = RoutingRoom(
        catalog,
        clock,
        aliases={name: Alias.of(value) for name, value in settings.aliases.items()},
        defaults=settings.routing,
        breakers=_breakers(settings, clock, aws),
        table=_labels(settings, clock, aws),
        background=background,
        overrides=_overrides(settings, providers, clock, aws, background),
        pacing=_pacing(settings, clock, aws, background),
        max_retries=settings.max_retries,
        max_wait_s=settings.max_retry_wait_s,
    )
    memory.feedback.learners.append(Taught(lambda: router.learning))
    caller = Caller(providers, clock)
    cache = cache_of(
        settings,
        clock,
        aws,
        background,
        judge=_judge(settings, catalog, caller, clock, record),
        embedder=HouseEmbedder.of(settings, providers, catalog.models.values(), clock, record),
    )
    recent = RecentHits(clock, background, Table(aws, settings.state_table) if settings.state_table else None)
    record.watch(recent)
    record.watch(CacheGauges(cache, record, clock))
    memory.feedback.learners.append(WrongHits(cache, recent))
    rooms = Rooms(policy, ExactAsker(Meaningful()), cache, router, caller, record, clock, background)
    return House(
        settings,
        clock,
        aws,
        rooms,
        policy,
        record,
        memory,
        cache,
        router,
        providers,
        background,
    )


def _breakers(settings: Settings, clock: Clock, aws: Aws) -> Breakers:
    """Circuit breakers that every environment shares, where there is a table to share them in."""
    if not settings.state_table:
        return Breakers(clock)
    from edgewise.routing.dynamodb import TableStore

    return Breakers(clock, TableStore(Table(aws, settings.state_table), clock))


def _catalog(settings: Settings, providers: dict[str, Provider], later: Mapping[str, Mapping[str, Any]]) -> Catalog:
    """The catalogue of what is configured; `later` are changes made while it runs, over the settings'."""
    rows: dict[str, dict[str, Any]] = {**_rows(providers), **settings.model_overrides}
    for name, row in later.items():
        rows[name] = {**rows.get(name, {}), **row}
    return Catalog.load(list(providers), upstreams=settings.upstreams, overrides=rows, region=settings.aws_region)


def _overrides(
    settings: Settings, providers: dict[str, Provider], clock: Clock, aws: Aws, background: Background
) -> Overrides | None:
    if not settings.state_table:
        return None
    from edgewise.routing.dynamodb import OverrideTable
    from edgewise.routing.overrides import Overrides

    rows = OverrideTable(Table(aws, settings.state_table))
    return Overrides(clock, background, rows.all, lambda later: _catalog(settings, providers, later))


def _pacing(settings: Settings, clock: Clock, aws: Aws, background: Background) -> Pacing | None:
    if settings.pace_usd is None:
        return None
    from edgewise.routing.pacing import Pacing

    if not settings.state_table:
        return Pacing(clock, settings.pace_usd, settings.pace_window_s)
    from edgewise.routing.dynamodb import SpentTable

    spent = SpentTable(Table(aws, settings.state_table), clock)
    return Pacing(clock, settings.pace_usd, settings.pace_window_s, spent, background)


def _labels(settings: Settings, clock: Clock, aws: Aws) -> Callable[[], LearnTable] | None:
    """Where routing's labels go and its learned states come from; None keeps both in this process."""
    if not settings.state_table:
        return None
    name = settings.state_table

    def table() -> LearnTable:
        from edgewise.routing.dynamodb_learn import LearnTable

        return LearnTable(Table(aws, name), clock)

    return table


def _judge(settings: Settings, catalog: Catalog, caller: Caller, clock: Clock, record: RecordRoom) -> Judge | None:
    """None: nobody labels matches. Raises ValueError when the setting names no model that is there."""
    if not settings.cache_judge_model:
        return None
    from edgewise.assemble.judging import ModelJudge

    found = catalog.find(settings.cache_judge_model)
    if not found:
        raise ValueError(f"EDGEWISE_CACHE_JUDGE_MODEL: there is no model {settings.cache_judge_model!r} here")
    missed, false_alarm = settings.cache_judge_missed, settings.cache_judge_false_alarm
    return ModelJudge(found[0], caller, clock, record, missed=missed, false_alarm=false_alarm)


def _providers(settings: Settings, clock: Clock, aws: Aws) -> dict[str, Provider]:
    from edgewise.provider.discover import discover

    return discover(settings, clock, aws)


def _rows(providers: dict[str, Provider]) -> dict[str, dict[str, Any]]:
    """Catalogue rows of what runs in this process, told by itself; a script is never what `auto` picks."""
    rows: dict[str, dict[str, Any]] = {}
    for name in ("local", "scripted"):
        for model in providers[name].models() if name in providers else ():
            rows[model.name] = {
                "tier": model.tier,
                "context": model.context_tokens,
                "output": model.output_tokens,
                "capabilities": sorted(model.capabilities),
                "price": {"i": str(model.price.input), "o": str(model.price.output)} if model.price else None,
                "owned_by": model.owned_by,
                "auto": name != "scripted",
            }
    return rows
