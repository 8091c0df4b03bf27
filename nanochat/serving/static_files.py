"""The page for the browser: a few files of this package, read once."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def install(app: FastAPI) -> None:
    """Serves each file at its name, and the page at /. There are no other paths, so none that lead elsewhere."""
    found = {file.name: file.read_bytes() for file in files(__package__).joinpath("page").iterdir() if file.is_file()}
    for name, content in found.items():
        kind = KINDS.get(name[name.rfind(".") :])
        if kind is not None:
            _add(app, f"/{name}", content, kind)
    _add(app, "/", found["index.html"], KINDS[".html"])


def _add(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    # a newer version of this package is seen at the next reload
    response = Response(content, headers={"Content-Type": kind, "Cache-Control": "no-cache"})
    app.add_api_route(path, lambda: response, methods=["GET", "HEAD"])
