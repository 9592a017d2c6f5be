"""Every field of a chat completion that OpenAI's description names, and what it may hold.

What is named is held to the description (openai/openai-openapi, `CreateChatCompletionRequest`); what is not named
passes untouched. Three rules go beyond it, each for a reason:

- An output limit is at least 1: a budget is reserved from it.
- Metadata keeps the limits that the description only states in prose: 16 pairs, keys of 64, values of 512 characters.
- Vocabularies that grow with every model (`reasoning_effort`, `service_tier`, …) take any word, and objects told
  apart by `type` may have a type that is not listed: the provider knows its own words best.
"""

from __future__ import annotations

from typing import Any

from edgewise.api.checks import (
    Check,
    anything,
    boolean,
    either,
    integer,
    items,
    mapping,
    nullable,
    number,
    shape,
    tagged,
    text,
    word,
)
from edgewise.errors import InvalidRequest

STRING = text()
OBJECT = mapping(anything)
WORD = nullable(text(at_least=1))
"""A vocabulary that grows: any word."""

_TEXT_PART = shape({"text": STRING}, ("text",))
_REFUSAL_PART = shape({"refusal": STRING}, ("refusal",))
_IMAGE_PART = shape({"image_url": shape({"url": STRING, "detail": STRING}, ("url",))}, ("image_url",))
_AUDIO_PART = shape({"input_audio": shape({"data": STRING, "format": STRING}, ("data", "format"))}, ("input_audio",))
_FILE_PART = shape({"file": shape({"filename": STRING, "file_data": STRING, "file_id": STRING})}, ("file",))


def _content(**parts: Check) -> Check:
    return either(string=anything, array=items(tagged("type", parts), at_least=1))


_TEXTS = _content(text=_TEXT_PART)
_USER_CONTENT = _content(text=_TEXT_PART, image_url=_IMAGE_PART, input_audio=_AUDIO_PART, file=_FILE_PART)
_ASSISTANT_CONTENT = _content(text=_TEXT_PART, refusal=_REFUSAL_PART)

_CALLED = shape({"name": STRING, "arguments": STRING}, ("name", "arguments"))
_TOOL_CALL = tagged(
    "type",
    {
        "function": shape({"id": STRING, "function": _CALLED}, ("id", "function")),
        "custom": shape(
            {"id": STRING, "custom": shape({"name": STRING, "input": STRING}, ("name", "input"))}, ("id", "custom")
        ),
    },
)

_SYSTEM = shape({"content": _TEXTS, "name": STRING}, ("content",))
MESSAGE = tagged(
    "role",
    {
        "user": shape({"content": _USER_CONTENT, "name": STRING}, ("content",)),
        "system": _SYSTEM,
        "developer": _SYSTEM,
        "assistant": shape(
            {
                "content": nullable(_ASSISTANT_CONTENT),
                "refusal": nullable(STRING),
                "name": STRING,
                "audio": nullable(shape({"id": STRING}, ("id",))),
                # null is what several clients send for an answer without calls; the description has no null here.
                "tool_calls": nullable(items(_TOOL_CALL)),
                "function_call": nullable(_CALLED),
            }
        ),
        "tool": shape({"content": _TEXTS, "tool_call_id": STRING}, ("content", "tool_call_id")),
        "function": shape({"content": nullable(STRING), "name": STRING}, ("content", "name")),
    },
    closed=True,
)

_FUNCTION = shape(
    {"name": STRING, "description": STRING, "parameters": OBJECT, "strict": nullable(boolean)},
    ("name",),
)
_CUSTOM = shape(
    {
        "name": STRING,
        "description": STRING,
        "format": tagged(
            "type",
            {
                "grammar": shape(
                    {"grammar": shape({"definition": STRING, "syntax": STRING}, ("definition", "syntax"))},
                    ("grammar",),
                )
            },
        ),
    },
    ("name",),
)
TOOL = tagged(
    "type",
    {
        "function": shape({"function": _FUNCTION}, ("function",)),
        "custom": shape({"custom": _CUSTOM}, ("custom",)),
    },
)

_NAMED = shape({"name": STRING}, ("name",))
TOOL_CHOICE = either(
    string=word("none", "auto", "required"),
    object=tagged(
        "type",
        {
            "function": shape({"function": _NAMED}, ("function",)),
            "custom": shape({"custom": _NAMED}, ("custom",)),
            "allowed_tools": shape(
                {"allowed_tools": shape({"mode": word("auto", "required"), "tools": items(OBJECT)}, ("mode", "tools"))},
                ("allowed_tools",),
            ),
        },
    ),
)

