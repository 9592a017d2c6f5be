"""Fixtures for all: real boto3 against moto's server, with the templates' own tables; no socket beyond loopback."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewise.aws import Aws, AwsOptions, Table
from edgewise.clock import FakeClock
from edgewise.local import template
from edgewise.local.atomic import make_atomic
from tests.upstream import upstream  # noqa: F401  (a fixture for all)

_numbers = itertools.count()
_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for name in list(os.environ):
    # A developer's own credentials and settings never reach a test.
    if name.startswith(("EDGEWISE_", "OPENAI_", "ANTHROPIC_", "AWS_")) and name not in (
        "EDGEWISE_DATA",
        "AWS_EC2_METADATA_DISABLED",
    ):
        del os.environ[name]


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """A connection to anywhere but this machine is an error: stand-ins that let a call escape would reach the net."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_LOOPBACK):
            raise OSError(f"tests may only use loopback, not {address!r}")
        real(self, address)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", connect)
    yield
    patch.undo()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `data` need the recorded data's folder in EDGEWISE_DATA."""
    if not os.environ.get("EDGEWISE_DATA"):
        skip = pytest.mark.skip(reason="EDGEWISE_DATA is not set")
        for item in items:
            if item.get_closest_marker("data"):
                item.add_marker(skip)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of recorded data."""
    return Path(os.environ["EDGEWISE_DATA"])


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """The URL of a moto server on loopback, with every service that Edgewise uses."""
    from moto.server import ThreadedMotoServer

    make_atomic()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def aws_at(url: str) -> Aws:
    """boto3 behind the seam, against a stand-in at `url`."""
    return Aws(AwsOptions(region="us-east-1", endpoint_url=url, access_key_id="test", secret_access_key="test"))


@pytest.fixture(scope="session")
def moto_aws(moto_url: str) -> Iterator[Aws]:
    aws = aws_at(moto_url)
    yield aws
    aws.close()


@pytest.fixture
def cache_table(moto_aws: Aws) -> Table:
    """A fresh, empty cache table."""
    name = f"cache-{next(_numbers)}"
    asyncio.run(template.create_table(moto_aws, "CacheTable", name))
    return Table(moto_aws, name)


@pytest.fixture
def state_table(moto_aws: Aws) -> Table:
    """A fresh, empty state table."""
    name = f"state-{next(_numbers)}"
    asyncio.run(template.create_table(moto_aws, "StateTable", name))
    return Table(moto_aws, name)


@pytest.fixture
def bucket(moto_aws: Aws) -> str:
    """The name of a fresh, empty bucket."""
    name = f"bucket-{next(_numbers)}"
    asyncio.run(template.create_bucket(moto_aws, name))
    return name


@pytest.fixture
def queues(moto_aws: Aws) -> tuple[str, str]:
    """URLs of a fresh queue and its dead-letter queue."""
    return asyncio.run(template.create_queues(moto_aws, f"jobs-{next(_numbers)}"))


@pytest.fixture
def places(
    moto_url: str, cache_table: Table, state_table: Table, bucket: str, queues: tuple[str, str]
) -> dict[str, Any]:
    """Where a whole gateway keeps things on the stand-in: fields of `Settings`."""
    return {
        "local_aws_url": moto_url,
        "cache_table": cache_table.name,
        "state_table": state_table.name,
        "bucket": bucket,
        "jobs_queue_url": queues[0],
        "dead_letter_queue_url": queues[1],
    }
