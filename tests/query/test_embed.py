"""The in-process embedders: unit rows, near for rewordings, of a fixed space."""

from __future__ import annotations

import numpy as np
import pytest

from edgewise.query.embed import ByLanguage
from edgewise.query.embed.minilm import MiniLm
from edgewise.query.embed.multilingual import Multilingual
from edgewise.query.embed.wordpiece import CLS, SEP, WordPiece


@pytest.fixture(scope="module")
def english() -> MiniLm:
    return MiniLm()


def test_pieces_are_cut_greedily_and_framed() -> None:
    pieces = WordPiece.shipped()
    assert pieces.encode("Unaffable, héllo", 16) == [CLS, 14477, 20961, 3468, 1010, 7592, SEP]
    assert len(pieces.encode("word " * 50, 10)) == 10


def test_english_rows_are_of_unit_length_and_near_for_rewordings(english: MiniLm) -> None:
    texts = ["How do I reset my password?", "I lost my password, how do I get a new one?", "Best pasta recipe"]
    rows = english.encode(texts)
    assert rows.shape == (3, english.dim) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > 0.6
    assert rows[0] @ rows[2] < 0.3


def test_a_text_has_the_same_vector_in_any_batch(english: MiniLm) -> None:
    texts = [f"question number {i} about trains and tickets" for i in range(60)]
    together = english.encode(texts)
    assert np.allclose(together[17], english.encode([texts[17]])[0], atol=1e-4)


def test_chinese_has_an_embedder_of_its_own() -> None:
    shipped = ByLanguage.shipped()
    chinese = shipped.of("怎么修改银行卡密码？")
    assert isinstance(chinese, Multilingual) and chinese.dim % 64 == 0
    rows = chinese.encode(["怎么修改银行卡密码？", "银行卡密码怎么改？", "今天晚饭吃什么"])
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2
    assert isinstance(shipped.of("How do I pay?"), MiniLm)
    assert shipped.of("Wo finde ich den Bahnhof in München?") is None


def test_titan_is_asked_in_its_own_words() -> None:
    """The request and the answer as the service model has them."""
    from io import BytesIO

    from botocore.response import StreamingBody
    from botocore.stub import Stubber

    from edgewise.aws import Aws, AwsOptions
    from edgewise.query.embed.bedrock import MODEL, Titan

    aws = Aws(AwsOptions(region="us-east-1", access_key_id="test", secret_access_key="test"))
    body = b'{"embedding": [0.6, 0.8], "inputTextTokenCount": 2}'
    asked = '{"inputText": "hello", "dimensions": 2, "normalize": true}'
    with Stubber(aws.client("bedrock-runtime")) as stub:
        answer = {"body": StreamingBody(BytesIO(body), len(body)), "contentType": "application/json"}
        stub.add_response("invoke_model", answer, {"modelId": MODEL, "body": asked})
        rows = Titan(aws, dim=2).encode(["hello"])
    aws.close()
    assert rows.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_a_remote_embedder_orders_and_normalises_rows() -> None:
    import json
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from edgewise.query.embed.remote import RemoteEmbedder

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert asked["model"] == "m" and self.headers["authorization"] == "Bearer k"
            rows = [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}]
            body = json.dumps({"data": rows[: len(asked["input"])]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            found = RemoteEmbedder(f"http://127.0.0.1:{server.server_port}/v1", "m", 2, api_key="k")
            assert np.allclose(found.encode(["a", "b"]), np.array([[0.6, 0.8], [0.0, 1.0]]))
            with pytest.raises(ValueError, match="shape"):
                RemoteEmbedder(f"http://127.0.0.1:{server.server_port}/v1", "m", 3, api_key="k").encode(["a", "b"])
        finally:
            server.shutdown()
            thread.join()
    with pytest.raises(ValueError, match="http"):
        RemoteEmbedder("file:///etc", "m", 2)
