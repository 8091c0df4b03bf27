"""The light and the dark theme of figures, with colours that colour-blind readers can distinguish.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/; Wong, Nature Methods 8, 441, 2011), made
darker or lighter for contrast with the background.
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

WIDTH, HEIGHT = 7.0, 3.9  # inches, by default
# The first three have the same metrics; glyphs that they lack come from DejaVu Sans, which ships with Matplotlib.
FONTS = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")
MONOSPACE = ("DejaVu Sans Mono",)


@dataclass(frozen=True)
class Theme:
    """The colours of a theme.

    Attributes:
        name: "light" or "dark".
        background: background of the figure.
        text: titles and labels.
        muted: ticks, notes and reference lines.
        grid: grid lines.
        colors: the colour cycle of lines and bars.
        sequential: the stops of a colour map from zero (near the background) to the maximum.
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
        """The colour map for non-negative values: attention weights, losses, probabilities."""
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
    """The active theme, for colours that are chosen explicitly."""
    return _current.get()


@contextmanager
def using_theme(active: Theme) -> Iterator[None]:
    """Context manager: figures are drawn and saved in this theme."""
    token = _current.set(active)
    try:
        with matplotlib.rc_context(rc_params(active)):
            yield
    finally:
        _current.reset(token)


@cache
def installed_fonts() -> list[str]:
    """The fonts in :data:`FONTS` that are installed; Matplotlib logs a warning for each missing one."""
    names = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in names]


def rc_params(active: Theme) -> Any:
    """Matplotlib's rcParams for a theme."""
    return {
        "figure.facecolor": active.background,
        "savefig.facecolor": active.background,
        "figure.constrained_layout.use": True,
        "figure.figsize": (WIDTH, HEIGHT),
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "font.family": installed_fonts(),  # a fallback list: missing glyphs come from the next font
        "font.monospace": list(MONOSPACE),
        "font.size": 11,
        "mathtext.fontset": "dejavusans",
        "text.color": active.text,
        "text.parse_math": False,  # a dollar sign is plain text, not the start of a formula
        "axes.facecolor": active.background,
        "axes.edgecolor": active.muted,
        "axes.labelcolor": active.text,
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
        "axes.prop_cycle": cycler(color=active.colors),
        "axes.formatter.use_mathtext": False,
        "grid.color": active.grid,
        "grid.linewidth": 0.8,
        "xtick.color": active.muted,
        "ytick.color": active.muted,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "legend.labelcolor": active.text,
        "lines.linewidth": 1.9,
        "lines.solid_capstyle": "round",
        "patch.linewidth": 0,
        "image.cmap": "viridis",
        "svg.fonttype": "path",  # outlines, independent of the fonts that a browser has
    }


def subplots(rows: int = 1, columns: int = 1, width: float = WIDTH, height: float = HEIGHT, **options: Any) -> Any:
    """A Matplotlib figure and its axes, without pyplot, which would keep a reference to every figure.

    Args:
        rows: rows of axes.
        columns: columns of axes.
        width: in inches. The page scales all figures to one width, so text in a wider figure is smaller.
        height: in inches.
        options: further arguments of :meth:`matplotlib.figure.Figure.subplots`.

    Returns:
        The figure and its axes: a single one, or an array (rows, columns) with dimensions of size 1 squeezed.
    """
    fig = MplFigure(figsize=(width, height))
    return fig, fig.subplots(rows, columns, **options)


def color(index: int) -> str:
    """Colour ``index`` of the active theme's cycle."""
    colors = theme().colors
    return colors[index % len(colors)]


def hide_axes(axes: Axes) -> None:
    """Hides frame, ticks and grid."""
    axes.set_axis_off()


def readable_on(background: tuple[float, float, float, float] | np.ndarray) -> str:
    """Black or white text, whichever is easier to read on a background (red, green, blue, alpha in 0..1)."""
    red, green, blue = (float(c) for c in background[:3])
    return "#111111" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45 else "#ffffff"


def evenly_spaced(count: int, limit: int) -> list[int]:
    """At most ``limit`` of the indices 0, ..., count - 1, evenly spaced, with both ends: for layers that are shown."""
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)}) if count > limit else list(range(count))
