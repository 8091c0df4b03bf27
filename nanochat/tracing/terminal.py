"""A trace in the terminal: 80 columns, with colours where there are any, plain where it is piped."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.table import Table as Grid
from rich.text import Text

from nanochat.tracing.document import (
    AttentionMaps,
    BarChart,
    Chapter,
    Figure,
    Section,
    Table,
    Vector,
    number,
    percent,
    shape_text,
)

WIDTH = 80
INDENT = 3
BAR = 30  # columns of the longest bar
ENDS = 12  # rows that are shown at the beginning and at the end of a long table
LABEL = 35  # columns for what a vector is
SHOWN = 3  # numbers of a vector


def new_console() -> Console:
    """The terminal's own colours; lines of 80 columns where nobody says how wide it is."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def show(console: Console, parts: Sequence[Chapter]) -> None:
    """Prints the parts, their steps numbered through."""
    count = 0
    for part in parts:
        console.print()
        console.print(Text(f"== {part.title} ".ljust(min(console.width, WIDTH), "="), style="bold cyan"))
        if part.text:
            console.print(_inset(console, Text(part.text)))
        for step in part.steps:
            count += 1
            _show_step(console, count, step)


def _wrapped(parts: Sequence[str], width: int) -> str:
    """The parts in lines that break between them only."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}   {part}" if lines[-1] else part
        if lines[-1] and cell_len(longer) > width:
            lines.append(part)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _show_step(console: Console, count: int, step: Section) -> None:
    console.print()
    console.print(Text(f"{count:>2} {step.title}", style="bold"))
    console.print(_inset(console, Text(step.text)))
    for source in step.sources:
        link = Style(color="cyan", link=source.file.as_uri())
        console.print(_inset(console, Text(source.place, style=link)))
        first = next((line for line in source.code.splitlines() if line.strip()), "")
        console.print(_inset(console, Text(first, style="dim", no_wrap=True, overflow="ellipsis"), 2))
    if step.note:
        console.print(_inset(console, Text(step.note, style="dim")))
    if step.shapes:
        shapes = [f"{name} {shape_text(shape)}" for name, shape in step.shapes]
        console.print(_inset(console, Text(_wrapped(["shapes:", *shapes], WIDTH - INDENT))))
    for figure in step.figures:
        shown = _drawn(figure)
        if shown is not None:
            console.print(_inset(console, shown))


def _inset(console: Console, what: Text | Grid, more: int = 0) -> Padding:
    right = max(0, console.width - WIDTH)
    return Padding(what, (0, right, 0, INDENT + more))


def _drawn(figure: Figure) -> Text | Grid | None:
    if isinstance(figure, Vector):
        label = figure.label if cell_len(figure.label) <= LABEL else figure.label[: LABEL - 3] + "..."
        values = "  ".join(number(v) for v in figure.values[:SHOWN])
        return Text(f"{label.ljust(LABEL)} {values} ...  length {number(figure.length)}", overflow="fold")
    if isinstance(figure, Table):
        return _grid(figure)
    if isinstance(figure, BarChart):
        return _bars(figure)
    assert isinstance(figure, AttentionMaps)
    return None  # the page draws it


def _grid(figure: Table) -> Grid:
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in figure.columns:
        grid.add_column(name, overflow="fold")
    rows = figure.rows
    for row in rows[:ENDS]:
        grid.add_row(*map(Text, row))
    if len(rows) > 2 * ENDS:
        grid.add_row(f"... {len(rows) - 2 * ENDS:,} more ...", *[""] * (len(figure.columns) - 1))
    for row in rows[max(ENDS, len(rows) - ENDS) :]:
        grid.add_row(*map(Text, row))
    return grid


def _bars(figure: BarChart) -> Grid:
    most = max(share for _, share in figure.rows) or 1.0
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    grid.add_column(figure.title, overflow="fold", min_width=38)
    grid.add_column("", justify="right")
    grid.add_column("")
    for name, share in figure.rows:
        grid.add_row(Text(name), percent(share), Text("#" * round(BAR * share / most), style="cyan"))
    return grid
