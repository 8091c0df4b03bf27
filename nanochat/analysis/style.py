"""How figures look: one light and one dark style, with colours that the colour-blind can tell apart.

The colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/; Wong, Nature Methods 8, 441, 2011), made darker or
lighter so that each stands out from its background.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as MplFigure

WIDTH, HEIGHT = 7.0, 3.9  # inches of an ordinary figure
# The first three are equally wide; a sign that they lack is taken from DejaVu Sans, which Matplotlib brings along.
FONTS = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")
MONOSPACE = ("DejaVu Sans Mono",)


@dataclass(frozen=True)
class Theme:
    """The colours of a style.

    Attributes:
        name: "light" or "dark".
        background: of the figure.
        text: of titles and labels.
        muted: of ticks, notes, and what is only there to compare with.
        grid: of lines in the background.
        colors: for lines and bars, in the order in which they are taken.
        sequential: the ends of a colour map from nothing (near the background) to much.
    """

    name: str
    background: str
    text: str
    muted: str
    grid: str
    colors: tuple[str, ...]
    sequential: tuple[str, ...]

    @property
    def sequential_map(self) -> LinearSegmentedColormap:
        """The colour map for amounts: attention, losses, probabilities."""
        return LinearSegmentedColormap.from_list(f"{self.name}-sequential", self.sequential)


LIGHT = Theme(
    name="light",
    background="#ffffff",
    text="#1c2530",
    muted="#66717f",
    grid="#e6e9ee",
    colors=("#0b6cb8", "#d1560f", "#0a8f6c", "#b6549b", "#e0a100", "#45a9dd", "#5b6470"),
    sequential=("#ffffff", "#cfe3f3", "#7fb5de", "#2f7fc1", "#0b4f8f", "#062a52"),
)
DARK = Theme(
    name="dark",
    background="#14191f",
    text="#e8ecf1",
    muted="#98a4b3",
    grid="#2a323c",
    colors=("#4ea5e8", "#f08148", "#2fc39a", "#e18bc8", "#f2c14b", "#a5d8f7", "#a9b3bf"),
    sequential=("#14191f", "#173a5a", "#1f66a3", "#3f9be0", "#94cdf7", "#eef8ff"),
)
THEMES = (LIGHT, DARK)

_current: ContextVar[Theme] = ContextVar("theme", default=LIGHT)


def theme() -> Theme:
    """The theme that is being drawn in: for colours that are chosen by hand."""
    return _current.get()


@contextmanager
def using_theme(chosen: Theme) -> Iterator[None]:
    """Everything drawn and saved within has the look of a theme."""
    token = _current.set(chosen)
    try:
        with matplotlib.rc_context(settings(chosen)):
            yield
    finally:
        _current.reset(token)


@cache
def installed_fonts() -> list[str]:
    """Those of :data:`FONTS` that this machine has: Matplotlib complains of each that it looks for in vain."""
    names = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in names]


def settings(chosen: Theme) -> Any:
    """Matplotlib's settings (rcParams) for a theme."""
    return {
        "figure.facecolor": chosen.background,
        "savefig.facecolor": chosen.background,
        "figure.constrained_layout.use": True,
        "figure.figsize": (WIDTH, HEIGHT),
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "font.family": installed_fonts(),  # a list, so that each makes up for what those before it lack
        "font.monospace": list(MONOSPACE),
        "font.size": 11,
        "mathtext.fontset": "dejavusans",
        "text.color": chosen.text,
        "text.parse_math": False,  # a dollar sign in a text is a dollar sign
        "axes.facecolor": chosen.background,
        "axes.edgecolor": chosen.muted,
        "axes.labelcolor": chosen.text,
        "axes.labelsize": 11,
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=chosen.colors),
        "axes.formatter.use_mathtext": False,
        "grid.color": chosen.grid,
        "grid.linewidth": 0.8,
        "xtick.color": chosen.muted,
        "ytick.color": chosen.muted,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "legend.labelcolor": chosen.text,
        "lines.linewidth": 1.9,
        "lines.solid_capstyle": "round",
        "patch.linewidth": 0,
        "image.cmap": "viridis",
        "svg.fonttype": "path",  # the same everywhere, whatever fonts a browser has
    }


def subplots(rows: int = 1, columns: int = 1, width: float = WIDTH, height: float = HEIGHT, **options: Any) -> Any:
    """A picture and its axes, without pyplot, which would keep every picture it has made.

    Args:
        rows: of axes.
        columns: of axes.
        width: of the whole picture, in inches. The page scales all to one width: a wider one has smaller letters.
        height: of the whole picture, in inches.
        options: of :meth:`matplotlib.figure.Figure.subplots`.

    Returns:
        The picture and its axes: one, or an array of ``rows`` x ``columns`` of them (with those of 1 squeezed out).
    """
    fig = MplFigure(figsize=(width, height))
    return fig, fig.subplots(rows, columns, **options)


def color(index: int) -> str:
    """The n-th colour of the current theme; they begin again after the last."""
    colors = theme().colors
    return colors[index % len(colors)]


def hide_axes(axes: Axes) -> None:
    """Leaves the axes without frame, ticks and grid: for pictures that explain themselves."""
    axes.set_axis_off()


def readable_on(background: tuple[float, float, float, float] | np.ndarray) -> str:
    """Black or white, whichever is easier to read on a colour (red, green, blue, alpha in 0..1)."""
    red, green, blue = (float(c) for c in background[:3])
    return "#111111" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45 else "#ffffff"
