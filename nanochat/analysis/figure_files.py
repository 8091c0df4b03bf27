"""Figures as files: pictures for slides and pages, tables for spreadsheets and notes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.image import imread, imsave

from nanochat.analysis.figure import Figure, Table
from nanochat.analysis.style import LIGHT, THEMES, using_theme
from nanochat.analysis.units import cell
from nanochat.cache import write_atomically

FOLDER = "analysis"  # of a run: what is written there is written anew by each analysis
TITLE = 0.4  # inches that a picture by itself is higher, for its title


class SavedFigure(NamedTuple):
    """A figure and its files.

    Attributes:
        figure: the figure.
        svg: the picture by the name of the theme; none where the figure has no picture.
        png: the same as dots. (The file has the title above, too.)
        files: all of them by their ending, such as "png" or "dark.svg".
    """

    figure: Figure
    svg: dict[str, str]
    png: dict[str, bytes]
    files: dict[str, Path]


def save_figure(figure: Figure, folder: Path) -> SavedFigure:
    """Draws a figure in each theme, and writes it and its table.

    Args:
        figure: the figure.
        folder: where; ``<name>.png``, ``<name>.svg``, ``<name>.dark.svg``, ``<name>.csv`` and ``<name>.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    svg: dict[str, str] = {}
    png: dict[str, bytes] = {}

    def keep(ending: str, content: str | bytes) -> None:
        files[ending] = folder / f"{figure.name}.{ending}"
        if isinstance(content, bytes):
            files[ending].write_bytes(content)
        else:
            write_atomically(files[ending], content)

    if figure.draw is not None:
        for chosen in THEMES:
            # the same picture makes the same file, and no two pictures in a page share the names in it
            with using_theme(chosen), matplotlib.rc_context({"svg.hashsalt": f"{figure.name} {chosen.name}"}):
                fig = figure.draw()
                text, dots = io.StringIO(), io.BytesIO()
                fig.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
                fig.savefig(dots, format="png", metadata={"Software": None})
                svg[chosen.name], png[chosen.name] = text.getvalue(), dots.getvalue()
                if chosen is LIGHT:
                    keep("png", _with_title(dots, figure.title))
        for name, content in svg.items():
            keep("svg" if name == LIGHT.name else f"{name}.svg", content)
    if figure.table is not None:
        keep("csv", as_csv(figure.table))
        keep("md", as_markdown(figure.table))
    return SavedFigure(figure, svg, png, files)


def _with_title(png: io.BytesIO, title: str) -> bytes:
    """A PNG with its title above it: on a slide and in TensorBoard no page stands around it."""
    png.seek(0)
    dots = imread(png)
    per_inch = matplotlib.rcParams["savefig.dpi"]
    strip, above, both = MplFigure(figsize=(dots.shape[1] / per_inch, TITLE)), io.BytesIO(), io.BytesIO()
    strip.text(0.08 / strip.get_figwidth(), 0.3, title, weight="bold", size=13)
    strip.savefig(above, format="png")
    above.seek(0)
    imsave(both, np.vstack([imread(above), dots]), format="png", metadata={"Software": ""})
    return both.getvalue()


def as_csv(table: Table) -> str:
    """The numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([["" if value is None else value for value in row] for row in table.rows])
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """The numbers as people read them, numbers to the right."""
    rows = [[_escaped(cell(value)) for value in row] for row in table.rows]
    header = [_escaped(name) for name in table.columns]
    widths = [max(3, *(len(row[index]) for row in [header, *rows])) for index in range(len(header))]
    numeric = [is_numeric(table, index) for index in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(cells, widths, numeric, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (w - 1) + (":" if right else "-") for w, right in zip(widths, numeric, strict=True)]
    return "\n".join([line(header), line(rule), *map(line, rows)]) + "\n"


def is_numeric(table: Table, column: int) -> bool:
    """Whether a column holds numbers, and is therefore set to the right."""
    values = [row[column] for row in table.rows if row[column] is not None]
    return bool(values) and all(isinstance(value, (int, float)) for value in values)


def _escaped(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
