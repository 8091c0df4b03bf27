"""Figures of all other logged curves: scores, rewards, and curves that a user's callback logs."""

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
from nanochat.analysis.smoothing import smooth, thinned
from nanochat.analysis.style import color, subplots, theme
from nanochat.analysis.units import TICK_STEPS, thousands

# The curves that have figures of their own.
COVERED = {"train/loss", "train/bpb", *losses.VALIDATION, learning_rates.NORM, *speed.CURVES}
COVERED_PREFIXES = (learning_rates.RATE_PREFIX, "rank/")
REINFORCE = "reinforce"  # the stage
MIN_POINTS_TO_SMOOTH = 40  # curves with fewer points are drawn without a running mean
MAX_CURVES = 24  # per figure


class CurveGroup(NamedTuple):
    """Title and caption of the curves whose names have one prefix."""

    title: str
    caption: str


GROUPS = {
    "core": CurveGroup(
        "CORE tasks during training",
        "Centred accuracies: 0 is chance, 1 is all correct. Small models stay near 0, and tasks with few items "
        "fluctuate by chance.",
    ),
    "tasks": CurveGroup(
        "Accuracy on held-out questions of each task",
        "The questions differ from those of training: other numbers, other words, other phrasings.",
    ),
    "chat": CurveGroup(
        "Chat tasks during fine-tuning", "The fraction of correct answers, on a few items of each task."
    ),
}
# In reinforcement learning, these prefixes have other meanings.
REINFORCE_GROUPS = {
    "train": CurveGroup(
        "Reinforcement learning: the model's answers and their rewards",
        "The mean reward of an answer (reward), the fraction of questions with at least one correct answer among k "
        "(pass_at_k), the mean length of an answer in tokens (answer_tokens), and the fraction of questions whose "
        "answers all have the same reward, and therefore no gradient (no_signal). If rewards rise while the entropy "
        "falls to 0, the answers have become identical. The loss does not measure quality here.",
    ),
    "val": CurveGroup(
        "Reinforcement learning: held-out questions",
        "The fraction of held-out questions that are answered correctly with greedy decoding. It shows whether the "
        "improvement generalises to questions that are not trained on.",
    ),
}
OTHER = CurveGroup("Curves logged under {}/", "Thin: each logged value; thick: their running mean.")


def is_covered(name: str) -> bool:
    """Whether the curve is part of another figure."""
    return name in COVERED or name.startswith(COVERED_PREFIXES)


def other_curves(history: History) -> list[FigureSpec]:
    """One figure for each prefix of the curves that no other figure shows."""
    also = {"train/loss"} if history.run.stage == REINFORCE else set()
    names = [n for n in history.names if (n in also or not is_covered(n)) and len(history.curve(n).x)]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.split("/")[0] if "/" in name else "", []).append(name)
    specs = []
    for prefix, members in groups.items():
        for begin in range(0, len(members), MAX_CURVES):
            specs.append(_spec(history, prefix, members[begin : begin + MAX_CURVES], begin // MAX_CURVES))
    return specs


def _spec(history: History, prefix: str, names: Sequence[str], index: int) -> FigureSpec:
    known = {**GROUPS, **REINFORCE_GROUPS} if history.run.stage == REINFORCE else GROUPS
    group = known.get(prefix, CurveGroup(OTHER.title.format(prefix) if prefix else "Other curves", OTHER.caption))
    stem = "".join(c if c.isalnum() and c.isascii() else "_" for c in prefix.lower()) or "curves"
    name = f"other_{stem}" + (f"_{index + 1}" if index else "")
    return FigureSpec(name, group.title, lambda: _figure(history, name, group, names), "Scores and other curves")


def _figure(history: History, name: str, group: CurveGroup, names: Sequence[str]) -> Figure:
    curves = {curve: history.curve(curve) for curve in names}
    rows: list[list[Cell]] = [
        [curve, float(c.y[0]), float(c.y[-1]), float(c.y.min()), float(c.y.max())] for curve, c in curves.items()
    ]

    def draw() -> MplFigure:
        if all(len(curve.x) == 1 for curve in curves.values()):
            values = [float(curve.y[0]) for curve in curves.values()]
            return grouped_bars([_short(curve) for curve in names], [("", values)], "value", "{:.3g}")
        return _small_multiples(history, names)

    return Figure(
        name=name,
        title=group.title,
        caption=group.caption,
        draw=draw,
        table=Table(["curve", "first", "last", "lowest", "highest"], rows),
        section="Scores and other curves",
    )


def _short(name: str) -> str:
    return name.split("/", 1)[-1]


def _small_multiples(history: History, names: Sequence[str]) -> MplFigure:
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    fig, grid = subplots(rows, columns, height=0.5 + 1.75 * rows + (1.2 if rows == 1 else 0), squeeze=False)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_visible(False)
    last = max(float(history.curve(name).x[-1]) for name in names)
    for index, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        curve = history.curve(name)
        if len(curve.x) >= MIN_POINTS_TO_SMOOTH:
            axes.plot(*thinned(curve.x, curve.y), color=color(0), alpha=0.3, linewidth=0.7)
            axes.plot(*thinned(curve.x, smooth(curve.x, curve.y), 300), color=color(0))
        else:
            axes.plot(curve.x, curve.y, "o-", color=color(0), markersize=4, markeredgecolor=theme().background)
        axes.set_title(_short(name), fontsize=10.5, fontweight="normal")
        axes.set_xlim(0, last * 1.03)
        if np.ptp(curve.y) == 0:
            axes.set_ylim(float(curve.y[0]) - 0.5, float(curve.y[0]) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=TICK_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=TICK_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
        axes.tick_params(labelsize=9)
        if index >= len(names) - columns:
            axes.set_xlabel("step")
    return fig
