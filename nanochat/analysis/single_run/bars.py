"""Bars: of one whole and its parts, and of many things beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nanochat.analysis.style import color, readable_on, subplots, theme
from nanochat.analysis.units import NICE, thousands


def stacked_bar(parts: list[tuple[str, float]], label: str) -> MplFigure:
    """One bar of several parts, each with its name and its share below.

    Args:
        parts: names and amounts.
        label: of the axis, with the unit.
    """
    fig, axes = subplots(height=2.1)
    whole = sum(value for _, value in parts)
    begin = 0.0
    for index, (_, value) in enumerate(parts):
        axes.barh(0, value, left=begin, height=0.5, color=color(index), edgecolor=theme().background, linewidth=1)
        if value > 0.07 * whole:
            fill = to_rgba(color(index))
            share = f"{value / whole:.0%}"
            axes.text(begin + value / 2, 0, share, ha="center", va="center", color=readable_on(fill), fontweight="bold")
        begin += value
    labels = [f"{name} ({value / whole:.1%})" for name, value in parts]
    handles = [Patch(color=color(index)) for index in range(len(parts))]
    fig.legend(handles, labels, loc="outside upper left", ncols=3 if max(map(len, labels)) < 30 else 2)
    axes.set_xlim(0, whole)
    axes.set_ylim(-0.32, 0.32)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=NICE))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    return fig


def grouped_bars(
    names: Sequence[str], groups: Sequence[tuple[str, Sequence[float]]], label: str, value_format: str = "{:.1f}"
) -> MplFigure:
    """Horizontal bars, one below the other, of one or more groups of values.

    Args:
        names: of the bars, from the top.
        groups: the name of each, and its values; the name is left out where there is one only.
        label: of the axis, with the unit.
        mark: how the value is written at a bar's end.
    """
    fig, axes = subplots(height=0.9 + 0.36 * len(names) * (0.6 + 0.4 * len(groups)))
    thick = 0.8 / len(groups)
    most = max((value for _, values in groups for value in values), default=1.0)
    for index, (name, values) in enumerate(groups):
        places = [row + (index - (len(groups) - 1) / 2) * thick for row in range(len(names))]
        axes.barh(places, values, height=thick * 0.88, color=color(index), label=name)
        for place, value in zip(places, values, strict=True):
            text = value_format.format(value)
            axes.annotate(text, (max(value, 0), place), (4, 0), textcoords="offset points", va="center", fontsize=9.5)
    axes.set_yticks(range(len(names)), names, color=theme().text)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    axes.set_xlim(min(0.0, *(value for _, values in groups for value in values)), 1.13 * most)
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    if len(groups) > 1:
        axes.legend(loc="lower right")
    return fig
