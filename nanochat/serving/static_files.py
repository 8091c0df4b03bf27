"""Serves the files of the web page: HTML, CSS, JavaScript and the icon, read once at start."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def add_static_routes(app: FastAPI) -> None:
    """Adds a route for each file of the page, and ``/`` for index.html.

    No path of a request is ever resolved in the file system, so path traversal is impossible.
    """
    found = {file.name: file.read_bytes() for file in files(__package__).joinpath("page").iterdir() if file.is_file()}
    for name, content in found.items():
        media_type = MEDIA_TYPES.get(name[name.rfind(".") :])
        if media_type is not None:
            _add_route(app, f"/{name}", content, media_type)
    _add_route(app, "/", found["index.html"], MEDIA_TYPES[".html"])


def _add_route(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    # "no-cache": after an upgrade of this package, a reload shows the new page
    response = Response(content, headers={"Content-Type": media_type, "Cache-Control": "no-cache"})
    app.add_api_route(path, lambda: response, methods=["GET", "HEAD"])
