"""The data types of an analysis: figures with a title, a caption and a table, and specs to build them from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as MplFigure

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """The numbers behind a figure.

    Attributes:
        columns: header of each column, with its unit: "tokens/s", "memory (MB)".
        rows: one cell per column in each row; None for an unknown value.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), f"{len(row)} cells in {len(self.columns)} columns: {row}"


@dataclass(frozen=True)
class Figure:
    """One entry of an analysis: a Matplotlib figure, an HTML fragment, a table, or several of these.

    Attributes:
        name: stem of its files and its anchor in the page: lower case, with underscores.
        title: a short title, without a full stop.
        caption: one to three sentences below it: how to read it, and what to look for.
        draw: returns the Matplotlib figure, made with :func:`nanochat.analysis.style.subplots`. It is called once per
            theme, with that theme's style active, and must not cache its result. Everything slow is computed before.
        table: the numbers behind it.
        html: an HTML fragment without scripts, such as a coloured passage. All text in it must be escaped
            (``html.escape``), and its colours readable in both themes, or the page's own: ``var(--text)``,
            ``--muted``, ``--background``, ``--line``, ``--accent``. If a figure has both ``html`` and ``draw``, the
            page shows the HTML; the drawn figure is for slides and TensorBoard.
        section: the heading in the page that it is listed under.
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
    """A figure that is built only if it is selected. If one build fails, the other figures are still made.

    Attributes:
        name: see :attr:`Figure.name`; ``--figures`` selects by it.
        title: see :attr:`Figure.title`; for the progress in the terminal, and for the message if the build fails.
        build: computes and returns the figure. Raises a ValueError with a one-line reason if this run has no data for
            it; the page lists the reason.
        section: see :attr:`Figure.section`.
    """

    name: str
    title: str
    build: Callable[[], Figure]
    section: str = "Training"


@dataclass(frozen=True)
class ModelOptions:
    """Options of the figures that load the model.

    Attributes:
        device: where the model runs: cpu, cuda or mps.
        passage: the text that the model is run on; None takes one of the held-out documents.
    """

    device: str = "cpu"
    passage: str | None = None
