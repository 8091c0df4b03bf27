"""Bar charts: one stacked bar, and grouped horizontal bars."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nanochat.analysis.style import color, readable_on, subplots, theme
from nanochat.analysis.units import TICK_STEPS, thousands

MIN_SHARE_FOR_TEXT = 0.07  # a narrower segment has no percentage written on it


def stacked_bar(segments: Sequence[tuple[str, float]], label: str) -> MplFigure:
    """One horizontal bar of several segments, with names and percentages in the legend.

    Args:
        segments: name and value of each.
        label: of the axis, with the unit.
    """
    fig, axes = subplots(height=2.1)
    total = sum(value for _, value in segments)
    left = 0.0
    for index, (_, value) in enumerate(segments):
        axes.barh(0, value, left=left, height=0.5, color=color(index), edgecolor=theme().background, linewidth=1)
        if value > MIN_SHARE_FOR_TEXT * total:
            fill = to_rgba(color(index))
            share = f"{value / total:.0%}"
            axes.text(left + value / 2, 0, share, ha="center", va="center", color=readable_on(fill), fontweight="bold")
        left += value
    labels = [f"{name} ({value / total:.1%})" for name, value in segments]
    handles = [Patch(color=color(index)) for index in range(len(segments))]
    fig.legend(handles, labels, loc="outside upper left", ncols=3 if max(map(len, labels)) < 30 else 2)
    axes.set_xlim(0, total)
    axes.set_ylim(-0.32, 0.32)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    return fig


def grouped_bars(
    names: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], label: str, value_format: str = "{:.1f}"
) -> MplFigure:
    """Horizontal bars, one or more per name.

    Args:
        names: one per group of bars, from the top.
        series: name of each series, and its values, one per group. A single series has no legend.
        label: of the axis, with the unit.
        value_format: format of the value at the end of each bar.
    """
    fig, axes = subplots(height=0.9 + 0.36 * len(names) * (0.6 + 0.4 * len(series)))
    thickness = 0.8 / len(series)
    largest = max((value for _, values in series for value in values), default=1.0)
    for index, (name, values) in enumerate(series):
        centres = [row + (index - (len(series) - 1) / 2) * thickness for row in range(len(names))]
        axes.barh(centres, values, height=thickness * 0.88, color=color(index), label=name)
        for centre, value in zip(centres, values, strict=True):
            text = value_format.format(value)
            axes.annotate(text, (max(value, 0), centre), (4, 0), textcoords="offset points", va="center", fontsize=9.5)
    axes.set_yticks(range(len(names)), names, color=theme().text)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    axes.set_xlim(min(0.0, *(value for _, values in series for value in values)), 1.13 * largest)
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    if len(series) > 1:
        axes.legend(loc="lower right")
    return fig
