"""The OpenAI-compatible adapter against the loopback upstream."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edgewise.clock import Deadline
from edgewise.errors import UpstreamError, UpstreamRateLimited, UpstreamRefused, UpstreamUnavailable
from edgewise.provider.http import Http, HttpOptions
from edgewise.provider.openai_http import OpenAIHttp
from edgewise.words import Model
from tests.provider.contract import CLOCK, OverUpstream, ProviderContract, call, folded, streamed
from tests.upstream import Manner, Upstream


@pytest.fixture
async def rig(upstream: Upstream) -> AsyncIterator[OverUpstream]:
    provider = OpenAIHttp("up", Http(CLOCK), upstream.base_url, "sk-secret", ("small",))
    yield OverUpstream(provider, Model("up", "small"), upstream)
    await provider.close()


class TestOpenAIHttp(ProviderContract):
    """The port's contract."""


async def test_every_field_goes_on_as_it_came_also_unknown_ones(rig: OverUpstream) -> None:
    body: dict[str, Any] = {"seed": 5, "future_field": {"a": [1, None]}, "top_p": 0.5, "metadata": {"k": "v"}}
    asked = call(rig, **body)
    await rig.provider.complete(asked)
    assert rig.upstream.requests[0].body == {**asked.body, "model": "small"}


async def test_a_stream_is_always_asked_for_its_usage(rig: OverUpstream) -> None:
    asked = call(rig)
    await streamed(rig, asked)
    sent = rig.upstream.requests[0].body
    assert sent == {**asked.body, "model": "small", "stream": True, "stream_options": {"include_usage": True}}


async def test_the_key_is_sent_and_nothing_else_of_ours(rig: OverUpstream) -> None:
    await rig.provider.complete(call(rig))
    headers = rig.upstream.requests[0].headers
    assert headers["authorization"] == "Bearer sk-secret"
    assert headers.keys() <= {
        "host",
        "authorization",
        "content-type",
        "content-length",
        "user-agent",
        "accept",
        "accept-encoding",
    }


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("write_bytes", [1, 3, None])
async def test_a_stream_reads_alike_however_it_is_cut(rig: OverUpstream, newline: bytes, write_bytes: int) -> None:
    manner = Manner(text="Grüße aus 北京 🎉", newline=newline, write_bytes=write_bytes, comments=True)
    assert folded(await streamed(rig, call(rig, **rig.arrange(manner)))).text == "Grüße aus 北京 🎉"


async def test_a_huge_line_passes_and_a_bomb_does_not(rig: OverUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    manner = Manner(filler_bytes=1_000_000)
    assert folded(await streamed(rig, call(rig, **rig.arrange(manner)))).text
    with pytest.raises(UpstreamUnavailable):
        await streamed(rig, call(rig, **rig.arrange(Manner(filler_bytes=17_000_000))))


@pytest.mark.parametrize("body", [b"not json", b"[1]", b"{}", b'{"choices": []}', b"\xff"])
async def test_an_answer_that_makes_no_sense_may_be_tried_again(rig: OverUpstream, body: bytes) -> None:
    with pytest.raises(UpstreamUnavailable) as caught:
        await rig.provider.complete(call(rig, **rig.arrange(Manner(body=body))))
    assert caught.value.code == "upstream_broken_answer"


async def test_the_refusal_says_what_the_provider_said(rig: OverUpstream) -> None:
    body = b'{"error": {"message": "too long", "type": "x", "param": "messages", "code": "context_length_exceeded"}}'
    with pytest.raises(UpstreamRefused) as caught:
        await rig.provider.complete(call(rig, **rig.arrange(Manner(status=400, body=body))))
    told = caught.value.body()["error"]
    assert (told["message"], told["param"], told["code"]) == ("too long", "messages", "context_length_exceeded")


async def test_a_spent_quota_is_no_rate_limit(rig: OverUpstream) -> None:
    body = b'{"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}}'
    with pytest.raises(UpstreamError) as caught:
        await rig.provider.complete(call(rig, **rig.arrange(Manner(status=429, body=body))))
    assert caught.value.code == "upstream_quota" and not caught.value.retryable


async def test_our_credentials_trouble_is_not_the_clients(rig: OverUpstream) -> None:
    """The provider's words on our key stay here: they often quote it."""
    body = b'{"error": {"message": "Incorrect API key provided: sk-secret"}}'
    with pytest.raises(UpstreamError) as caught:
        await rig.provider.complete(call(rig, **rig.arrange(Manner(status=401, body=body))))
    assert caught.value.status == 502 and "sk-" not in caught.value.message


async def test_an_error_inside_a_stream_is_an_error(rig: OverUpstream) -> None:
    manner = Manner(in_band_error={"message": "busy", "type": "rate_limit_error", "code": None})
    with pytest.raises(UpstreamRateLimited):
        await streamed(rig, call(rig, **rig.arrange(manner)))


async def test_a_stream_without_done_is_whole_with_its_usage_and_dead_without(rig: OverUpstream) -> None:
    folded(await streamed(rig, call(rig, **rig.arrange(Manner(with_done=False)))))
    folded(await streamed(rig, call(rig, **rig.arrange(Manner(with_usage=False)))))
    with pytest.raises(UpstreamUnavailable):
        await streamed(rig, call(rig, **rig.arrange(Manner(with_done=False, with_usage=False))))


async def test_redirects_are_not_followed(rig: OverUpstream) -> None:
    with pytest.raises(UpstreamError):
        await rig.provider.complete(
            call(rig, **rig.arrange(Manner(status=307, headers={"location": "http://127.0.0.1:1/"})))
        )
    assert rig.upstream.calls == 1


async def test_connections_are_reused_and_not_delayed(rig: OverUpstream) -> None:
    for _ in range(3):
        await rig.provider.complete(call(rig))
        await streamed(rig, call(rig))
        await asyncio.sleep(0)
    assert rig.upstream.connections <= 2
    http = rig.provider._http  # type: ignore[attr-defined]
    response = await http.begin(f"{rig.upstream.base_url}/models", {}, None, Deadline.after(CLOCK, 5))
    sock = response.connection.transport.get_extra_info("socket") if response.connection else None
    if sock is not None:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    http.end(response)


async def test_an_unreachable_server_may_be_tried_again() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    provider = OpenAIHttp("up", Http(CLOCK, HttpOptions(connect_s=1)), f"http://127.0.0.1:{port}/v1")
    rig = OverUpstream(provider, Model("up", "m"), Upstream())
    with pytest.raises(UpstreamUnavailable):
        await provider.complete(call(rig))
    await provider.close()


async def test_models_are_what_is_configured_or_what_the_server_lists(rig: OverUpstream) -> None:
    assert [model.name for model in rig.provider.models()] == ["up/small"]
    assert isinstance(rig.provider, OpenAIHttp)
    listed = await rig.provider.listed(Deadline.after(CLOCK, 5))
    assert [model.id for model in listed] == ["small", "large"]


async def test_embeddings_pass_through(rig: OverUpstream) -> None:
    assert isinstance(rig.provider, OpenAIHttp)
    told = await rig.provider.embed({"input": ["a", "b"], "model": "x"}, "emb", Deadline.after(CLOCK, 5))
    assert len(told["data"]) == 2 and rig.upstream.requests[0].body["model"] == "emb"
