"""The figure of learning rates and gradient norms."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.smoothing import smooth, thinned
from nanochat.analysis.style import color, subplots
from nanochat.analysis.units import TICK_STEPS, power_of_ten, thousands

RATE_PREFIX = "lr-"  # of the curves that Lightning's LearningRateMonitor logs
NORM = "train/gradient_norm"
SHOWN_RANGE = 200  # the axis ends this factor below the smallest peak rate, as rates reach 0 at the end


def rates(history: History) -> Figure:
    """Learning rates per parameter group, and gradient norms.

    Raises:
        ValueError: if neither was logged.
    """
    names = [name for name in history.names if name.startswith(RATE_PREFIX) and len(history.curve(name).x) > 1]
    norms = history.curve(NORM)
    if not names and len(norms.x) < 2:
        raise ValueError("neither learning rates nor gradient norms have been logged yet")
    rows: list[list[Cell]] = []
    for name in names:
        curve = history.curve(name)
        rows.append([_short(name), float(curve.y.max()), float(curve.y[-1]), int(curve.x[np.argmax(curve.y)])])
    caption = (
        "Top: the learning rate of each parameter group, on a logarithmic axis. The rates are constant at first, "
        "then decrease together; a small jump means that the number of steps was adjusted to the time limit. Bottom: "
        "the norm of the gradient of all weights. A single peak is an unusual batch; a lasting rise together with a "
        "rising loss means that the learning rates are too high."
    )
    header = ["parameter group", "highest rate", "last rate", "step of the highest rate"]
    return Figure(
        name="rates",
        title="Learning rates and gradient norm",
        caption=caption,
        draw=lambda: _draw(history, names),
        table=Table(header, rows) if rows else None,
        section="Learning",
    )


def _short(name: str) -> str:
    return name.removeprefix(RATE_PREFIX).split("/")[-1]


def _rate_label(value: float, position: object = None) -> str:
    """Tick labels of the logarithmic axis: 0.001, and 10⁻⁵ for small values."""
    return f"{value:g}" if value > 0.9e-4 else power_of_ten(round(math.log10(value)))


def _draw(history: History, names: list[str]) -> MplFigure:
    norms = history.curve(NORM)
    panels = [bool(names), len(norms.x) > 1]
    fig, grid = subplots(sum(panels), 1, height=2.7 * sum(panels), sharex=True, squeeze=False)
    axes_list = [row[0] for row in grid]
    if names:
        axes = axes_list[0]
        for index, name in enumerate(names):
            curve = history.curve(name)
            x, y = thinned(curve.x, np.where(curve.y > 0, curve.y, np.nan))
            axes.plot(x, y, color=color(index), label=_short(name))
        axes.set_yscale("log")
        highest = [float(history.curve(name).y.max()) for name in names]
        axes.set_ylim(min(highest) / SHOWN_RANGE, 2 * max(highest))
        axes.yaxis.set_major_formatter(FuncFormatter(_rate_label))
        axes.set_ylabel("learning rate")
        axes.legend(loc="lower left", ncols=2)
    if len(norms.x) > 1:
        axes = axes_list[-1]
        axes.plot(*thinned(norms.x, norms.y), color=color(0), alpha=0.3, linewidth=0.8)
        axes.plot(*thinned(norms.x, smooth(norms.x, norms.y), 300), color=color(0))
        axes.set_ylabel("gradient norm")
        axes.set_ylim(0, 1.15 * float(np.quantile(norms.y, 0.995)))
    axes_list[-1].set_xlabel("step")
    axes_list[-1].set_xlim(left=0)
    axes_list[-1].xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes_list[-1].xaxis.set_major_formatter(FuncFormatter(thousands))
    return fig
