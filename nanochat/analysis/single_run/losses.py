"""How a run learned: its loss and its bits per byte, against all that one may count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import AXES, Curve, History
from nanochat.analysis.style import color, subplots, theme
from nanochat.analysis.units import NICE, smooth, thinned, thousands, unit_of

ABOVE = 0.04  # of the run's beginning may lie above the frame, or the rest would be flat
FOUR = (
    "The same curve four times: against steps, tokens read, time and compute. Faint: each logged value; strong: their "
    "running mean. The first values, which are much higher, lie above the frame. "
)


def loss(history: History) -> Figure:
    """The training loss.

    Raises:
        ValueError: if nothing was logged.
    """
    if len(history.curve("train/loss").x) < 2:
        raise ValueError("no loss was logged yet")
    caption = FOUR + (
        "It falls steeply, then ever more slowly; a last bend downwards comes from the learning rates, which fall "
        "towards the end."
    )
    return Figure(
        name="loss",
        title="The loss falls as the model learns",
        caption=caption,
        draw=lambda: _panels(history, "loss (nats per token)", [("train/loss", "training")], []),
        table=_table(history, ["train/loss"], "loss (nats/token)"),
        section="Learning",
    )


def bits_per_byte(history: History) -> Figure:
    """Bits per byte, in training and on held-out text.

    Raises:
        ValueError: if nothing was logged.
    """
    if len(history.curve("train/bpb").x) < 2 and not len(history.curve("val/bpb").x):
        raise ValueError("no bits per byte were logged yet")
    caption = FOUR + (
        "The dots are text that the model never learns from. If they stop falling while training goes on falling, it "
        "learns its text by heart; the diamond is the score on all of the held-out text."
    )
    return Figure(
        name="bpb",
        title="Bits per byte, in training and on held-out text",
        caption=caption,
        draw=lambda: _panels(history, "bits per byte", [("train/bpb", "training")], ["val/bpb", "val/bpb_all"]),
        table=_table(history, ["train/bpb", "val/bpb", "val/bpb_all"], "bits per byte"),
        section="Learning",
    )


LABELS = {"val/bpb": "held out, a part", "val/bpb_all": "held out, all"}
MARKS = {"val/bpb": "o", "val/bpb_all": "D"}


def _panels(history: History, label: str, lines: Sequence[tuple[str, str]], dots: Sequence[str]) -> MplFigure:
    drawn = [axis for axis in AXES if len(history.curve((lines[0][0]), axis).x) or _any(history, dots, axis)]
    fig, grid = subplots(2, 2, height=5.4, sharey=True)
    axes_list: list[Axes] = list(grid.flat)
    for axes, axis in zip(axes_list, drawn, strict=False):
        _panel(axes, history, axis, lines, dots)
    for axes in axes_list[len(drawn) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(label)
    low, high = _frame([history.curve(name) for name, _ in lines] + [history.curve(name) for name in dots])
    axes_list[0].set_ylim(low, high)
    handles, labels = axes_list[0].get_legend_handles_labels()
    if len(handles) > 1:
        fig.legend(handles, labels, loc="outside upper left", ncols=len(handles))
    return fig


def _any(history: History, names: Sequence[str], axis: str) -> bool:
    return any(len(history.curve(name, axis).x) for name in names)


def _panel(axes: Axes, history: History, axis: str, lines: Sequence[tuple[str, str]], dots: Sequence[str]) -> None:
    curves = {name: history.curve(name, axis) for name in [*(name for name, _ in lines), *dots]}
    unit = unit_of(axis, max((float(curve.x[-1]) for curve in curves.values() if len(curve.x)), default=1.0))
    for index, (name, label) in enumerate(lines):
        curve = curves[name]
        x, y = thinned(curve.x / unit.size, curve.y)
        axes.plot(x, y, color=color(index), alpha=0.28, linewidth=0.8)
        # by the count of values, not by time: after a pause a single value would stand alone
        x, y = thinned(curve.x / unit.size, smooth(np.arange(len(curve.y)), curve.y), 300)
        axes.plot(x, y, color=color(index), label=label)
    for index, name in enumerate(dots, len(lines)):
        curve = curves[name]
        if len(curve.x):
            style: dict[str, Any] = dict(marker=MARKS[name], markersize=6, markeredgecolor=theme().background, zorder=4)
            line = "-" if len(curve.x) > 1 else "none"
            axes.plot(curve.x / unit.size, curve.y, line, color=color(index), label=LABELS[name], linewidth=1, **style)
    axes.set_xlabel(unit.label)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=NICE))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.set_xlim(left=0)


def _frame(curves: Sequence[Curve]) -> tuple[float, float]:
    """Where the y-axis begins and ends: so that all but the very beginning fills it."""
    values = [curve.y for curve in curves if len(curve.y)]
    later = [y[int(ABOVE * len(y)) :] for y in values]
    low, high = min(float(y.min()) for y in later), max(float(y.max()) for y in later)
    margin = 0.05 * max(high - low, 1e-3)
    return low - margin, high + margin


def _table(history: History, names: Sequence[str], unit: str) -> Table:
    """Every logged value: for whoever draws a figure of their own."""
    columns = history.columns
    kept = np.zeros(len(columns["step"]), dtype=bool)
    for name in names:
        if name in columns:
            kept |= np.isfinite(columns[name])
    there = [name for name in names if name in columns and np.isfinite(columns[name]).any()]
    header = ["step", "tokens", "time (s)", *(f"{name} ({unit})" if len(names) == 1 else name for name in there)]
    rows: list[list[Cell]] = []
    for index in np.flatnonzero(kept):
        row: list[Cell] = [int(columns["step"][index]) + 1]
        for place in ("tokens", "seconds"):
            value = columns[place][index] if place in columns else np.nan
            row.append(None if np.isnan(value) else int(value) if place == "tokens" else float(value))
        row += [None if np.isnan(columns[name][index]) else float(columns[name][index]) for name in there]
        rows.append(row)
    return Table(header, rows)
