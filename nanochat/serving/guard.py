"""Who may ask: everything that is decided before a request's body is read."""

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

MOST_ADDRESSES = 10_000  # whose rate is remembered
# Nothing from elsewhere, nothing inline, in nobody's frame. Answers of a model are only ever text in the page; if
# that failed one day, what they smuggle in would still not run.
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
    """So many requests a minute from each address, a quarter of them at once ("token bucket").

    Args:
        per_minute: requests; 0 for any number.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_second, self.most = per_minute / 60, max(1.0, per_minute / 4)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests that an address has left, and when

    def wait(self, address: str, now: float | None = None) -> float:
        """Counts a request. Returns 0 if it may go on, else after how many seconds another one may."""
        if not self.per_second:
            return 0
        now = time.monotonic() if now is None else now
        left, before = self._left.pop(address, (self.most, now))
        left = min(self.most, left + (now - before) * self.per_second)
        self._left[address] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return 0 if left >= 1 else (1 - left) / self.per_second


class Guard:
    """Lets through requests that come from this page or a program, with the key if there is one, and not too often.

    A web page on any other site can make a visitor's browser send requests to this machine. So a request with an
    ``Origin`` must come from the page that this server has sent, or one that was allowed; and since such a site can
    point its own name at this machine ("DNS rebinding"), a request must be addressed to a number, to localhost or to
    a name that this machine has.

    Args:
        app: what is guarded.
        api_key: what requests to /v1 must bring; none if None.
        allow_hosts: names that this server may be addressed by, besides.
        allow_origins: origins of other pages that may use the API, as browsers send them: http://localhost:3000.
        per_minute: requests to write something, from each address; 0 for any number.
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
        self._rate = RateLimiter(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            await error.response()(scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._knows(host):
            raise ApiError(403, "this server does not go by that name: start it with --allow_hosts", "host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and not _same(origin, host):
            raise ApiError(
                403, "pages from elsewhere may not use this server: start it with --allow_origins", "origin_not_allowed"
            )
        if not scope["path"].startswith("/v1/"):
            return
        if self._key is not None:
            kind, _, given = headers.get("authorization", "").partition(" ")
            # compare_digest takes as long whatever the two have in common
            if not hmac.compare_digest(given.strip().encode("latin-1"), self._key) or kind.lower() != "bearer":
                message = "this server asks for a key: Authorization: Bearer <key>"
                raise ApiError(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if scope["method"] == "POST":
            seconds = self._rate.wait(scope["client"][0] if scope.get("client") else "")
            if seconds:
                message = "too many requests from this address: wait a little"
                raise ApiError(429, message, "rate_limit_exceeded", headers={"Retry-After": str(math.ceil(seconds))})

    def _knows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True


def _same(origin: str, host: str) -> bool:
    """Whether a page was sent by the server that it now asks. (A proxy in between may speak https for us.)"""
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower() != ""
    except ValueError:
        return False
