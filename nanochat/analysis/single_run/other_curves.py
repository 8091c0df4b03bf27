"""Every other curve of a run: scores, rewards, and whatever a callback has logged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nanochat.analysis.figure import Cell, Figure, FigureSpec, Table
from nanochat.analysis.history import History
from nanochat.analysis.single_run import learning_rates, losses, speed
from nanochat.analysis.single_run.bars import grouped_bars
from nanochat.analysis.style import color, subplots, theme
from nanochat.analysis.units import NICE, smooth, thinned, thousands

COVERED = {"train/loss", "train/bpb", *losses.LABELS, learning_rates.NORM, speed.SPEED, speed.WAIT, speed.MFU}
BEGIN = (learning_rates.RATE, "rank/")  # the names of more curves that other figures show
REINFORCE = "reinforce"  # the stage
MANY = 40  # points from which on a running mean is drawn
MOST = 24  # curves in one picture


class CurveGroup(NamedTuple):
    """What the curves are whose names begin alike."""

    title: str
    caption: str


KINDS = {
    "core": CurveGroup(
        "CORE's tasks while it trained",
        "Accuracies centred at chance: 0 is guessing, 1 is all right. Small models stay near 0, and single tasks of "
        "few items jump up and down by chance.",
    ),
    "tasks": CurveGroup(
        "How many held-out questions of each task were answered rightly",
        "Questions that were not learned: other numbers, other words, other ways of asking.",
    ),
    "chat": CurveGroup(
        "Chat tasks while it was fine-tuned", "The share of answers that were right, from a few items each."
    ),
}
# The same names mean something else where a model learns from its own answers.
REWARDED = {
    "train": CurveGroup(
        "Its own answers, while the model learned from their rewards",
        "The mean reward of an answer (reward), the share of questions with at least one right answer among k "
        "(pass_at_k), the answers' length in tokens, and the share of questions whose answers were all worth the same, "
        "which teach nothing (no_signal). Rewards that rise while entropy falls to 0 mean that the answers have become "
        "all alike. The loss is no measure of quality here.",
    ),
    "val": CurveGroup(
        "Held-out questions, while the model learned from rewards",
        "The share of held-out questions that are answered rightly with the likeliest token each time: whether what "
        "was learned holds for questions that were never rewarded.",
    ),
}
OTHER = CurveGroup("Curves logged under {}/", "Faint: each logged value; strong: their running mean.")


def is_covered(name: str) -> bool:
    """Whether another figure shows that curve."""
    return name in COVERED or name.startswith(BEGIN)


def other_curves(history: History) -> list[FigureSpec]:
    """A figure for each group of curves that no other figure shows, by what their names begin with."""
    own = {"train/loss"} if history.run.stage == REINFORCE else set()
    names = [n for n in history.names if (n in own or not is_covered(n)) and len(history.curve(n).x)]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.split("/")[0] if "/" in name else "", []).append(name)
    specs = []
    for prefix, members in groups.items():
        for begin in range(0, len(members), MOST):
            specs.append(_spec(history, prefix, members[begin : begin + MOST], begin // MOST))
    return specs


def _spec(history: History, prefix: str, names: Sequence[str], part: int) -> FigureSpec:
    known = {**KINDS, **REWARDED} if history.run.stage == REINFORCE else KINDS
    kind = known.get(prefix, CurveGroup(OTHER.title.format(prefix) if prefix else "Other curves", OTHER.caption))
    stem = "".join(c if c.isalnum() and c.isascii() else "_" for c in prefix.lower()) or "curves"
    name = f"other_{stem}" + (f"_{part + 1}" if part else "")
    return FigureSpec(name, kind.title, lambda: _figure(history, name, kind, names), "Scores and other curves")


def _figure(history: History, name: str, kind: CurveGroup, names: Sequence[str]) -> Figure:
    curves = {one: history.curve(one) for one in names}
    rows: list[list[Cell]] = [
        [one, float(c.y[0]), float(c.y[-1]), float(c.y.min()), float(c.y.max())] for one, c in curves.items()
    ]

    def draw() -> MplFigure:
        if all(len(curve.x) == 1 for curve in curves.values()):
            values = [float(curve.y[0]) for curve in curves.values()]
            return grouped_bars([_short(one) for one in names], [("", values)], "value", "{:.3g}")
        return _multiples(history, names)

    return Figure(
        name=name,
        title=kind.title,
        caption=kind.caption,
        draw=draw,
        table=Table(["curve", "first", "last", "lowest", "highest"], rows),
        section="Scores and other curves",
    )


def _short(name: str) -> str:
    return name.split("/", 1)[-1]


def _multiples(history: History, names: Sequence[str]) -> MplFigure:
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    fig, grid = subplots(rows, columns, height=0.5 + 1.75 * rows + (1.2 if rows == 1 else 0), squeeze=False)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    last = max(float(history.curve(name).x[-1]) for name in names)
    for index, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        curve = history.curve(name)
        if len(curve.x) >= MANY:
            axes.plot(*thinned(curve.x, curve.y), color=color(0), alpha=0.3, linewidth=0.7)
            axes.plot(*thinned(curve.x, smooth(curve.x, curve.y), 300), color=color(0))
        else:
            axes.plot(curve.x, curve.y, "o-", color=color(0), markersize=4, markeredgecolor=theme().background)
        axes.set_title(_short(name), fontsize=10.5, fontweight="normal")
        axes.set_xlim(0, last * 1.03)
        if np.ptp(curve.y) == 0:
            axes.set_ylim(float(curve.y[0]) - 0.5, float(curve.y[0]) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=NICE))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=NICE))
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
        axes.tick_params(labelsize=9)
        if index >= len(names) - columns:
            axes.set_xlabel("step")
    return fig
