"""The whole gateway behind a real server on loopback, with providers that misbehave on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn

from edgewise.assemble import gateway
from edgewise.settings import Settings
from edgewise.settings import Upstream as UpstreamSetting
from tests.upstream import Upstream, threaded

KEY = "ew_test_root_key"


@dataclass(frozen=True, slots=True)
class Gateway:
    """`url` is the base URL without `/v1`; `upstream` is what stands behind `chaos/…` and `anthropic/…` models."""

    url: str
    key: str
    upstream: Upstream


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve the gateway of `settings` on a free port, in a thread of its own."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(gateway(settings), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = threading.Event()
    for _ in range(500):
        if server.started:
            break
        deadline.wait(0.02)
    assert server.started
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def edgewise_gateway() -> Iterator[Gateway]:
    """One gateway for all tests of clients: each test asks something that no other asks."""
    with threaded() as upstream:
        settings = Settings(
            root_key=KEY,
            scripted_model=True,
            request_log=False,
            max_retries=0,
            max_body_bytes=200_000,
            anthropic_api_key="sk-ant-upstream",
            anthropic_base_url=upstream.root,
            upstreams=(UpstreamSetting(name="chaos", base_url=upstream.base_url, api_key="sk-upstream"),),
        )
        with serving(settings) as url:
            yield Gateway(url, KEY, upstream)
