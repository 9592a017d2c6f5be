"""Every setting, its unit and its default: the one reader of the environment.

A name in the environment is the field's name in capitals after `EDGEWISE_`, except for the few that others own
(`OPENAI_API_KEY`, `AWS_REGION`, …), which are listed in `FOREIGN`. Nothing here is read at import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

FOREIGN: dict[str, str] = {
    "openai_api_key": "OPENAI_API_KEY",
    "openai_base_url": "OPENAI_BASE_URL",
    "anthropic_api_key": "ANTHROPIC_API_KEY",
    "anthropic_base_url": "ANTHROPIC_BASE_URL",
    "aws_region": "AWS_REGION",
    "aws_endpoint_url": "AWS_ENDPOINT_URL",
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "aws_profile": "AWS_PROFILE",
    "aws_credentials_uri": "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "aws_credentials_token": "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "function_name": "AWS_LAMBDA_FUNCTION_NAME",
    "initialization": "AWS_LAMBDA_INITIALIZATION_TYPE",
}

TOGETHER = "EDGEWISE_SETTINGS"
"""Any settings as one JSON object, by their names in this file: a deployment's template need not know each of them."""


class Upstream(BaseModel):
    """An OpenAI-compatible server by base URL (vLLM, Ollama, Bedrock's own OpenAI endpoint, …)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    base_url: str
    api_key: str | None = Field(default=None, repr=False)
    models: tuple[str, ...] = ()
    """Model ids; empty: any id after `name/` is passed on."""


class Settings(BaseModel):
    """All settings. Times in seconds, sizes in bytes, money in US dollars."""

    # What is wrong is told, at a function's start into its log, and a value may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    stage: str = "dev"
    """The name of this deployment, in metrics and logs."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least that the worker and the upkeep write of themselves. Lines of requests are written always: metrics are
    on them, and `request_log` turns them off."""

    root_key: str | None = Field(default=None, repr=False)
    """The key that may do everything and makes the others."""
    root_key_secret: str | None = None
    """Name or ARN of the Secrets Manager secret that holds the root key and the pepper."""
    key_pepper: str | None = Field(default=None, repr=False)
    """What keys are hashed with; None: derived from the root key."""
    key_cache_s: float = 10.0
    """How long a key, found or not, is remembered: a revoked key works at most that long."""
    hold_lease_s: float = 960.0
    """After how long a hold on a budget comes back from a process that is gone; longer than any request lives."""
    ban_strikes: int = 20
    """Refusals within a minute after which an address or a key is banned for a while."""
    origin_secret: str | None = Field(default=None, repr=False)
    """What CloudFront sends in `x-edgewise-origin`; when set, requests without it are refused."""

    aws_region: str | None = None
    """Where tables, bucket, queue and Bedrock are; Lambda says it."""
    aws_endpoint_url: str | None = None
    """Another endpoint for every AWS service."""
    aws_access_key_id: str | None = Field(default=None, repr=False)
    """Credentials, as Lambda or a shell gives them."""
    aws_secret_access_key: str | None = Field(default=None, repr=False)
    """Goes with the access key."""
    aws_session_token: str | None = Field(default=None, repr=False)
    """Goes with temporary credentials."""
    aws_profile: str | None = None
    """A profile of the AWS configuration; boto3 reads it."""
    aws_credentials_uri: str | None = None
    """Where a restored snapshot finds credentials: its environment holds none."""
    aws_credentials_token: str | None = Field(default=None, repr=False)
    """What that place wants to see."""
    local_aws_url: str | None = None
    """A local stand-in for DynamoDB, S3 and SQS; Bedrock is never reached through it."""
    function_name: str | None = None
    """The Lambda function this runs in; None elsewhere."""
    initialization: str | None = None
    """How Lambda began this process; `snap-start`: out of a snapshot."""
    cache_table: str | None = None
    """The table of cached answers; None: memory only."""
    state_table: str | None = None
    """The table of keys, budgets, jobs and sums; None: memory only."""
    bucket: str | None = None
    """The bucket of files, large answers and snapshots."""
    jobs_queue_url: str | None = None
    """The queue of batches and background work; None: neither is offered."""
    dead_letter_queue_url: str | None = None
    """Where messages go that failed too often."""

    openai_api_key: str | None = Field(default=None, repr=False)
    """Offers OpenAI's models."""
    openai_base_url: str = "https://api.openai.com/v1"
    """Where OpenAI's API is."""
    anthropic_api_key: str | None = Field(default=None, repr=False)
    """Offers Anthropic's models."""
    anthropic_base_url: str = "https://api.anthropic.com"
    """Where Anthropic's API is."""
    bedrock: bool | None = None
    """True or False decides; None: on when a region and credentials are there."""
    upstreams: tuple[Upstream, ...] = Field(default=(), repr=False)
    """Further OpenAI-compatible servers: `[{"name", "base_url", "api_key", "models"}]`."""
    local_model: bool = False
    """Offers the embedded model of the extra `local`."""
    scripted_model: bool = False
    """Offers models that answer by script, for trying failures out."""

    request_log: bool = True
    """One JSON line per request on standard output."""
    rollup_s: float = 10.0
    """How often a process adds what it counted to the stored sums."""
    metrics: Literal["emf", "off"] | None = None
    """CloudWatch metrics on the request's log line; None: on Lambda only."""

    max_body_bytes: int = 6_000_000
    """A larger request is a 413."""
    max_depth: int = 64
    """JSON nested deeper is a 400."""
    cors_origin: str = "*"
    """Which page in a browser may read answers; '' for none. No cookie is ever read, so '*' gives nothing away."""
    deadline_s: float = 600.0
    """The longest a request may take when nothing else (the function's remaining time) is shorter."""
    deadline_margin_s: float = 1.5
    """How long before the function's end a request is given up, to say so properly."""
    keepalive_s: float = 10.0
    """A stream that says nothing for so long gets a comment line."""
    connect_timeout_s: float = 5.0
    """How long a connection to a provider may take."""
    max_retries: int = 2
    """How often a request may ask a model again that has failed it; 0: never. Other models are not retries."""
    max_retry_wait_s: float = 5.0
    """The longest Retry-After that is waited for inside a request; a longer one is told to the client."""

    cache_mode: Literal["off", "exact", "semantic"] = "exact"
    """What every key gets whose own terms say nothing."""
    cache_ttl_s: float = 86_400.0
    """How long an answer is fresh."""
    cache_stale_s: float = 0.0
    """Seconds past freshness in which an entry may still be served (while it is renewed, or when all fails)."""
    cache_memory_entries: int = 10_000
    """Entries that a process keeps in its memory."""
    cache_memory_bytes: int = 64_000_000
    """Bytes of answers that a process keeps in its memory."""
    cache_spill_bytes: int = 350_000
    """Larger values go to the bucket; an item holds 400 KB."""
    cache_timeout_s: float = 0.25
    """How long a lookup in the store may take before it counts as a miss."""
    cache_policy: Literal["lru", "lfu", "fifo", "lru-k", "ttl", "s3-fifo"] = "s3-fifo"
    """Which entry leaves this process's memory when it is full."""
    cache_ttl_jitter: float = Field(default=0.1, ge=0, le=1)
    """The largest share by which an entry's life is shortened by chance, so that entries do not expire together."""
    cache_negative_s: float = 5.0
    """How long a provider's refusal of the request itself is kept; 0: not at all."""
    cache_tool_calls: Literal["keep", "skip"] = "keep"
    """Whether answers that call tools are kept."""
    cache_answer_bytes: int = 5_000_000
    """Answers whose JSON is larger are not kept."""
    cache_lease_s: float = 10.0
    """How long a leader that says nothing is believed to be alive; far above any difference between clocks."""
    cache_follow_s: float = 60.0
    """How long a request waits for the same request's answer before it calls for itself."""
    cache_meaning_timeout_s: float = 1.0
    """How long a match by meaning may take, embedding included, before it counts as a miss."""
    cache_quorum: int = 3
    """Tenants that must have asked before a shared namespace serves an entry to another."""
    cache_embedder: str = "default"
    """Who embeds what is matched by meaning: `default`, within this process, or `provider/model` of a provider that
    embeds. Another than the default has no prior: nothing but repeats is served before a judge's labels allow it."""
    cache_embedder_dimensions: int | None = Field(default=None, ge=64, le=4096, multiple_of=64)
    """Dimensions to ask that service for; None: as many as its model gives."""
    cache_index_rows: int = Field(default=100_000, ge=1_000)
    """Wordings of one partition that a process holds to search; a larger one is left to `cache_vector_index`."""
    cache_vector_index: bool = False
    """The cache table has DynamoDB's own vector indexes, for partitions that outgrow memory."""
    cache_judge_model: str | None = None
    """A model that labels a sample of matches by meaning, off the request path; None: only feedback teaches."""
    cache_judge_missed: float = Field(default=0.1, ge=0, lt=0.5)
    """How often, at the most, that model lets a wrong match pass, by `edgewise cache audit`: it makes the bound
    stricter."""
    cache_judge_false_alarm: float = Field(default=0.0, ge=0, lt=0.5)
    """How often, at the least, it calls a right match wrong, by an audit on your own traffic: it makes the bound
    looser, and one that is too high breaks it."""
    cache_embeddings: Literal["table", "memory", "off"] = "table"
    """How far the vectors of `/v1/embeddings` are kept: in the table, in this process's memory alone, or not at all."""
    cache_known_keys: bool = False
    """Skip the store's read for keys that the filter of the last upkeep does not know; saves reads, loses some hits."""
    cache_keep_requests: bool = False
    """Keep what was asked beside the answer, so that the most asked can be warmed again."""

    webhook_hosts: tuple[str, ...] = ()
    """Hosts that a webhook may be sent to; none: no webhooks."""
    webhook_secret: str | None = Field(default=None, repr=False)
    """What webhooks are signed with (`whsec_…`)."""
    provider_batches: bool = False
    """Have large batches of keys that nothing binds worked by the provider's own batch service, at its batch price."""
    bedrock_batch_role: str | None = None
    """ARN of the role as which Bedrock reads and writes `batches/` of the bucket; None: no batches go to Bedrock."""
    tasks: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")], ...] = ()
    """Functions that workers run as tasks, as `package.module:function`, with commas between them; nothing else is."""
    jobs_concurrency: int = 50
    """Lines of batches that one worker runs at once."""
    jobs_rate_share: float = Field(default=0.5, gt=0, le=1)
    """The share of a key's limits that its batches may fill; the rest is kept for requests that somebody waits for."""
    jobs_workers: int = Field(default=4, ge=1)
    """Workers that there may be at once; one batch keeps at most three of four busy, and a small one finds one free."""

    aliases: dict[str, Any] = {}
    """The operator's model names: name to a model, a list of models, or `{"models": [...], ...routing options}`."""
    model_overrides: dict[str, dict[str, Any]] = {}
    """`provider/id` to fields of a catalogue row (`price`, `tier`, `context`, `quality`, `auto`, …)."""
    routing: dict[str, Any] = {}
    """Routing options under everybody else's; `edgewise.routing.options` names them."""
    pace_usd: float | None = Field(default=None, gt=0)
    """What all keys together should spend in a window: routing gets cheaper while spending runs ahead of that. It is
    no cap; budgets are."""
    pace_window_s: float = Field(default=86_400.0, ge=60)
    """The length of that window; it begins anew at multiples of it, a day at midnight UTC."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _listed(cls, found: Any) -> Any:
        return [name.strip() for name in found.split(",") if name.strip()] if isinstance(found, str) else found

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read `environ`: JSON for lists and objects, each name laid over what `TOGETHER` says. Raises pydantic's
        ValidationError, naming the field, and ValueError when `TOGETHER` is no JSON object."""
        alone = {
            name: _parsed(field.annotation, environ[env])
            for name, field in cls.model_fields.items()
            if (env := FOREIGN.get(name, f"EDGEWISE_{name.upper()}")) in environ and environ[env] != ""
        }
        return cls.model_validate({**_together(environ.get(TOGETHER, "")), **alone})

    @classmethod
    def of_process(cls, defaults: Mapping[str, str] | None = None) -> Settings:
        """Read this process's environment, laid over `defaults`."""
        import os

        return cls.from_env({**(defaults or {}), **os.environ})

    @classmethod
    def names(cls) -> set[str]:
        """Every name in the environment that is a setting."""
        return {FOREIGN.get(name, f"EDGEWISE_{name.upper()}") for name in cls.model_fields} | {TOGETHER}


def _together(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    import json

    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{TOGETHER} must be a JSON object")
    return found


def _parsed(annotation: Any, text: str) -> Any:
    if text[:1] in "[{" and annotation is not str:
        import json

        return json.loads(text)
    return text
