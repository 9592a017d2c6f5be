"""Which providers there are, told by the settings alone: each joins as soon as its credentials are known.

Pure and cheap: no connection is made, nothing is asked of a server, and only the adapters that join are imported.
The order is the order of preference where two serve the same model.
"""

from __future__ import annotations

from edgewise.aws import Aws
from edgewise.clock import Clock
from edgewise.provider.http import Http, HttpOptions
from edgewise.provider.openai_http import OpenAIHttp
from edgewise.provider.port import Provider
from edgewise.settings import Settings

OPENAI = "openai"


def discover(settings: Settings, clock: Clock, aws: Aws, http: Http | None = None) -> dict[str, Provider]:
    """Provider name to adapter. `aws` reaches the real Bedrock; it is used only if `wants_bedrock`.

    All adapters over HTTP share one `Http`, so closing any of them closes it; it opens again when used.
    """
    http = http or Http(clock, HttpOptions(connect_s=settings.connect_timeout_s))
    found: dict[str, Provider] = {}
    if settings.openai_api_key:
        found[OPENAI] = OpenAIHttp(OPENAI, http, settings.openai_base_url, settings.openai_api_key)
    if settings.anthropic_api_key:
        from edgewise.provider.anthropic import Anthropic

        found["anthropic"] = Anthropic(http, clock, settings.anthropic_base_url, settings.anthropic_api_key)
    if wants_bedrock(settings):
        from edgewise.provider.bedrock import Bedrock

        found["bedrock"] = Bedrock(aws, clock)
    for upstream in settings.upstreams:
        found[upstream.name] = OpenAIHttp(upstream.name, http, upstream.base_url, upstream.api_key, upstream.models)
    if settings.local_model:
        from edgewise.provider.local import Local

        found["local"] = Local(clock)
    if settings.scripted_model:
        from edgewise.provider.scripted import Scripted

        found["scripted"] = Scripted(clock)
    return found


def wants_bedrock(settings: Settings) -> bool:
    """What `bedrock` says, else whether a region and credentials of any kind are there."""
    if settings.bedrock is not None:
        return settings.bedrock
    has_credentials = settings.aws_access_key_id or settings.aws_profile or settings.aws_credentials_uri
    return bool(settings.aws_region and has_credentials)
