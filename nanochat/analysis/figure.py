"""What an analysis is made of: figures with a title, a table and a word on how to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as MplFigure

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Figures as numbers.

    Attributes:
        columns: the name of each, with its unit: "tokens/s", "memory (MB)".
        rows: of each row as many cells as there are columns; None where nothing is known.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{len(row)} cells in {len(self.columns)} columns: {row}"


@dataclass(frozen=True)
class Figure:
    """One thing that an analysis shows: a picture, a piece of HTML, a table, or several of these.

    Attributes:
        name: of its files, without an ending, and of its place in the page: lower case, with underscores.
        title: says what is shown, in a few words: no full stop.
        reading: one to three sentences below it: how to read it, and what to look for.
        draw: makes the picture, with :func:`nanochat.analysis.style.canvas`. It is called once for each theme, under
            that theme's style, and must not keep what it has made: all that takes time is done before.
        table: the numbers behind the picture.
        html: what is no picture (a coloured passage), as HTML without scripts: all text in it escaped (by
            ``html.escape``), its colours readable in both themes, or those of the page: ``var(--text)``, ``--muted``,
            ``--background``, ``--line``, ``--accent``.
            Where there is both, the page shows this, and the picture is for slides and TensorBoard.
        section: the heading that it comes below in the page.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], MplFigure] | None = None
    table: Table | None = None
    html: str | None = None
    section: str = "Training"


@dataclass(frozen=True)
class FigureSpec:
    """A figure that is still to be made: made only if it is wanted, and where that fails, the others are not lost.

    Attributes:
        name: as :attr:`Figure.name`: what ``--figures`` picks by.
        title: as :attr:`Figure.title`, for the progress in the terminal and for what is said if it fails.
        build: does the work. A ValueError says in one line why there is nothing to show for this run, and is shown so.
        section: as :attr:`Figure.section`.
    """

    name: str
    title: str
    build: Callable[[], Figure]
    section: str = "Training"


@dataclass(frozen=True)
class ModelOptions:
    """What a user may choose about the figures that need the model.

    Attributes:
        device: where the model runs: cpu, cuda or mps.
        seed: of whatever is drawn by chance.
        passage: the text that the model is looked at with; None takes one of the held-out documents.
    """

    device: str = "cpu"
    seed: int = 0
    passage: str | None = None
