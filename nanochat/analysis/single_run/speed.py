"""How fast a run was, and where its time went."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.single_run.bars import stacked_bar
from nanochat.analysis.style import color, subplots
from nanochat.analysis.units import NICE, smooth, thinned, thousands

SPEED, WAIT, MFU = "train/tokens_per_second", "train/data_wait", "train/mfu"


def speed(history: History) -> Figure:
    """Tokens a second, and the share of the time spent waiting for text.

    Raises:
        ValueError: if no speed was logged.
    """
    curve = history.curve(SPEED)
    if len(curve.x) < 2:
        raise ValueError("no speed was logged yet")
    usual = float(np.median(curve.y))
    rows: list[list[Cell]] = [["tokens/s", usual, float(curve.y.min()), float(curve.y.max())]]
    for name, label in ((MFU, "share of the machine's peak (%)"), (WAIT, "waited for text (% of the time)")):
        share = 100 * history.curve(name).y
        if len(share):
            rows.append([label, float(np.median(share)), float(share.min()), float(share.max())])
    caption = (
        f"Half of the time it was faster than {usual:,.0f} tokens/s. A slow beginning is compilation and warming up; "
        "dips are other programs on the same machine. If the lower line rises above a few percent, training waits for "
        "its text, and more workers (--data.num_workers) help."
    )
    return Figure(
        name="speed",
        title="How fast it trained, and how long it waited for text",
        caption=caption,
        draw=lambda: _draw_speed(history),
        table=Table(["", "median", "least", "most"], rows),
        section="Speed and memory",
    )


def _draw_speed(history: History) -> MplFigure:
    speeds, waits = history.curve(SPEED), history.curve(WAIT)
    panels = 2 if len(waits.x) > 1 else 1
    ratios = [2.2, 1][:panels]
    fig, grid = subplots(panels, 1, height=4.6, sharex=True, squeeze=False, height_ratios=ratios)
    axes = grid[0][0]
    axes.plot(*thinned(speeds.x, speeds.y), color=color(0), alpha=0.3, linewidth=0.8)
    axes.plot(*thinned(speeds.x, smooth(speeds.x, speeds.y), 300), color=color(0))
    axes.set_ylabel("tokens/s")
    axes.set_ylim(0, 1.1 * float(speeds.y.max()))
    axes.yaxis.set_major_formatter(FuncFormatter(thousands))
    if panels == 2:
        axes = grid[1][0]
        axes.plot(*thinned(waits.x, 100 * waits.y), color=color(1), linewidth=1.2)
        axes.set_ylabel("waiting (%)")
        axes.set_ylim(0, max(1.0, 1.15 * 100 * float(np.quantile(waits.y, 0.99))))
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=NICE))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    return fig


def run_time(history: History) -> Figure:
    """Where the whole run's time went.

    Raises:
        ValueError: if the run has not come to its end, where that is written down.
    """
    summary = history.run.summary
    whole, training = summary.get("seconds"), summary.get("training_seconds")
    if not whole or training is None:  # a run of few steps may take 0.0 seconds
        raise ValueError("the run has no summary yet: it is written after the last step")
    waited = (summary.get("data_wait") or 0.0) * training
    parts = [("training steps", training - waited), ("waiting for text", waited), ("around training", whole - training)]
    rows: list[list[Cell]] = [[name, seconds, 100 * seconds / whole] for name, seconds in parts]
    caption = (
        "Around training lie the start of the program, the preparation of the text, the timed steps of the plan, "
        "compilation, validations, samples, checkpoints and the final score. In a short run they weigh more."
    )
    return Figure(
        name="run_time",
        title="Where the time of the run went",
        caption=caption,
        draw=lambda: stacked_bar([(name, seconds) for name, seconds in parts], "time (seconds)"),
        table=Table(["part", "time (s)", "share (%)"], rows),
        section="Speed and memory",
    )
