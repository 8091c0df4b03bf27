"""An analysis as one page: everything in a single HTML file, which needs no network and no other file."""

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

from nanochat.analysis.figure import Table
from nanochat.analysis.figure_files import SavedFigure, is_numeric
from nanochat.analysis.units import cell
from nanochat.cache import write_atomically

NAME = "analysis.html"
MOST_ROWS = 60  # of a table in the page; all of them are in its file
MOST_BYTES = 300_000  # of an SVG in the page: beyond it, the PNG stands in for it where that is smaller


class Fact(NamedTuple):
    """A number at the head of the page: what it is, how much, and a remark."""

    name: str
    value: str
    note: str = ""


@dataclass
class Page:
    """What a page says besides its figures.

    Attributes:
        title: the run, or the runs.
        lede: what they are, in a sentence or two.
        facts: the numbers that matter most.
        warnings: what a reader must know before comparing anything.
        missing: of each figure that could not be made its title and the reason.
        footer: when and by what it was made.
    """

    title: str
    description: str
    facts: Sequence[Fact] = ()
    warnings: Sequence[str] = ()
    missing: Sequence[tuple[str, str]] = ()
    footer: str = ""


@dataclass
class _PageFigure:
    """A figure as the template takes it."""

    figure: Any
    images: list[tuple[str, str]]
    size: tuple[int, int] | None
    table: dict[str, Any] | None
    links: list[tuple[str, str]] = field(default_factory=list)


def write_page(page: Page, saved: Sequence[SavedFigure], folder: Path) -> Path:
    """Writes ``analysis.html``; returns its path.

    Args:
        page: what it says.
        written: the figures, in their order. Those of a section stand together.
        folder: of the page; the links to the figures' files are relative to it.
    """
    from jinja2 import Environment, StrictUndefined

    parts = files(__package__).joinpath("page")
    script = parts.joinpath("analysis.js").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(parts.joinpath("analysis.html").read_text(encoding="utf-8"))
    sections: dict[str, list[_PageFigure]] = {}
    for figure_files in saved:
        sections.setdefault(figure_files.figure.section, []).append(_page_figure(figure_files, folder))
    text = template.render(
        page=page,
        sections=list(sections.items()),
        style=parts.joinpath("analysis.css").read_text(encoding="utf-8"),
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    path = folder / NAME
    write_atomically(path, text)
    return path


def _page_figure(figure_files: SavedFigure, folder: Path) -> _PageFigure:
    # what is both text and a picture is shown as text: it can be searched and copied, and fits into any window
    drawn = {} if figure_files.figure.html else figure_files.svg
    images = [(theme, _source(svg, figure_files.png[theme])) for theme, svg in drawn.items()]
    links = [(_ending(kind), quote(path.relative_to(folder).as_posix())) for kind, path in figure_files.files.items()]
    size = _size(next(iter(figure_files.svg.values()))) if figure_files.svg else None
    return _PageFigure(figure_files.figure, images, size, _table(figure_files.figure.table), links)


def _ending(kind: str) -> str:
    """ "dark.svg" as "SVG, dark" """
    return ", ".join([kind.split(".")[-1].upper(), *kind.split(".")[:-1]])


def _source(svg: str, png: bytes) -> str:
    """A picture as an address that holds all of it. As an image, an SVG's names stay its own."""
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    source = "data:image/svg+xml," + quote(re.sub(r"\s+", " ", text), safe=" /:;=,()?@!$*-._~+")
    if len(source) > MOST_BYTES and len(png) * 4 / 3 < len(source):
        return "data:image/png;base64," + base64.b64encode(png).decode()
    return source


def _size(svg: str) -> tuple[int, int] | None:
    """Its width and height, so that the page does not jump while it loads."""
    match = re.search(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"', svg, re.DOTALL)
    return (round(float(match[1])), round(float(match[2]))) if match else None


def _table(table: Table | None) -> dict[str, Any] | None:
    if table is None:
        return None
    return {
        "header": list(table.columns),
        "numeric": [is_numeric(table, index) for index in range(len(table.columns))],
        "rows": [[cell(value) for value in row] for row in table.rows[:MOST_ROWS]],
        "left_out": max(0, len(table.rows) - MOST_ROWS),
    }
