"""Figures of one curve of several runs, with a band for groups of several seeds."""

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
from nanochat.analysis.history import X_AXES, Curve
from nanochat.analysis.multi_run.seed_groups import SeedGroup
from nanochat.analysis.smoothing import smooth
from nanochat.analysis.statistics import student_t
from nanochat.analysis.style import LIGHT, subplots, theme
from nanochat.analysis.units import TICK_STEPS, thousands, unit_of

GRID_POINTS = 240  # at which the curves of a group are averaged
MAX_SPARSE = 40  # curves with at most this many points are drawn point by point, without smoothing
LOG_RATIO = 4.0  # the x-axis is logarithmic if the longest curve is this many times as long as the shortest
LOG_RANGE = 30.0  # such an axis starts at the end of the shortest curve divided by this
CLIPPED = 0.04  # fraction of the first values that may lie above the frame
MIN_SEEDS = 3  # for a confidence band; two seeds have the range between them


class Band:
    """The curves of a group on common x values: their mean, and an interval around it.

    Args:
        curves: the curves of a group, one or more, none of them empty.

    Attributes:
        x: (points,), the common x values.
        mean: (points,), the mean of the curves.
        low: (points,), the lower end of the band; None for a single curve.
        high: (points,), the upper end.
        sparse: whether the curves have few points, and are not smoothed.
    """

    def __init__(self, curves: Sequence[Curve]) -> None:
        self.sparse = max(len(curve.x) for curve in curves) <= MAX_SPARSE
        start, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
        if len(curves) == 1 or start >= end:
            self.x, values = curves[0].x, self._smoothed(curves[0])[None, :]
        else:
            x = (
                np.unique(np.concatenate([c.x for c in curves]))
                if self.sparse
                else np.linspace(start, end, GRID_POINTS)
            )
            self.x = x[(x >= start) & (x <= end)]
            values = np.stack([np.interp(self.x, curve.x, self._smoothed(curve)) for curve in curves])
        self.mean = values.mean(0)
        self.low = self.high = None
        if len(values) >= MIN_SEEDS:
            half = student_t(len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
            self.low, self.high = self.mean - half, self.mean + half
        elif len(values) == 2:
            self.low, self.high = values.min(0), values.max(0)

    def _smoothed(self, curve: Curve) -> np.ndarray:
        return curve.y if self.sparse else smooth(np.arange(len(curve.y)), curve.y)


def group_colors(count: int) -> list[str]:
    """A colour per group: those of the theme, or evenly spaced ones of a colour map if there are more groups."""
    if count <= len(theme().colors):
        return list(theme().colors[:count])
    # viridis is safe for colour-blind readers; the end close to the background is left out
    start, end = (0.0, 0.9) if theme() is LIGHT else (0.18, 1.0)
    return [to_hex(shade) for shade in colormaps["viridis"](np.linspace(start, end, count))]


def band_caption(groups: Sequence[SeedGroup]) -> str:
    """A sentence that explains the bands of these groups; empty if they have none."""
    counts = {len(group.histories) for group in groups}
    meanings = []
    if max(counts) >= MIN_SEEDS:
        meanings.append("the 95 % interval of the mean over seeds (Student's t)")
    if 2 in counts:
        meanings.append("the range between two seeds")
    return f" The band is {' or '.join(meanings)}; the line is their mean." if meanings else ""


def overlay(groups: Sequence[SeedGroup], column: str, name: str, title: str, label: str, caption: str) -> Figure:
    """A figure of one curve of all groups, against steps, tokens, time and compute.

    Args:
        groups: the groups.
        column: the curve's column in metrics.csv.
        name: name of the figure.
        title: title of the figure.
        label: of the y-axis, with the unit.
        caption: caption of the figure; the explanation of the bands is appended.

    Raises:
        ValueError: if fewer than two runs have logged the curve.
    """
    logged = [group for group in groups if any(len(h.curve(column).x) > 1 for h in group.histories)]
    if sum(len(group.histories) for group in logged) < 2:
        raise ValueError(f"fewer than two of the runs have logged {column} more than once")
    rows: list[list[Cell]] = []
    for group in logged:
        for history in group.histories:
            curve = history.curve(column)
            if len(curve.x):
                rows.append([group.label, history.run.label, len(curve.x), float(curve.y[-1]), float(curve.y.min())])
    return Figure(
        name=name,
        title=title,
        caption=caption + band_caption(logged),
        draw=lambda: _draw(logged, column, label),
        table=Table(["group", "run", "values", "last", "lowest"], rows),
        section="Curves",
    )


def _draw(groups: Sequence[SeedGroup], column: str, label: str) -> MplFigure:
    x_axes = [axis for axis in X_AXES if any(len(h.curve(column, axis).x) > 1 for g in groups for h in g.histories)]
    rows = 2 if len(x_axes) > 2 else 1
    fig, grid = subplots(rows, 2, height=2.5 * rows + 0.6, sharey=True, squeeze=False)
    for axes, axis in zip(grid.flat, x_axes, strict=False):
        _panel(axes, groups, column, axis)
    for axes in list(grid.flat)[len(x_axes) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(label)
    grid.flat[0].set_ylim(*_y_limits(groups, column))
    handles, labels = grid.flat[0].get_legend_handles_labels()
    columns = 3 if max(map(len, labels)) <= 20 else 2 if max(map(len, labels)) <= 34 else 1
    fig.legend(handles, labels, loc="outside upper left", ncols=columns)
    return fig


def _panel(axes: Axes, groups: Sequence[SeedGroup], column: str, axis: str) -> None:
    curves = [[c for h in g.histories if len((c := h.curve(column, axis)).x) > 1] for g in groups]
    ends = [float(curve.x[-1]) for members in curves for curve in members]
    unit = unit_of(axis, max(ends))
    for group, members, shade in zip(groups, curves, group_colors(len(groups)), strict=True):
        if not members:
            continue
        band = Band(members)
        seeds = f" ({len(members)} seeds)" if len(members) > 1 else ""
        style: dict[str, Any] = {}
        if band.sparse:
            style = dict(marker="o", markersize=4.5, markeredgecolor=theme().background)
        axes.plot(band.x / unit.size, band.mean, color=shade, label=group.label + seeds, linewidth=1.7, **style)
        if band.low is not None and band.high is not None:
            axes.fill_between(band.x / unit.size, band.low, band.high, color=shade, alpha=0.2, linewidth=0)
    axes.set_xlabel(unit.label)
    if max(ends) > LOG_RATIO * min(ends):  # on a linear axis, the short curves would be too narrow
        axes.set_xscale("log")
        start = min(float(curve.x[0]) for members in curves for curve in members)
        axes.set_xlim(0.9 * max(start, min(ends) / LOG_RANGE) / unit.size, 1.1 * max(ends) / unit.size)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))


def _y_limits(groups: Sequence[SeedGroup], column: str) -> tuple[float, float]:
    curves = [c for g in groups for h in g.histories if len((c := h.curve(column)).x) > 1]
    values = [
        curve.y if len(curve.x) <= MAX_SPARSE else smooth(curve.x, curve.y)[int(CLIPPED * len(curve.x)) :]
        for curve in curves
    ]
    low, high = min(float(y.min()) for y in values), max(float(y.max()) for y in values)
    margin = 0.06 * max(high - low, 1e-3)
    return low - margin, high + margin
