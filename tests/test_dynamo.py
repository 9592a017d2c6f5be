"""The lean client signs as botocore does, and behaves as boto3 does against the same server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from freezegun import freeze_time

from edgewise.aws import Aws, AwsError, AwsOptions, Table
from edgewise.dynamo import SERVICES, Dynamo, Keys, NoConnection, Service, ServiceError, Source

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a-session-token")


@pytest.mark.parametrize("keys", [KEYS, Keys(KEYS.access, KEYS.secret)])
@pytest.mark.parametrize("url", [None, "http://127.0.0.1:8000"])
@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_a_signature_is_the_one_that_botocore_makes(keys: Keys, url: str | None, service: Service) -> None:
    body = b'{"TableName":"t"}'
    with freeze_time("2026-03-01 12:34:56"):
        mine = Dynamo("eu-west-1", Source(keys), service=service, endpoint_url=url, now=lambda: 1772368496.0).signed(
            "GetItem", body, keys
        )
        at = url or f"https://{service.name}.eu-west-1.amazonaws.com"
        theirs = AWSRequest("POST", f"{at}/", {"x-amz-target": mine["x-amz-target"]}, body)
        SigV4Auth(Credentials(keys.access, keys.secret, keys.token), service.name, "eu-west-1").add_auth(theirs)
    assert mine["authorization"] == theirs.headers["Authorization"]


@pytest.fixture
def lean_table(moto_url: str, state_table: Table) -> Iterator[Table]:
    options = AwsOptions(region="us-east-1", endpoint_url=moto_url, lean=Source(Keys("test", "test")))
    aws = Aws(options)
    yield Table(aws, state_table.name)
    aws.close()


async def test_what_one_client_writes_the_other_reads(lean_table: Table, state_table: Table) -> None:
    item = {
        "pk": "a",
        "sk": "b",
        "bytes": b"\x00\xff",
        "text": "é",
        "number": 12,
        "list": [b"x", None],
        "map": {"k": b"y"},
    }
    await lean_table.put(item)
    assert await state_table.get("a", "b", consistent=True) == item
    assert await lean_table.get("a", "b", consistent=True) == item


async def test_a_secret_is_read_without_boto3(moto_url: str, moto_aws: Aws) -> None:
    made = await moto_aws.call("secretsmanager", "create_secret", Name="lean", SecretString="é")
    aws = Aws(AwsOptions(region="us-east-1", endpoint_url=moto_url, lean=Source(Keys("test", "test"))))
    found = await aws.call("secretsmanager", "get_secret_value", SecretId=made["ARN"])
    assert (found["SecretString"], aws._clients) == ("é", {})
    with pytest.raises(AwsError) as caught:
        await aws.call("secretsmanager", "get_secret_value", SecretId="absent")
    assert caught.value.code == "ResourceNotFoundException"
    aws.close()


async def test_errors_carry_the_same_code_and_old_item(lean_table: Table) -> None:
    await lean_table.put({"pk": "a", "sk": "b"})
    with pytest.raises(AwsError) as caught:
        await lean_table.put({"pk": "a", "sk": "b", "v": 1}, condition="attribute_not_exists(pk)")
    assert caught.value.is_condition
    assert caught.value.item == {"pk": "a", "sk": "b"}
    with pytest.raises(AwsError) as cancelled:
        await lean_table.transact(
            [{"Put": {"Item": {"pk": "a", "sk": "b"}, "ConditionExpression": "attribute_not_exists(pk)"}}]
        )
    assert cancelled.value.reasons == ("ConditionalCheckFailed",)


async def test_pages_are_walked(lean_table: Table) -> None:
    for number in range(5):
        await lean_table.put({"pk": "p", "sk": str(number)})
    assert [item["sk"] async for item in lean_table.query("p", limit=3)] == ["0", "1", "2"]


class Script(BaseHTTPRequestHandler):
    """Answers what the test lined up: (status, body), or None to hang up."""

    answers: list[tuple[int, dict[str, Any] | bytes] | None]
    seen: list[dict[str, str]]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        answer = self.answers.pop(0)
        if answer is None:
            self.close_connection = True
            return
        self._send(*answer)

    def do_GET(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self._send(
            200, {"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "2030-01-01T00:00:00Z"}
        )

    def _send(self, status: int, body: dict[str, Any] | bytes) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[tuple[str, type[Script]]]:
    class Mine(Script):
        pass

    Mine.answers, Mine.seen = [], []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Mine
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def lean(url: str, source: Source | None = None, sleeps: list[float] | None = None) -> Iterator[Dynamo]:
    waits = [] if sleeps is None else sleeps
    client = Dynamo("us-east-1", source or Source(Keys("a", "s")), endpoint_url=url, sleep=waits.append)
    yield client
    client.close()


def test_throttling_is_retried_with_a_pause_and_then_given_up(scripted: tuple[str, type[Script]]) -> None:
    url, server = scripted
    throttled = (400, {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow down"})
    waits: list[float] = []
    server.answers = [throttled, (200, {"Item": {}})]
    with lean(url, sleeps=waits) as client:
        assert client.call("GetItem", {}) == {"Item": {}}
    assert len(waits) == 1
    server.answers = [throttled] * 3
    with lean(url) as client, pytest.raises(Exception, match="ThrottlingException"):
        client.call("GetItem", {})


@pytest.mark.parametrize("status", [200, 403, 500, 502])
def test_a_page_of_something_in_between_is_a_failure_and_tried_again(
    scripted: tuple[str, type[Script]], status: int
) -> None:
    url, server = scripted
    page = (status, b"<html>Bad gateway</html>")
    server.answers = [page, (200, {"Item": {}})]
    with lean(url) as client:
        assert client.call("GetItem", {}) == {"Item": {}}
    server.answers = [page] * 3
    with lean(url) as client, pytest.raises(ServiceError) as caught:
        client.call("GetItem", {})
    assert caught.value.status >= 502


def test_a_refusal_is_not_retried(scripted: tuple[str, type[Script]]) -> None:
    url, server = scripted
    server.answers = [(400, {"__type": "x#ValidationException"})]
    with lean(url) as client, pytest.raises(Exception, match="ValidationException"):
        client.call("GetItem", {})
    assert len(server.seen) == 1


def test_a_connection_that_was_closed_meanwhile_is_replaced(scripted: tuple[str, type[Script]]) -> None:
    url, server = scripted
    server.answers = [(200, {"n": 1}), None, (200, {"n": 2})]
    with lean(url) as client:
        assert client.call("GetItem", {}) == {"n": 1}
        assert client.call("GetItem", {}) == {"n": 2}


def test_nobody_there_is_no_connection() -> None:
    with lean("http://127.0.0.1:9") as client, pytest.raises(NoConnection):
        client.call("GetItem", {})


def test_credentials_come_from_the_container_endpoint_once(scripted: tuple[str, type[Script]]) -> None:
    """Under SnapStart the environment holds no keys."""
    url, server = scripted
    server.answers = [(200, {}), (200, {})]
    with lean(url, Source(endpoint=f"{url}/creds", endpoint_token="secret")) as client:
        client.call("GetItem", {})
        client.call("GetItem", {})
    assert [seen.get("authorization", "")[:30] for seen in server.seen] == [
        "secret",
        "AWS4-HMAC-SHA256 Credential=A/",
        "AWS4-HMAC-SHA256 Credential=A/",
    ]
