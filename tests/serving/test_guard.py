"""Access control: hosts, origins, the API key, the rate limit and the security headers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import httpx2 as httpx
import pytest

from nanochat.serving.guard import MAX_ADDRESSES, RateLimiter
from tests.serving.tools import ServerThread, running_server

BODY = {"prompt": "a", "max_tokens": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with running_server() as server:
        yield server


@pytest.fixture
def frozen_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the clock, so that no bucket refills."""
    monkeypatch.setattr("nanochat.serving.guard.time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8000", "192.168.1.7", socket.gethostname()])
def test_own_host_names_and_addresses_are_allowed(server: ServerThread, host: str) -> None:
    assert httpx.get(f"{server.url}/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[", "@"]
)
@pytest.mark.parametrize("path", ["/", "/health", "/v1/models"])
def test_foreign_host_is_refused(server: ServerThread, host: str, path: str) -> None:
    refused = httpx.get(server.url + path, headers={"Host": host})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "file://", "http://[", ""])
def test_foreign_origin_is_refused(server: ServerThread, origin: str) -> None:
    refused = httpx.post(f"{server.url}/v1/completions", json=BODY, headers={"Origin": origin})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in refused.headers


def test_own_origin_is_allowed(server: ServerThread) -> None:
    assert httpx.post(f"{server.url}/v1/completions", json=BODY, headers={"Origin": server.url}).status_code == 200


def test_allow_hosts_and_allow_origins() -> None:
    with running_server(allow_hosts=["box.lan"], allow_origins=["http://localhost:3000"]) as server:
        headers = {"Origin": "http://localhost:3000", "Host": "box.lan:8000"}
        answer = httpx.post(f"{server.url}/v1/completions", json=BODY, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "http://localhost:3000")
        preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        assert httpx.options(f"{server.url}/v1/completions", headers=headers | preflight).status_code == 200
        refused = httpx.options(
            f"{server.url}/v1/completions", headers=headers | preflight | {"Origin": "http://evil.example"}
        )
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.usefixtures("frozen_time")
def test_allowed_origin_can_read_errors() -> None:
    with running_server(allow_origins=["http://localhost:3000"], api_key="secret", per_minute=4) as server:
        url, origin = f"{server.url}/v1/completions", {"Origin": "http://localhost:3000"}
        preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert httpx.options(url, headers=origin | preflight).status_code == 200  # a preflight request has no key
        no_key = httpx.post(url, json=BODY, headers=origin)
        headers = origin | {"Authorization": "Bearer secret"}
        limited = [httpx.post(url, json=BODY, headers=headers) for _ in range(2)][-1]
    for refused, status in ((no_key, 401), (limited, 429)):
        assert refused.status_code == status
        assert refused.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert limited.headers["access-control-expose-headers"] == "Retry-After"


def test_api_key() -> None:
    with running_server(api_key="secret") as server:
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
        for path in ("/", "/health", "/style.css"):
            assert httpx.get(server.url + path).status_code == 200


@pytest.mark.usefixtures("frozen_time")
def test_rate_limit_sends_retry_after() -> None:
    with running_server(per_minute=20) as server:
        answers = [httpx.post(f"{server.url}/v1/completions", json=BODY) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert answers[-1].headers["retry-after"] == "3"
        assert answers[-1].json()["error"]["type"] == "rate_limit_error"
        assert httpx.get(f"{server.url}/v1/models").status_code == 200


def test_rate_limiter_refills_and_evicts() -> None:
    limiter = RateLimiter(60)
    assert [limiter.wait("a", 0.0) for _ in range(16)] == [0] * 15 + [1.0]
    assert limiter.wait("b", 0.0) == 0
    assert limiter.wait("a", 0.5) == pytest.approx(0.5)
    assert limiter.wait("a", 1.0) == 0
    assert limiter.wait("a", 1.0) > 0
    assert [limiter.wait("a", 1e6) for _ in range(16)].count(0) == 15
    for n in range(MAX_ADDRESSES + 10):
        limiter.wait(str(n), 1e6)
    assert len(limiter._buckets) == MAX_ADDRESSES
    assert all(RateLimiter(0).wait("a", 0.0) == 0 for _ in range(1000))


def test_security_headers(server: ServerThread) -> None:
    for path in ("/", "/main.js", "/health", "/nothing"):
        headers = httpx.get(server.url + path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_only_the_files_of_the_page_are_served(server: ServerThread) -> None:
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
