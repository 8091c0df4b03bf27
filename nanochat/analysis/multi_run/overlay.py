"""The same curve of several runs in one picture, with a band where there are several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import AXES, Curve
from nanochat.analysis.multi_run.seed_groups import SeedGroup
from nanochat.analysis.statistics import student_t
from nanochat.analysis.style import LIGHT, subplots, theme
from nanochat.analysis.units import NICE, smooth, thousands, unit_of

POINTS = 240  # at which the curves of a group are compared
FEW = 40  # points in a curve up to which each is drawn, and none is smoothed
WIDE = 4.0  # times as far as the shortest curve the longest reaches: from there on the axis is logarithmic
SHOWN = 30.0  # times before the end of the shortest curve such an axis begins
ABOVE = 0.04  # of the beginning may lie above the frame
BAND_SEEDS = 3  # from so many on an interval is drawn; of two, what lies between them


class Band:
    """The curves of a group on common places: their mean, and what lies around it.

    Args:
        curves: of the runs of a group, one or more, none of them empty.
    """

    def __init__(self, curves: Sequence[Curve]) -> None:
        self.few = max(len(curve.x) for curve in curves) <= FEW
        begin, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
        if len(curves) == 1 or begin >= end:
            self.x, values = curves[0].x, self._level(curves[0])[None, :]
        else:
            places = np.unique(np.concatenate([c.x for c in curves])) if self.few else np.linspace(begin, end, POINTS)
            self.x = places[(places >= begin) & (places <= end)]
            values = np.stack([np.interp(self.x, curve.x, self._level(curve)) for curve in curves])
        self.mean = values.mean(0)
        self.low = self.high = None
        if len(values) >= BAND_SEEDS:
            half = student_t(len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
            self.low, self.high = self.mean - half, self.mean + half
        elif len(values) == 2:
            self.low, self.high = values.min(0), values.max(0)

    def _level(self, curve: Curve) -> np.ndarray:
        return curve.y if self.few else smooth(np.arange(len(curve.y)), curve.y)


def colors(count: int) -> list[str]:
    """A colour for each group: those of the theme, or where there are more groups, evenly from one map of colours."""
    if count <= len(theme().colors):
        return list(theme().colors[:count])
    # viridis, which the colour-blind read as well, without the end that is too near the background
    begin, end = (0.0, 0.9) if theme() is LIGHT else (0.18, 1.0)
    return [to_hex(shade) for shade in colormaps["viridis"](np.linspace(begin, end, count))]


def band_caption(groups: Sequence[SeedGroup]) -> str:
    """What the bands of these groups are; nothing where there are none."""
    counts = {len(group.histories) for group in groups}
    words = []
    if max(counts) >= BAND_SEEDS:
        words.append("the 95 % interval of the mean over seeds (Student's t)")
    if 2 in counts:
        words.append("what lies between two seeds")
    return f" The band is {' or '.join(words)}; the line is their mean." if words else ""


def overlay(groups: Sequence[SeedGroup], column: str, name: str, title: str, label: str, caption: str) -> Figure:
    """A figure of one curve of all groups, against all that one may count.

    Args:
        groups: to draw.
        column: the curve's name in metrics.csv.
        name: of the figure.
        title: of the figure.
        label: of the y-axis, with the unit.
        reading: of the figure; what the bands are is added.

    Raises:
        ValueError: if fewer than two runs have that curve.
    """
    there = [group for group in groups if any(len(h.curve(column).x) > 1 for h in group.histories)]
    if sum(len(group.histories) for group in there) < 2:
        raise ValueError(f"fewer than two of the runs have logged {column} more than once")
    rows: list[list[Cell]] = []
    for group in there:
        for history in group.histories:
            curve = history.curve(column)
            if len(curve.x):
                rows.append([group.label, history.run.label, len(curve.x), float(curve.y[-1]), float(curve.y.min())])
    return Figure(
        name=name,
        title=title,
        caption=caption + band_caption(there),
        draw=lambda: _draw(there, column, label),
        table=Table(["group", "run", "values", "last", "lowest"], rows),
        section="Curves",
    )


def _draw(groups: Sequence[SeedGroup], column: str, label: str) -> MplFigure:
    axes_drawn = [a for a in AXES if any(len(h.curve(column, a).x) > 1 for g in groups for h in g.histories)]
    rows = 2 if len(axes_drawn) > 2 else 1
    fig, grid = subplots(rows, 2, height=2.5 * rows + 0.6, sharey=True, squeeze=False)
    for axes, axis in zip(grid.flat, axes_drawn, strict=False):
        _panel(axes, groups, column, axis)
    for axes in list(grid.flat)[len(axes_drawn) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(label)
    grid.flat[0].set_ylim(*_frame(groups, column))
    handles, labels = grid.flat[0].get_legend_handles_labels()
    columns = 3 if max(map(len, labels)) <= 20 else 2 if max(map(len, labels)) <= 34 else 1
    fig.legend(handles, labels, loc="outside upper left", ncols=columns)
    return fig


def _panel(axes: Axes, groups: Sequence[SeedGroup], column: str, axis: str) -> None:
    curves = [[c for h in g.histories if len((c := h.curve(column, axis)).x) > 1] for g in groups]
    unit = unit_of(axis, max(float(curve.x[-1]) for members in curves for curve in members))
    for group, members, shade in zip(groups, curves, colors(len(groups)), strict=True):
        if not members:
            continue
        band = Band(members)
        seeds = f" ({len(members)} seeds)" if len(members) > 1 else ""
        style: dict[str, Any] = dict(marker="o", markersize=4.5, markeredgecolor=theme().background) if band.few else {}
        axes.plot(band.x / unit.size, band.mean, color=shade, label=group.label + seeds, linewidth=1.7, **style)
        if band.low is not None and band.high is not None:
            axes.fill_between(band.x / unit.size, band.low, band.high, color=shade, alpha=0.2, linewidth=0)
    axes.set_xlabel(unit.label)
    ends = [float(curve.x[-1]) for members in curves for curve in members]
    if max(ends) > WIDE * min(ends):  # the short ones would be squeezed to the left
        axes.set_xscale("log")
        begin = min(float(curve.x[0]) for members in curves for curve in members)
        axes.set_xlim(0.9 * max(begin, min(ends) / SHOWN) / unit.size, 1.1 * max(ends) / unit.size)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=NICE))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))


def _frame(groups: Sequence[SeedGroup], column: str) -> tuple[float, float]:
    curves = [c for g in groups for h in g.histories if len((c := h.curve(column)).x) > 1]
    levels = [
        curve.y if len(curve.x) <= FEW else smooth(curve.x, curve.y)[int(ABOVE * len(curve.x)) :] for curve in curves
    ]
    low, high = min(float(y.min()) for y in levels), max(float(y.max()) for y in levels)
    margin = 0.06 * max(high - low, 1e-3)
    return low - margin, high + margin
