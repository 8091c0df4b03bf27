"""The analysis as one self-contained HTML file: no network access, and no other file needed to view it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from nanochat.analysis.figure import Figure, Table
from nanochat.analysis.figure_files import SavedFigure, is_numeric
from nanochat.analysis.units import format_cell
from nanochat.cache import write_atomically

NAME = "analysis.html"
MAX_ROWS = 60  # rows of a table in the page; the CSV file has all of them
MAX_SVG_BYTES = 300_000  # a larger SVG is replaced in the page by the PNG, if that is smaller


class Fact(NamedTuple):
    """A number at the top of the page: its name, its value, and an optional note."""

    name: str
    value: str
    note: str = ""


@dataclass
class Page:
    """The text of a page around its figures.

    Attributes:
        title: the label of the run, or the labels of the runs.
        description: one or two sentences about them.
        facts: the most important numbers.
        warnings: caveats that a reader needs before comparing numbers.
        missing: title and reason of each figure that could not be made.
        footer: how and when the page was made.
    """

    title: str
    description: str
    facts: Sequence[Fact] = ()
    warnings: Sequence[str] = ()
    missing: Sequence[tuple[str, str]] = ()
    footer: str = ""


@dataclass
class _PageFigure:
    """A figure in the form that the template uses."""

    figure: Figure
    images: list[tuple[str, str]]
    size: tuple[int, int] | None
    table: dict[str, Any] | None
    links: list[tuple[str, str]] = field(default_factory=list)


def write_page(page: Page, saved: Sequence[SavedFigure], folder: Path) -> Path:
    """Writes ``analysis.html``; returns its path.

    Args:
        page: the text of the page.
        saved: the figures in their order, grouped by section.
        folder: where the page is written; links to the figures' files are relative to it.
    """
    from jinja2 import Environment, StrictUndefined

    resources = files(__package__).joinpath("page")
    script = resources.joinpath("analysis.js").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.joinpath("analysis.html").read_text(encoding="utf-8"))
    sections: dict[str, list[_PageFigure]] = {}
    for saved_figure in saved:
        sections.setdefault(saved_figure.figure.section, []).append(_page_figure(saved_figure, folder))
    text = template.render(
        page=page,
        sections=list(sections.items()),
        style=resources.joinpath("analysis.css").read_text(encoding="utf-8"),
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    path = folder / NAME
    write_atomically(path, text)
    return path


def _page_figure(saved: SavedFigure, folder: Path) -> _PageFigure:
    # HTML takes precedence over the drawn figure: it can be searched and copied, and wraps to the window.
    drawn = {} if saved.figure.html else saved.svg
    images = [(theme, _data_url(svg, saved.png[theme])) for theme, svg in drawn.items()]
    links = [
        (_link_text(extension), quote(path.relative_to(folder).as_posix())) for extension, path in saved.files.items()
    ]
    size = _size(next(iter(saved.svg.values()))) if saved.svg else None
    return _PageFigure(saved.figure, images, size, _table(saved.figure.table), links)


def _link_text(extension: str) -> str:
    """ "dark.svg" as "SVG, dark" """
    return ", ".join([extension.split(".")[-1].upper(), *extension.split(".")[:-1]])


def _data_url(svg: str, png: bytes) -> str:
    """The image as a data URL. An SVG in an <img> has its own namespace, so ids do not collide."""
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    source = "data:image/svg+xml," + quote(re.sub(r"\s+", " ", text), safe=" /:;=,()?@!$*-._~+")
    if len(source) > MAX_SVG_BYTES and len(png) * 4 / 3 < len(source):
        return "data:image/png;base64," + base64.b64encode(png).decode()
    return source


def _size(svg: str) -> tuple[int, int] | None:
    """Width and height, set in the page so that its layout does not shift while images load."""
    match = re.search(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"', svg, re.DOTALL)
    return (round(float(match[1])), round(float(match[2]))) if match else None


def _table(table: Table | None) -> dict[str, Any] | None:
    if table is None:
        return None
    return {
        "header": list(table.columns),
        "numeric": [is_numeric(table, index) for index in range(len(table.columns))],
        "rows": [[format_cell(value) for value in row] for row in table.rows[:MAX_ROWS]],
        "hidden_rows": max(0, len(table.rows) - MAX_ROWS),
    }
