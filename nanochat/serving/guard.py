"""Access control: checks a request's host, origin, key and rate before its body is read."""

from __future__ import annotations

import hmac
import ipaddress
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nanochat.serving.api_errors import ApiError

MAX_ADDRESSES = 10_000  # client addresses whose rate is tracked
# No external resources, no inline scripts or styles, no framing. The page inserts a model's output as text only; if
# that ever failed, the policy would still prevent it from executing.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "
    "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class RateLimiter:
    """A token bucket per client address, which holds a quarter of the requests per minute.

    Args:
        per_minute: the number of requests per minute; 0 for no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_second, self.capacity = per_minute / 60, max(1.0, per_minute / 4)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address: (level, time of last update)

    def wait(self, address: str, now: float | None = None) -> float:
        """Counts a request. Returns 0 if it is allowed, else the seconds until the next one will be."""
        if not self.per_second:
            return 0
        now = time.monotonic() if now is None else now
        level, updated = self._buckets.pop(address, (self.capacity, now))
        level = min(self.capacity, level + (now - updated) * self.per_second)
        self._buckets[address] = (level - 1 if level >= 1 else level, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return 0 if level >= 1 else (1 - level) / self.per_second


class Guard:
    """ASGI middleware that refuses requests from other web pages, without the API key, or above the rate limit.

    A web page of any site can make a visitor's browser send requests to this machine. Therefore a request with an
    ``Origin`` header must come from the page that this server has sent, or from an allowed origin. Such a site can
    also resolve its own domain to this machine (DNS rebinding). Therefore the ``Host`` header must be an IP address,
    localhost, a name of this machine, or an allowed host.

    Args:
        app: the app behind the guard.
        api_key: the key that requests to /v1 must send; None requires none.
        allow_hosts: further names at which this server may be addressed.
        allow_origins: origins of other pages that may use the API, in the form of an Origin header:
            http://localhost:3000.
        per_minute: the limit of completion requests per minute and client address; 0 for no limit.
    """

    def __init__(
        self,
        app: ASGIApp,
        api_key: str | None = None,
        allow_hosts: Sequence[str] = (),
        allow_origins: Sequence[str] = (),
        per_minute: int = 0,
    ) -> None:
        self.app = app
        self._key = api_key.encode() if api_key is not None else None
        name = socket.gethostname().lower()
        self._hosts = {"localhost", name, f"{name.split('.')[0]}.local", *map(str.lower, allow_hosts)}
        self._origins = set(allow_origins)
        self._limiter = RateLimiter(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            await error.response()(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_allowed_host(host):
            message = "this host name is not allowed: start the server with --allow_hosts"
            raise ApiError(403, message, "host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and not _is_same_origin(origin, host):
            message = "requests from other web pages are not allowed: start the server with --allow_origins"
            raise ApiError(403, message, "origin_not_allowed")
        if not scope["path"].startswith("/v1/"):
            return
        if self._key is not None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            # the time of compare_digest does not depend on the position of the first difference
            if not hmac.compare_digest(given.strip().encode("latin-1"), self._key) or scheme.lower() != "bearer":
                message = "this server requires a key: Authorization: Bearer <key>"
                raise ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if scope["method"] == "POST":
            seconds = self._limiter.wait(scope["client"][0] if scope.get("client") else "")
            if seconds:
                message = "too many requests from this address: try again later"
                raise ApiError(429, message, "rate_limit_exceeded", headers={"Retry-After": str(math.ceil(seconds))})

    def _is_allowed_host(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True


def _is_same_origin(origin: str, host: str) -> bool:
    """Whether the page came from the server that it requests. The scheme may differ: a proxy may terminate TLS."""
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower() != ""
    except ValueError:
        return False
