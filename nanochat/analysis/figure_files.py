"""Saves figures: PNG and SVG for slides and pages, CSV and Markdown for spreadsheets and notes."""

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
from nanochat.analysis.units import format_cell
from nanochat.cache import write_atomically

FOLDER = "analysis"  # in a run's folder; each analysis overwrites its files there
TITLE_HEIGHT = 0.4  # inches added above the PNG file for its title


class SavedFigure(NamedTuple):
    """A figure and its files.

    Attributes:
        figure: the figure.
        svg: SVG text by theme name; empty if the figure is not drawn.
        png: PNG bytes by theme name, without the title that the PNG file has.
        files: path by file extension, such as "png" or "dark.svg".
    """

    figure: Figure
    svg: dict[str, str]
    png: dict[str, bytes]
    files: dict[str, Path]


def save_figure(figure: Figure, folder: Path) -> SavedFigure:
    """Draws a figure in each theme, and writes it and its table.

    Args:
        figure: the figure.
        folder: for ``<name>.png``, ``<name>.svg``, ``<name>.dark.svg``, ``<name>.csv`` and ``<name>.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    svg: dict[str, str] = {}
    png: dict[str, bytes] = {}

    def write(extension: str, content: str | bytes) -> None:
        files[extension] = folder / f"{figure.name}.{extension}"
        if isinstance(content, bytes):
            files[extension].write_bytes(content)
        else:
            write_atomically(files[extension], content)

    if figure.draw is not None:
        for theme in THEMES:
            # The salt makes the files reproducible, and the ids in them unique within a page.
            with using_theme(theme), matplotlib.rc_context({"svg.hashsalt": f"{figure.name} {theme.name}"}):
                fig = figure.draw()
                text, image = io.StringIO(), io.BytesIO()
                fig.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
                fig.savefig(image, format="png", metadata={"Software": None})
                svg[theme.name], png[theme.name] = text.getvalue(), image.getvalue()
                if theme is LIGHT:
                    write("png", _with_title(image, figure.title))
        for name, content in svg.items():
            write("svg" if name == LIGHT.name else f"{name}.svg", content)
    if figure.table is not None:
        write("csv", as_csv(figure.table))
        write("md", as_markdown(figure.table))
    return SavedFigure(figure, svg, png, files)


def _with_title(png: io.BytesIO, title: str) -> bytes:
    """A PNG with the title above it, for slides and TensorBoard, where no heading is around it."""
    png.seek(0)
    pixels = imread(png)
    dpi = matplotlib.rcParams["savefig.dpi"]
    strip, strip_png, result = MplFigure(figsize=(pixels.shape[1] / dpi, TITLE_HEIGHT)), io.BytesIO(), io.BytesIO()
    strip.text(0.08 / strip.get_figwidth(), 0.3, title, weight="bold", size=13)
    strip.savefig(strip_png, format="png")
    strip_png.seek(0)
    imsave(result, np.vstack([imread(strip_png), pixels]), format="png", metadata={"Software": ""})
    return result.getvalue()


def as_csv(table: Table) -> str:
    """CSV with all digits of the numbers; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([["" if value is None else value for value in row] for row in table.rows])
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """A Markdown table with rounded numbers; columns of numbers are right-aligned."""
    rows = [[_escaped(format_cell(value)) for value in row] for row in table.rows]
    header = [_escaped(name) for name in table.columns]
    widths = [max(3, *(len(row[index]) for row in [header, *rows])) for index in range(len(header))]
    numeric = [is_numeric(table, index) for index in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(cells, widths, numeric, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (w - 1) + (":" if right else "-") for w, right in zip(widths, numeric, strict=True)]
    return "\n".join([line(header), line(rule), *map(line, rows)]) + "\n"


def is_numeric(table: Table, column: int) -> bool:
    """Whether a column holds only numbers and empty cells, so that it is right-aligned."""
    values = [row[column] for row in table.rows if row[column] is not None]
    return bool(values) and all(isinstance(value, (int, float)) for value in values)


def _escaped(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
