"""Malformed requests: each gets a 4xx response, and none reaches the engine or breaks the server."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.serving.test_api import slow_down
from tests.serving.tools import ServerThread, random_model, running_server, wait_until

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
JSON = {"Content-Type": "application/json"}
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
    TEXT: {"prompt": "Hello", "max_tokens": 1},
}
# Fields, with values that are invalid for each of them.
WRONG: list[tuple[tuple[str, ...], list[Any]]] = [
    (("temperature",), [-0.1, 2.1, "1", "hot", [], {}, True, 1e400, -1e400, [0.5]]),
    (("top_p", "min_p"), [-1, 1.01, "0.5", [], {}, False, 1e400]),
    (("top_p",), [0]),
    (("top_k",), [-1, 1.5, "50", [], {}, True, 10**30]),
    (("repetition_penalty",), [0, -1, 11, "1", [], {}, True]),
    (("max_tokens", "n"), [0, -1, 1.5, "1", [], {}, True, 10**30]),
    (("seed",), [1.5, "1", [], {}, True, 2**63, -(2**63) - 1, 10**4000]),
    (("n",), [17, 10**6]),
    (("stop",), [1, {}, [1], [None], [[]], True, ["x"] * 17, "x" * 1001]),
    (("stream",), ["true", 1, 0, [], {}, "yes"]),
    (("stream_options",), [1, [], "x", {"include_usage": "yes"}, {"what": True}, True]),
    (("model",), [1, [], {}, "gpt-4o", "", "x" * 201, True, "../babbler", "\u0000"]),
    (("logprobs",), [True, 5]),
    (("tools",), [[{"type": "function"}], "x", 1]),
    (("response_format",), [{"type": "json_object"}, "json", 1]),
    (("presence_penalty", "frequency_penalty"), [0.5, "x", -2, []]),
    (("logit_bias",), [{"50": 1}, [1], "x"]),
    (("temprature", "prompts", "message", "", "__class__", "\u202e", "x" * 5000), [1, None, "x", {}]),
]
WRONG_MESSAGES: list[Any] = [
    None, [], {}, "Hello", 1, True, [None], [1], ["Hello"], [[]], [{}], [{"role": "user"}], [{"content": "x"}],
    *([{"role": role, "content": "x"}] for role in ("robot", "", None, 1, [], {}, "USER", "tool", "x" * 9000)),
    *([{"role": "user", "content": content}] for content in (None, 1, True, {}, [1], [None], [{}], [[]])),
    *([{"role": "user", "content": [part]}] for part in (
        {"type": "text"}, {"type": "text", "text": None}, {"type": "text", "text": 1}, {"type": 1, "text": "x"},
        {"type": "image_url", "image_url": {"url": "x"}}, {"type": "image_url", "text": "x"},
        {"type": "python", "text": "1+1"}, {"type": "python_output", "text": "2"}, {"type": [], "text": "x"},
    )),
    [{"role": "system", "content": "x"}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}],
    [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}, {"role": "user", "content": "x"}],
    [{"role": "system", "content": "x"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "x"}],
    [{"role": "user", "content": "x" * 100_000}],
    [{"role": "system", "content": "x" * 100_000}, {"role": "user", "content": "x"}],
    [{"role": "user", "content": "x"}] * 1001,
]  # fmt: skip
WRONG_PROMPTS: list[Any] = [
    None, 1, {}, [], [[]], [None], [1, "x"], ["x", 1], [[1], "x"], [[[1]]], [-1], [265], [10**30], [1.5], [True], True,
    "x" * 300, [1] * 256, ["x"] * 17, [[1]] * 17, ["x", "x" * 300],
]  # fmt: skip
NOT_JSON = [
    b"", b" ", b"{", b"}", b"[", b"null", b"[]", b"1", b'"x"', b"true", b"{'prompt': 'x'}", b'{"prompt": "x",}',
    b"\x00", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b'{"prompt": "x"} {"prompt": "x"}', b"\xef\xbb\xbf{}",
    b"[" * 100_000, b'{"a":' * 50_000, b'{"prompt": "x", "temperature": NaN}',
    b'{"prompt": "x", "temperature": Infinity}', b'{"prompt": "x", "temperature": -Infinity}',
    b'{"prompt": "x", "seed": ' + b"9" * 10_000 + b"}", b"prompt=x",
    b'{"prompt": "x"', '{"prompt": "x"}'.encode("utf-16"), b'{"prompt": "x" "n": 1}', b"\x1f\x8b\x08",
]  # fmt: skip


def malformed() -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
    """Method, path, body and headers of invalid requests."""
    for path, body in GOOD.items():
        for names, values in WRONG:
            for name in names:
                for value in values:
                    yield "POST", path, json.dumps({**body, name: value}).encode(), JSON
        for content in NOT_JSON:
            yield "POST", path, content, JSON
        good = json.dumps(body).encode()
        for media in (
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "json",
            "é",
        ):
            yield "POST", path, good, {"Content-Type": media}
        for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "TRACE", "BREW"):
            yield method, path, good, JSON
        yield "POST", path, good + b" " * 2**20, JSON
        yield "POST", path + "/", good, JSON
        for origin in ("http://evil.example", "null"):
            yield "POST", path, good, {**JSON, "Origin": origin}
        yield "POST", path, good, {**JSON, "Host": "evil.example"}
        # truncated JSON; JSON with random bytes follows at the end
        for end in range(len(good)):
            yield "POST", path, good[:end], JSON
    for messages in WRONG_MESSAGES:
        yield "POST", CHAT, json.dumps({"messages": messages}).encode(), JSON
    for prompt in WRONG_PROMPTS:
        yield "POST", TEXT, json.dumps({"prompt": prompt}).encode(), JSON
    for path in (
        "/nothing",
        "/v1",
        "/v1/",
        "/v1/models/none",
        "/v1/embeddings",
        "/%00",
        "/..%2f..%2fetc/passwd",
        "/a" * 3000,
    ):
        yield "GET", path, b"", {}
    rng = random.Random(0)
    for _ in range(800):
        path = rng.choice((CHAT, TEXT))
        noise = bytearray(json.dumps(GOOD[path]).encode())
        for _ in range(rng.randint(1, 4)):
            noise[rng.randrange(len(noise))] = rng.randrange(256)
        try:
            json.loads(noise.decode())
        except ValueError:
            yield "POST", path, bytes(noise), JSON


def test_a_thousand_malformed_requests() -> None:
    model = random_model()
    count = 0
    with running_server(model) as server, httpx.Client(base_url=server.url) as http:
        started, start = 0, model.engine.start

        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal started
            started += 1
            return start(*args, **kwargs)

        model.engine.start = counting  # type: ignore[method-assign]
        for method, path, body, headers in malformed():
            request = http.build_request(
                method, path, content=body, headers={k: v.encode() for k, v in headers.items()}
            )
            answer = http.send(request)
            assert 400 <= answer.status_code < 500, (method, path, body[:200], headers, answer.text)
            if method != "HEAD":
                error = answer.json()["error"]
                assert 0 < len(error["message"]) < 400, body[:200]
                assert error["type"] == "invalid_request_error"
                assert "Traceback" not in answer.text
                assert "nanochat/" not in answer.text
            count += 1
        assert count >= 1000
        assert started == 0
        for path, body in GOOD.items():
            assert http.post(path, json=body).status_code == 200


POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
RAW = [
    b"\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n", POST + b"Content-Length: x\r\n\r\n",
    POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", POST + b"Content-Length: 99999999999\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
]  # fmt: skip


@pytest.mark.parametrize("sent", RAW, ids=range(len(RAW)))
def test_invalid_http_is_refused(server: ServerThread, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1000)
        except ConnectionError:
            answer = b""  # closed immediately
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert capfd.readouterr() == ("", "")  # and prints nothing in the server's terminal


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with running_server() as server:
        yield server
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_chunked_body_that_is_too_large_is_refused(server: ServerThread) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(40):
            yield b"x" * 65536

    try:
        answer = httpx.post(f"{server.url}{TEXT}", content=chunks(), headers=JSON)
    except httpx.TransportError:
        return  # the server closed the connection before the end of the body
    assert answer.status_code == 413


def test_body_timeout(monkeypatch: pytest.MonkeyPatch, server: ServerThread) -> None:
    monkeypatch.setattr("nanochat.serving.requests.READ_TIMEOUT", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(POST + b"Content-Length: 50\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("first", [b"", b"GET /he", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_incomplete_request_is_closed(first: bytes, monkeypatch: pytest.MonkeyPatch, server: ServerThread) -> None:
    monkeypatch.setattr("nanochat.serving.server.READ_TIMEOUT", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.05) as connection:
        connection.sendall(first)
        wait_until(lambda: _closed_after_a_byte(connection))


def _closed_after_a_byte(connection: socket.socket) -> bool:
    """Sends a byte and reads; returns whether the connection is closed."""
    try:
        connection.sendall(b"x")
        return connection.recv(10_000) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.serving.server.WRITE_TIMEOUT", 0.5)
    body = json.dumps({"prompt": ["a"] * 16, "max_tokens": 4000, "stream": True, "top_k": 1}).encode()
    with running_server(random_model(context=4096, width=16), max_concurrency=16) as server, socket.socket() as client:
        server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # its connections inherit it
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: len(server.server.server_state.connections) == 1)
        wait_until(lambda: not server.server.server_state.connections)
        wait_until(lambda: server.worker.load == (0, 0))  # its texts are cancelled


def test_read_timeout_does_not_limit_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.serving.server.READ_TIMEOUT", 0.1)
    with running_server() as server:
        slow_down(server, 0.02)
        assert httpx.post(f"{server.url}{TEXT}", json={"prompt": "x", "max_tokens": 20}).status_code == 200
