"""Who is let in, and with what."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import httpx2 as httpx
import pytest

from nanochat.serving.guard import MOST_ADDRESSES, RateLimiter
from tests.serving.tools import Running, running

BODY = {"prompt": "a", "max_tokens": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as server:
        yield server


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time goes by, in which a rate would refill."""
    monkeypatch.setattr("nanochat.serving.guard.time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8000", "192.168.1.7", socket.gethostname()])
def test_names_of_this_machine_and_numbers_are_answered(server: Running, host: str) -> None:
    assert httpx.get(f"{server.url}/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[", "@"]
)
@pytest.mark.parametrize("path", ["/", "/health", "/v1/models"])
def test_a_name_that_somebody_else_has_pointed_here_is_not(server: Running, host: str, path: str) -> None:
    refused = httpx.get(server.url + path, headers={"Host": host})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "file://", "http://[", ""])
def test_pages_from_elsewhere_are_refused(server: Running, origin: str) -> None:
    refused = httpx.post(f"{server.url}/v1/completions", json=BODY, headers={"Origin": origin})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in refused.headers


def test_the_servers_own_page_is_not(server: Running) -> None:
    assert httpx.post(f"{server.url}/v1/completions", json=BODY, headers={"Origin": server.url}).status_code == 200


def test_pages_and_names_that_were_allowed_are_answered() -> None:
    with running(allow_hosts=["box.lan"], allow_origins=["http://localhost:3000"]) as server:
        headers = {"Origin": "http://localhost:3000", "Host": "box.lan:8000"}
        answer = httpx.post(f"{server.url}/v1/completions", json=BODY, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "http://localhost:3000")
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        assert httpx.options(f"{server.url}/v1/completions", headers=headers | asks).status_code == 200
        refused = httpx.options(
            f"{server.url}/v1/completions", headers=headers | asks | {"Origin": "http://evil.example"}
        )
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.usefixtures("still")
def test_a_page_that_was_allowed_can_read_why_it_is_refused() -> None:
    with running(allow_origins=["http://localhost:3000"], api_key="secret", per_minute=4) as server:
        url, origin = f"{server.url}/v1/completions", {"Origin": "http://localhost:3000"}
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert httpx.options(url, headers=origin | asks).status_code == 200  # browsers ask without the key
        without = httpx.post(url, json=BODY, headers=origin)
        headers = origin | {"Authorization": "Bearer secret"}
        often = [httpx.post(url, json=BODY, headers=headers) for _ in range(2)][-1]
    for refused, status in ((without, 401), (often, 429)):
        assert refused.status_code == status
        assert refused.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert often.headers["access-control-expose-headers"] == "Retry-After"


def test_a_key_is_asked_for() -> None:
    with running(api_key="secret") as server:
        url = f"{server.url}/v1/completions"
        for header in (
            None,
            "Bearer",
            "Bearer wrong",
            "Bearer secrets",
            "Basic secret",
            "secret",
            "Bearer s\u00e9cret",
        ):
            headers = {} if header is None else {"Authorization": header.encode("latin-1")}
            refused = httpx.post(url, json=BODY, headers=headers)
            assert refused.status_code == 401, header
            assert refused.json()["error"]["code"] == "invalid_api_key"
            assert "secret" not in refused.text
        assert httpx.post(url, json=BODY, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert httpx.get(f"{server.url}/v1/models").status_code == 401
        for open_to_all in ("/", "/health", "/style.css"):
            assert httpx.get(server.url + open_to_all).status_code == 200


@pytest.mark.usefixtures("still")
def test_too_many_requests_are_told_when_to_come_back() -> None:
    with running(per_minute=20) as server:
        answers = [httpx.post(f"{server.url}/v1/completions", json=BODY) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert answers[-1].headers["retry-after"] == "3"
        assert answers[-1].json()["error"]["type"] == "rate_limit_error"
        assert httpx.get(f"{server.url}/v1/models").status_code == 200


def test_a_rate_refills_and_forgets() -> None:
    rate = RateLimiter(60)
    assert [rate.wait("a", 0.0) for _ in range(16)] == [0] * 15 + [1.0]
    assert rate.wait("b", 0.0) == 0
    assert rate.wait("a", 0.5) == pytest.approx(0.5)
    assert rate.wait("a", 1.0) == 0
    assert rate.wait("a", 1.0) > 0
    assert [rate.wait("a", 1e6) for _ in range(16)].count(0) == 15
    for n in range(MOST_ADDRESSES + 10):
        rate.wait(str(n), 1e6)
    assert len(rate._left) == MOST_ADDRESSES
    assert all(RateLimiter(0).wait("a", 0.0) == 0 for _ in range(1000))


def test_every_answer_forbids_what_the_page_does_not_need(server: Running) -> None:
    for path in ("/", "/main.js", "/health", "/nothing"):
        headers = httpx.get(server.url + path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_only_the_pages_files_are_there(server: Running) -> None:
    assert httpx.get(server.url).headers["content-type"] == "text/html; charset=utf-8"
    assert httpx.head(server.url).status_code == 200
    for path in (
        "/../app.py",
        "/%2e%2e/app.py",
        "/page/../app.py",
        "/docs",
        "/openapi.json",
        "/redoc",
        "/index.html/x",
    ):
        assert httpx.get(server.url + path).status_code == 404, path
