"""A server on loopback with the needed part of the Hugging Face hub's API, which can misbehave on request."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Repositories with files in memory.

    Attributes:
        repositories: name -> file name -> content.
        behaviour: file name (or "" for the listing) -> how it is served: "good", "slow", "cut" (the connection breaks
            in mid-file), "cut once", "wrong size", "wrong content", "404", "429 once", "503 once", "503", "401".
        requests: method and path of each request, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.cards: dict[str, Any] = {}
        self.behaviour: dict[str, str] = {}
        self.requests: list[str] = []
        self.served: Counter[str] = Counter()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, folder: Path) -> dict[str, str]:
        """Environment variables of a process that uses this hub."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "NANOCHAT_CACHE": str(folder / "cache"),
        }

    def downloads(self) -> list[str]:
        return [request for request in self.requests if request.startswith("GET") and "/resolve/" in request]


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        path = self.path.split("?")[0]
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._listing(match[1])
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[3], body)
        else:
            self._fail(404)

    def _behaviour(self, name: str) -> str:
        behaviour = self.server.behaviour.get(name, "good")
        if behaviour.endswith(" once"):
            self.server.behaviour[name] = "good"
        return behaviour.removesuffix(" once")

    def _fail(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _listing(self, repository: str) -> None:
        behaviour = self._behaviour("")
        if behaviour.isdigit():
            return self._fail(int(behaviour))
        if repository not in self.server.repositories:
            return self._fail(404, "RepoNotFound")
        files = self.server.repositories[repository]
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
                "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130},
            }
            for name, content in files.items()
        ]
        card = self.server.cards.get(repository)
        facts = {"id": repository, "sha": COMMIT, "siblings": siblings, **({"cardData": card} if card else {})}
        content = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def _file(self, repository: str, name: str, body: bool) -> None:
        files = self.server.repositories.get(repository, {})
        behaviour = self._behaviour(name) if body else self.server.behaviour.get(name, "good").removesuffix(" once")
        if behaviour.isdigit() and (body or behaviour == "404"):
            return self._fail(int(behaviour), "EntryNotFound" if behaviour == "404" else "")
        if name not in files:
            return self._fail(404, "EntryNotFound" if repository in self.server.repositories else "RepoNotFound")
        content = files[name]
        sent = content[:-7] if behaviour == "wrong size" else content[::-1] if behaviour == "wrong content" else content
        start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(sent) - 1}/{len(sent)}")
        self.send_header("Content-Length", str(len(sent) - start))
        self.end_headers()
        if not body:
            return None
        self.server.served[name] += 1
        if behaviour == "cut":
            self.wfile.write(sent[start : start + (len(sent) - start) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
        elif behaviour == "slow":
            for part in range(start, len(sent), max(1, len(sent) // 10)):
                self.wfile.write(sent[part : part + max(1, len(sent) // 10)])
                self.wfile.flush()
                time.sleep(0.1)
        else:
            self.wfile.write(sent[start:])
        return None
