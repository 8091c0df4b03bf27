"""Figures of training speed and of where the time of the run went."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.single_run.bars import stacked_bar
from nanochat.analysis.smoothing import smooth, thinned
from nanochat.analysis.style import color, subplots
from nanochat.analysis.units import TICK_STEPS, thousands

SPEED, DATA_WAIT, MFU = CURVES = "train/tokens_per_second", "train/data_wait", "train/mfu"


def speed(history: History) -> Figure:
    """Tokens per second, and the fraction of time spent waiting for batches.

    Raises:
        ValueError: if no speed was logged.
    """
    curve = history.curve(SPEED)
    if len(curve.x) < 2:
        raise ValueError("no speed has been logged yet")
    median = float(np.median(curve.y))
    rows: list[list[Cell]] = [["tokens/s", median, float(curve.y.min()), float(curve.y.max())]]
    for name, label in ((MFU, "MFU (%)"), (DATA_WAIT, "waiting for data (% of the time)")):
        share = 100 * history.curve(name).y
        if len(share):
            rows.append([label, float(np.median(share)), float(share.min()), float(share.max())])
    caption = (
        f"The median speed is {median:,.0f} tokens/s. A slow start is compilation and warm-up; dips are usually other "
        "programs on the same machine. If the share of time spent waiting for data exceeds a few percent, use more "
        "workers (--data.num_workers)."
    )
    return Figure(
        name="speed",
        title="Training speed",
        caption=caption,
        draw=lambda: _draw_speed(history),
        table=Table(["", "median", "lowest", "highest"], rows),
        section="Speed and memory",
    )


def _draw_speed(history: History) -> MplFigure:
    speeds, waits = history.curve(SPEED), history.curve(DATA_WAIT)
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
        axes.set_ylabel("waiting for data (%)")
        axes.set_ylim(0, max(1.0, 1.15 * 100 * float(np.quantile(waits.y, 0.99))))
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    return fig


def run_time(history: History) -> Figure:
    """Where the time of the run went.

    Raises:
        ValueError: if the run is not finished: its summary is written at the end.
    """
    summary = history.run.summary
    total, training = summary.get("seconds"), summary.get("training_seconds")
    if not total or training is None:  # 0.0 is valid for a run of few steps
        raise ValueError("the run has no summary yet: it is written after the last step")
    waited = (summary.get("data_wait") or 0.0) * training
    segments = [
        ("training steps", training - waited),
        ("waiting for data", waited),
        ("everything else", total - training),
    ]
    rows: list[list[Cell]] = [[name, seconds, 100 * seconds / total] for name, seconds in segments]
    caption = (
        "Everything else includes starting the program, preparing the data, timing steps for the plan, compilation, "
        "validations, samples, checkpoints and the final score. In a short run it is a larger share."
    )
    return Figure(
        name="run_time",
        title="Where the time of the run went",
        caption=caption,
        draw=lambda: stacked_bar(segments, "time (seconds)"),
        table=Table(["activity", "time (s)", "share (%)"], rows),
        section="Speed and memory",
    )
