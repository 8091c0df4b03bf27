"""Figures of the loss and of bits per byte, against steps, tokens, time and compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import X_AXES, Curve, History
from nanochat.analysis.smoothing import smooth, thinned
from nanochat.analysis.style import color, subplots, theme
from nanochat.analysis.units import TICK_STEPS, thousands, unit_of

CLIPPED = 0.04  # fraction of the first values that may lie above the frame, so that the rest is not flat
PANELS_CAPTION = (
    "The same curve against steps, tokens, time and compute. Thin: each logged value; thick: their running mean. "
    f"The first {CLIPPED:.0%} of the values may lie above the frame. "
)
VALIDATION = {"val/bpb": ("part of the held-out text", "o"), "val/bpb_all": ("all held-out text", "D")}


def loss(history: History) -> Figure:
    """The training loss.

    Raises:
        ValueError: if no loss was logged.
    """
    if len(history.curve("train/loss").x) < 2:
        raise ValueError("no loss has been logged yet")
    caption = PANELS_CAPTION + (
        "Typically, the loss falls steeply at first, then ever more slowly, and bends down once more at the end, when "
        "the learning rates decrease."
    )
    return Figure(
        name="loss",
        title="Training loss",
        caption=caption,
        draw=lambda: _panels(history, "loss (nats per token)", "train/loss", []),
        table=_table(history, ["train/loss"], "loss (nats/token)"),
        section="Learning",
    )


def bits_per_byte(history: History) -> Figure:
    """Bits per byte in training and on held-out text.

    Raises:
        ValueError: if none were logged.
    """
    if len(history.curve("train/bpb").x) < 2 and not len(history.curve("val/bpb").x):
        raise ValueError("no bits per byte have been logged yet")
    caption = PANELS_CAPTION + (
        "The dots are held-out text, which the model is not trained on; the diamond is the score on all of it. If the "
        "dots stop falling while the training curve continues to fall, the model overfits."
    )
    return Figure(
        name="bpb",
        title="Bits per byte, in training and on held-out text",
        caption=caption,
        draw=lambda: _panels(history, "bits per byte", "train/bpb", list(VALIDATION)),
        table=_table(history, ["train/bpb", *VALIDATION], "bits per byte"),
        section="Learning",
    )


def _panels(history: History, label: str, training: str, validation: Sequence[str]) -> MplFigure:
    names = [training, *validation]
    x_axes = [axis for axis in X_AXES if any(len(history.curve(name, axis).x) for name in names)]
    fig, grid = subplots(2, 2, height=5.4, sharey=True)
    axes_list: list[Axes] = list(grid.flat)
    for axes, axis in zip(axes_list, x_axes, strict=False):
        _panel(axes, history, axis, training, validation)
    for axes in axes_list[len(x_axes) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(label)
    low, high = _y_limits([history.curve(name) for name in names])
    axes_list[0].set_ylim(low, high)
    handles, labels = axes_list[0].get_legend_handles_labels()
    if len(handles) > 1:
        fig.legend(handles, labels, loc="outside upper left", ncols=len(handles))
    return fig


def _panel(axes: Axes, history: History, axis: str, training: str, validation: Sequence[str]) -> None:
    curves = {name: history.curve(name, axis) for name in [training, *validation]}
    unit = unit_of(axis, max((float(curve.x[-1]) for curve in curves.values() if len(curve.x)), default=1.0))
    curve = curves[training]
    x, y = thinned(curve.x / unit.size, curve.y)
    axes.plot(x, y, color=color(0), alpha=0.28, linewidth=0.8)
    # The window of the running mean counts values, not seconds: after a pause, one value would be averaged alone.
    x, y = thinned(curve.x / unit.size, smooth(np.arange(len(curve.y)), curve.y), 300)
    axes.plot(x, y, color=color(0), label="training")
    for index, name in enumerate(validation, 1):
        curve = curves[name]
        if len(curve.x):
            name_shown, marker = VALIDATION[name]
            style: dict[str, Any] = dict(marker=marker, markersize=6, markeredgecolor=theme().background, zorder=4)
            line = "-" if len(curve.x) > 1 else "none"
            axes.plot(curve.x / unit.size, curve.y, line, color=color(index), label=name_shown, linewidth=1, **style)
    axes.set_xlabel(unit.label)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.set_xlim(left=0)


def _y_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Limits of the y-axis that fit all but the first :data:`CLIPPED` of each curve."""
    values = [curve.y for curve in curves if len(curve.y)]
    later = [y[int(CLIPPED * len(y)) :] for y in values]
    low, high = min(float(y.min()) for y in later), max(float(y.max()) for y in later)
    margin = 0.05 * max(high - low, 1e-3)
    return low - margin, high + margin


def _table(history: History, names: Sequence[str], unit: str) -> Table:
    """Every logged value, for readers who plot their own figures."""
    columns = history.columns
    kept = np.zeros(len(columns["step"]), dtype=bool)
    for name in names:
        if name in columns:
            kept |= np.isfinite(columns[name])
    logged = [name for name in names if name in columns and np.isfinite(columns[name]).any()]
    header = ["step", "tokens", "time (s)", *(f"{name} ({unit})" if len(names) == 1 else name for name in logged)]
    rows: list[list[Cell]] = []
    for index in np.flatnonzero(kept):
        row: list[Cell] = [int(columns["step"][index]) + 1]
        for column in ("tokens", "seconds"):
            value = columns[column][index] if column in columns else np.nan
            row.append(None if np.isnan(value) else int(value) if column == "tokens" else float(value))
        row += [None if np.isnan(columns[name][index]) else float(columns[name][index]) for name in logged]
        rows.append(row)
    return Table(header, rows)
