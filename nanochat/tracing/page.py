"""A trace as a page: one file that needs nothing else, for dark and light, for a screen and a phone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nanochat.cache import write_atomically
from nanochat.tracing.document import AttentionMaps, BarChart, Chapter, Table, Vector, number, percent, shape_text
from nanochat.tracing.source import Source

MOST_DRAWN = 40  # tokens in the pictures of attention: the last ones of a longer text


def write_page(path: Path, title: Sequence[str], parts: Sequence[Chapter]) -> None:
    """Writes the page.

    Args:
        path: the file.
        title: what is traced: a heading, and lines below it.
        parts: of the trace.

    Raises:
        OSError: if it cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("nanochat.tracing", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent, shape=shape_text, kind=_kind, heads=_heads)
    template = environment.get_template("page.html.jinja")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, template.render(title=title, parts=parts, link=lambda source: link(source, path)))


def link(source: Source, page: Path) -> str:
    """From the page to the file, as it lies on this machine."""
    try:
        return Path(os.path.relpath(source.file, page.absolute().parent)).as_posix()
    except ValueError:  # on another drive
        return source.file.as_uri()


def _kind(figure: Any) -> str:
    return {Vector: "numbers", Table: "table", BarChart: "bars", AttentionMaps: "looks"}[type(figure)]


def _heads(looks: AttentionMaps) -> list[list[dict[str, Any]]]:
    """Of each head its rows: the token that looks, and how much at each token up to itself."""
    first = max(0, len(looks.tokens) - MOST_DRAWN)
    tokens = looks.tokens[first:]
    return [
        [
            {"token": token, "cells": list(zip(tokens, row[: i + 1].tolist(), strict=False))}
            for i, (token, row) in enumerate(zip(tokens, head[first:, first:], strict=True))
        ]
        for head in looks.shares
    ]
