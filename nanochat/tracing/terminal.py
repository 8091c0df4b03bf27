"""Prints a trace in the terminal: 80 columns, with colours if the terminal has them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from nanochat.tracing.document import (
    AttentionMaps,
    BarChart,
    Chapter,
    Figure,
    Section,
    Table,
    Vector,
    format_number,
    format_percent,
    format_shape,
)

WIDTH = 80
INDENT = 3
MAX_BAR = 30  # columns of the longest bar
TABLE_ENDS = 12  # rows shown at the beginning and at the end of a long table
LABEL_WIDTH = 35  # columns for the label of a vector
NUMBERS_SHOWN = 3  # first numbers of a vector


def new_console() -> Console:
    """A console as wide as the terminal, or 80 columns wide if the output is not a terminal."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def show(console: Console, chapters: Sequence[Chapter]) -> None:
    """Prints the chapters; sections are numbered throughout."""
    count = 0
    for chapter in chapters:
        console.print()
        console.print(Text(f"== {chapter.title} ".ljust(min(console.width, WIDTH), "="), style="bold cyan"))
        if chapter.text:
            console.print(_inset(console, Text(chapter.text)))
        for section in chapter.sections:
            count += 1
            _show_section(console, count, section)


def _show_section(console: Console, count: int, section: Section) -> None:
    console.print()
    console.print(Text(f"{count:>2} {section.title}", style="bold"))
    console.print(_inset(console, Text(section.text)))
    for source in section.sources:
        link = Style(color="cyan", link=source.file.as_uri())
        console.print(_inset(console, Text(source.location, style=link)))
        first = next((line for line in source.code.splitlines() if line.strip()), "")
        console.print(_inset(console, Text(first, style="dim", no_wrap=True, overflow="ellipsis"), 2))
    if section.note:
        console.print(_inset(console, Text(section.note, style="dim")))
    if section.shapes:
        shapes = [f"{name} {format_shape(shape)}" for name, shape in section.shapes]
        console.print(_inset(console, Text(_wrap(["shapes:", *shapes], WIDTH - INDENT))))
    for figure in section.figures:
        rendered = _render(figure)
        if rendered is not None:
            console.print(_inset(console, rendered))


def _wrap(items: Sequence[str], width: int) -> str:
    """The items in lines of at most ``width`` columns, without breaks inside an item."""
    lines = [""]
    for item in items:
        longer = f"{lines[-1]}   {item}" if lines[-1] else item
        if lines[-1] and cell_len(longer) > width:
            lines.append(item)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _inset(console: Console, content: Text | RichTable, extra: int = 0) -> Padding:
    right = max(0, console.width - WIDTH)
    return Padding(content, (0, right, 0, INDENT + extra))


def _render(figure: Figure) -> Text | RichTable | None:
    if isinstance(figure, Vector):
        label = figure.label if cell_len(figure.label) <= LABEL_WIDTH else figure.label[: LABEL_WIDTH - 3] + "..."
        values = "  ".join(format_number(v) for v in figure.values[:NUMBERS_SHOWN])
        return Text(f"{label.ljust(LABEL_WIDTH)} {values} ...  norm {format_number(figure.norm)}", overflow="fold")
    if isinstance(figure, Table):
        return _render_table(figure)
    if isinstance(figure, BarChart):
        return _render_bars(figure)
    assert isinstance(figure, AttentionMaps)
    return None  # only the HTML page draws them


def _render_table(figure: Table) -> RichTable:
    table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in figure.columns:
        table.add_column(name, overflow="fold")
    rows = figure.rows
    for row in rows[:TABLE_ENDS]:
        table.add_row(*map(Text, row))
    if len(rows) > 2 * TABLE_ENDS:
        table.add_row(f"... {len(rows) - 2 * TABLE_ENDS:,} more ...", *[""] * (len(figure.columns) - 1))
    for row in rows[max(TABLE_ENDS, len(rows) - TABLE_ENDS) :]:
        table.add_row(*map(Text, row))
    return table


def _render_bars(figure: BarChart) -> RichTable:
    highest = max(probability for _, probability in figure.rows) or 1.0
    table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    table.add_column(figure.title, overflow="fold", min_width=38)
    table.add_column("", justify="right")
    table.add_column("")
    for name, probability in figure.rows:
        bar = Text("#" * round(MAX_BAR * probability / highest), style="cyan")
        table.add_row(Text(name), format_percent(probability), bar)
    return table