RESPONSE_FORMAT = tagged(
    "type",
    {
        "json_schema": shape(
            {
                "json_schema": shape(
                    {"name": STRING, "description": STRING, "schema": OBJECT, "strict": nullable(boolean)},
                    ("name",),
                )
            },
            ("json_schema",),
        )
    },
)

_PLACE = shape({"country": STRING, "region": STRING, "city": STRING, "timezone": STRING})
METADATA = nullable(mapping(text(at_most=512), at_most=16, key_chars=64))
STREAM_OPTIONS = nullable(shape({"include_usage": boolean, "include_obfuscation": boolean}))

CHAT: dict[str, Check] = {
    "model": text(at_least=1, at_most=512),
    "messages": items(MESSAGE, at_least=1),
    "stream": nullable(boolean),
    "stream_options": STREAM_OPTIONS,
    "temperature": nullable(number(0, 2)),
    "top_p": nullable(number(0, 1)),
    "n": nullable(integer(1, 128)),
    "stop": nullable(either(string=anything, array=items(STRING, at_least=1, at_most=4))),
    "max_tokens": nullable(integer(1)),
    "max_completion_tokens": nullable(integer(1)),
    "presence_penalty": nullable(number(-2, 2)),
    "frequency_penalty": nullable(number(-2, 2)),
    "logit_bias": nullable(mapping(integer())),
    "logprobs": nullable(boolean),
    "top_logprobs": nullable(integer(0, 20)),
    "seed": nullable(integer(-(2**63), 2**63 - 1)),
    "response_format": nullable(RESPONSE_FORMAT),
    "tools": nullable(items(TOOL)),
    "tool_choice": nullable(TOOL_CHOICE),
    "parallel_tool_calls": nullable(boolean),
    "functions": nullable(items(_FUNCTION, at_least=1, at_most=128)),
    "function_call": nullable(either(string=word("none", "auto"), object=_NAMED)),
    "user": nullable(STRING),
    "safety_identifier": nullable(text(at_most=64)),
    "prompt_cache_key": nullable(STRING),
    "prompt_cache_retention": WORD,
    "prompt_cache_options": nullable(shape({"ttl": STRING, "mode": STRING})),
    "service_tier": WORD,
    "store": nullable(boolean),
    "metadata": METADATA,
    "modalities": nullable(items(STRING)),
    "audio": nullable(
        shape({"voice": either(string=anything, object=anything), "format": STRING}, ("voice", "format"))
    ),
    "prediction": nullable(tagged("type", {"content": shape({"content": _TEXTS}, ("content",))})),
    "reasoning_effort": WORD,
    "verbosity": WORD,
    "web_search_options": nullable(
        shape(
            {
                "search_context_size": STRING,
                "user_location": nullable(shape({"type": STRING, "approximate": _PLACE}, ("type", "approximate"))),
            }
        )
    ),
    "moderation": nullable(shape({"model": STRING, "policy": nullable(OBJECT)}, ("model",))),
}

ELSEWHERE = frozenset(
    {
        "api_base", "base_url", "api_key", "api_version", "api_type", "azure_ad_token", "organization",
        "headers", "extra_headers", "default_headers", "extra_query", "extra_body", "http_client", "client", "proxy",
        "callbacks", "success_callback", "failure_callback",
        "custom_llm_provider", "litellm_params", "user_config", "model_list",
        "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_profile_name", "aws_role_name",
        "aws_region_name", "aws_bedrock_runtime_endpoint",
        "vertex_credentials", "vertex_project", "vertex_location",
    }
)  # fmt: skip
"""Fields by which some gateways let a client choose where its call goes and with whose key. Never here: honouring
`api_base` gave a stranger the provider's key (CVE-2024-6587), and forwarding one would tell the provider of it."""


def check(body: dict[str, Any], fields: dict[str, Check], required: tuple[str, ...]) -> None:
    """Hold `body` to `fields`. Raises `InvalidRequest` with `param` as a JSON path."""
    for name in required:
        if body.get(name) is None:
            raise InvalidRequest(
                f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
            )
    for name, value in body.items():
        field = fields.get(name)
        if field is not None:
            flaw = field(value)
            if flaw is not None:
                raise flaw.error(name)
        elif name in ELSEWHERE:
            raise InvalidRequest(
                f"'{name}' is not accepted: where a request goes and with which key is the gateway's to say.",
                param=name,
                code="unsupported_parameter",
            )
