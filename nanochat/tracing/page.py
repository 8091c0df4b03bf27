"""Writes a trace as an HTML page: one file without external resources, for dark and light mode and small screens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nanochat.cache import write_atomically
from nanochat.tracing.document import (
    AttentionMaps,
    BarChart,
    Chapter,
    Table,
    Vector,
    format_number,
    format_percent,
    format_shape,
)
from nanochat.tracing.source import Source

MAX_MAP_TOKENS = 40  # in an attention map; of longer texts it shows the last tokens


def write_page(path: Path, heading: Sequence[str], chapters: Sequence[Chapter]) -> None:
    """Writes the page.

    Args:
        path: the HTML file.
        heading: the title, then lines of description.
        chapters: of the trace.

    Raises:
        OSError: if the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("nanochat.tracing", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=format_number, percent=format_percent, shape=format_shape, kind=_kind, maps=_attention_maps
    )
    template = environment.get_template("page.html.jinja")
    path.parent.mkdir(parents=True, exist_ok=True)
    html = template.render(heading=heading, chapters=chapters, link=lambda source: _link(source, path))
    write_atomically(path, html)


def _link(source: Source, page: Path) -> str:
    """The relative path from the page to the source file."""
    try:
        return Path(os.path.relpath(source.file, page.absolute().parent)).as_posix()
    except ValueError:  # on Windows: the file is on another drive
        return source.file.as_uri()


def _kind(figure: Any) -> str:
    return {Vector: "vector", Table: "table", BarChart: "bars", AttentionMaps: "attention"}[type(figure)]


def _attention_maps(figure: AttentionMaps) -> list[list[dict[str, Any]]]:
    """For each head the rows of its map: the query token, and pairs of key token and weight up to that token."""
    first = max(0, len(figure.tokens) - MAX_MAP_TOKENS)
    tokens = figure.tokens[first:]
    return [
        [
            {"token": token, "cells": list(zip(tokens, row[: i + 1].tolist(), strict=False))}
            for i, (token, row) in enumerate(zip(tokens, head[first:, first:], strict=True))
        ]
        for head in figure.weights
    ]
