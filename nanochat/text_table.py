"""Tables for a terminal: cells in columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

GAP = "  "  # between columns
LEAST = 8  # letters of a column that is made narrower


def format_table(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), narrow: Collection[int] = (), width: int = 80
) -> str:
    """Cells in columns, a line for each row.

    Args:
        rows: of cells; the head is one of them.
        right: the columns that are set to the right: numbers.
        narrow: those whose cells are shortened, the widest column first, where lines would be longer than ``width``.
        width: of the lines.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        widest = max(narrow, key=lambda column: widths[column], default=None)
        if widest is None or widths[widest] <= LEAST:
            break
        widths[widest] -= 1

    def padded(column: int, cell: str) -> str:
        shown = shorten(cell, widths[column])
        return shown.rjust(widths[column]) if column in right else shown.ljust(widths[column])

    return "\n".join(GAP.join(padded(*pair) for pair in enumerate(row)).rstrip() for row in rows)


def shorten(text: str, width: int) -> str:
    """The text in so many columns, its middle left out where it is longer."""
    if len(text) <= width:
        return text
    end = (width - 1) * 2 // 3
    return f"{text[: width - 1 - end]}…{text[-end:]}"
