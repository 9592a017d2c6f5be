"""Embeddings on Bedrock: Titan's calls and answers as the service model has them, errors as any other call's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from edgewise.aws import Aws, AwsOptions
from edgewise.clock import Deadline, FakeClock
from edgewise.errors import InvalidRequest, ModelNotFound, UpstreamError, UpstreamRateLimited
from edgewise.provider.bedrock import Bedrock

TITAN = "amazon.titan-embed-text-v2:0"


@pytest.fixture
def stubbed(clock: FakeClock) -> Iterator[tuple[Bedrock, Stubber]]:
    aws = Aws(AwsOptions(region="us-east-1", access_key_id="test", secret_access_key="test"))
    with Stubber(aws.client("bedrock-runtime")) as stub:
        yield Bedrock(aws, clock, most_calls=1), stub
    aws.close()


def said(told: Any) -> dict[str, Any]:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return {"body": StreamingBody(BytesIO(body), len(body)), "contentType": "application/json"}


def later(clock: FakeClock) -> Deadline:
    return Deadline.after(clock, 5)


async def test_each_text_is_a_call_and_the_answer_is_openai_s(stubbed: Any, clock: FakeClock) -> None:
    bedrock, stub = stubbed
    for text, vector in (("hello", [0.6, 0.8]), ("world", [1.0, 0.0])):
        body = json.dumps({"inputText": text, "normalize": True, "dimensions": 256}, separators=(",", ":"))
        answer = said({"embedding": vector, "inputTextTokenCount": 2})
        stub.add_response("invoke_model", answer, {"modelId": TITAN, "body": body})
    asked = {"model": "any", "input": ["hello", "world"], "dimensions": 256, "encoding_format": "float"}
    assert await bedrock.embed(asked, TITAN, later(clock)) == {
        "data": [{"embedding": [0.6, 0.8]}, {"embedding": [1.0, 0.0]}],
        "model": TITAN,
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


async def test_the_first_version_is_asked_for_nothing_that_it_does_not_know(stubbed: Any, clock: FakeClock) -> None:
    bedrock, stub = stubbed
    first = "amazon.titan-embed-text-v1"
    stub.add_response("invoke_model", said({"embedding": [1.0]}), {"modelId": first, "body": '{"inputText":"x"}'})
    assert (await bedrock.embed({"input": "x"}, first, later(clock)))["usage"]["prompt_tokens"] == 0


async def test_errors_are_told_by_their_code(stubbed: Any, clock: FakeClock) -> None:
    bedrock, stub = stubbed
    stub.add_client_error("invoke_model", "ThrottlingException")
    with pytest.raises(UpstreamRateLimited):
        await bedrock.embed({"input": "x"}, TITAN, later(clock))


@pytest.mark.parametrize("body", [b"<html>", b'{"message": "no vector"}'])
async def test_an_answer_that_is_not_whole_is_told_as_such(body: bytes, stubbed: Any, clock: FakeClock) -> None:
    bedrock, stub = stubbed
    stub.add_response("invoke_model", said(body))
    with pytest.raises(UpstreamError, match="not whole"):
        await bedrock.embed({"input": "x"}, TITAN, later(clock))


async def test_other_families_and_tokens_are_refused_without_a_call(stubbed: Any, clock: FakeClock) -> None:
    bedrock, _ = stubbed
    with pytest.raises(ModelNotFound):
        await bedrock.embed({"input": "x"}, "anthropic.claude-v2", later(clock))
    with pytest.raises(InvalidRequest):
        await bedrock.embed({"input": [1, 2]}, TITAN, later(clock))
