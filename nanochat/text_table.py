"""Tables of text for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

GAP = "  "  # between columns
MIN_WIDTH = 8  # characters that a shortened column keeps at least


def format_table(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), narrow: Collection[int] = (), width: int = 80
) -> str:
    """Aligns cells in columns, one line per row.

    Args:
        rows: the cells of each row, the header row included.
        right: indices of the columns that are right-aligned, such as numbers.
        narrow: indices of the columns whose cells may be shortened, the widest first, where lines exceed ``width``.
        width: maximum length of a line in characters; exceeded only if the ``narrow`` columns are at their minimum.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        widest = max(narrow, key=lambda column: widths[column], default=None)
        if widest is None or widths[widest] <= MIN_WIDTH:
            break
        widths[widest] -= 1

    def padded(column: int, cell: str) -> str:
        shown = shorten(cell, widths[column])
        return shown.rjust(widths[column]) if column in right else shown.ljust(widths[column])

    return "\n".join(GAP.join(padded(*pair) for pair in enumerate(row)).rstrip() for row in rows)


def shorten(text: str, width: int) -> str:
    """The text in at most ``width`` characters; a longer one has its middle replaced by an ellipsis."""
    if len(text) <= width:
        return text
    end = (width - 1) * 2 // 3
    return f"{text[: width - 1 - end]}…{text[-end:]}"
