"""The table of differing settings and results, and the figure of the final scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import MaxNLocator

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.multi_run.overlay import group_colors
from nanochat.analysis.multi_run.seed_groups import SeedGroup, differing_settings
from nanochat.analysis.style import subplots, theme
from nanochat.analysis.units import TICK_STEPS

MAX_SETTINGS = 12  # in the table
RUNS_TITLE = "Settings and results of the runs"
SCORES_TITLE = "Final bits per byte on held-out text"
MIN_SEEDS = 3  # for an interval: that of two seeds is so wide that it would hide everything else


def runs_table(histories: Sequence[History]) -> Figure:
    """One row per run: the settings that are not the same in all of them, then the results."""
    all_differing = differing_settings(histories)
    differing = dict(list(all_differing.items())[:MAX_SETTINGS])
    hidden = len(all_differing) - len(differing)
    results = ("bits per byte", "parameters", "steps", "tokens", "compute (FLOPs)", "time (s)", "speed (tokens/s)")
    header = ["run", *differing, *results, "peak memory (MB)", "device", "corpus fingerprint"]
    rows: list[list[Cell]] = []
    for index, history in enumerate(histories):
        summary = history.run.summary
        memory = summary.get("peak_gpu_memory_bytes") or summary.get("peak_memory_bytes")
        rows.append(
            [
                history.run.label,
                *("" if values[index] is None else str(values[index]) for values in differing.values()),
                *(history.bpb, history.parameters, history.steps, int(history.tokens) if history.tokens else None),
                *(history.flops, summary.get("seconds"), summary.get("tokens_per_second")),
                *(memory / 1e6 if memory else None, summary.get("device"), summary.get("corpus_fingerprint")),
            ]
        )
    caption = (
        "Only settings that differ between the runs are listed, by their names on the command line; an empty cell is "
        "the default. Lower bits per byte are better, on the same text."
    )
    if hidden:
        caption += f" {hidden} more settings differ."
    return Figure("runs", RUNS_TITLE, caption, table=Table(header, rows), section="Runs")


def scores(groups: Sequence[SeedGroup]) -> Figure:
    """The final score of each run, and the mean of each group with its interval.

    Raises:
        ValueError: if no run has a score.
    """
    scored = [group for group in groups if group.bpb is not None]
    if not scored:
        raise ValueError("none of the runs has a score on held-out text yet")
    rows: list[list[Cell]] = []
    for group in scored:
        assert group.bpb is not None
        value, low, high = (None if math.isnan(v) else v for v in group.bpb)
        rows.append([group.label, len(group.scores), value, low, high])
    seeds = max(len(group.scores) for group in scored)
    caption = "Each dot is the final score of a run on held-out text; lower is better. "
    if seeds >= MIN_SEEDS:
        caption += (
            "The thick lines are 95 % intervals of the mean over seeds (Student's t). If two of them overlap by much, "
            "the difference may be chance."
        )
    elif seeds > 1:
        caption += "The vertical bars are the means."
    else:
        caption += (
            "With a single seed per group, the part of a difference that is chance is not known: train more runs with "
            "other seeds (--seed_everything)."
        )
    if any(_scores_by_seed(scored)):
        caption += (
            " Thin lines connect runs with the same seed: the more of them slope in the same direction, the stronger "
            "the evidence that the settings make a difference, independently of the seed."
        )
    return Figure(
        name="scores",
        title=SCORES_TITLE,
        caption=caption,
        draw=lambda: _draw(scored),
        table=Table(["group", "runs", "bits per byte (mean)", "95 % from", "95 % to"], rows),
        section="Runs",
    )


def _scores_by_seed(scored: Sequence[SeedGroup]) -> list[list[tuple[float, int]]]:
    """(score, group index) of the runs of each seed that several groups share on one text; empty for a single seed."""
    by_seed: dict[object, list[tuple[float, int]]] = {}
    for index, group in enumerate(scored):
        for history in group.histories:
            summary = history.run.summary
            if history.bpb is not None and (seed := summary.get("seed")) is not None:
                by_seed.setdefault((summary.get("corpus_fingerprint"), seed), []).append((history.bpb, index))
    shared = [points for points in by_seed.values() if len({index for _, index in points}) > 1]
    return shared if len(shared) > 1 else []


def _draw(scored: Sequence[SeedGroup]) -> MplFigure:
    fig, axes = subplots(height=1.0 + 0.42 * len(scored))
    colors = group_colors(len(scored))
    extent: list[float] = []
    for points in _scores_by_seed(scored):
        axes.plot([score for score, _ in points], [row for _, row in points], color=theme().muted, lw=0.8, alpha=0.7)
    for row, group in enumerate(scored):
        assert group.bpb is not None
        mean, low, high = group.bpb
        if len(group.scores) >= MIN_SEEDS:
            axes.plot([low, high], [row, row], color=colors[row], linewidth=2.2, alpha=0.55)
            extent += [low, high]
        if len(group.scores) > 1:
            axes.plot([mean], [row], "|", color=colors[row], markersize=15, markeredgewidth=2)
        style = dict(markersize=7.5, markeredgecolor=theme().background, color=colors[row])
        axes.plot(group.scores, [row] * len(group.scores), "o", **style)
        extent += group.scores
    axes.set_yticks(range(len(scored)), [group.label for group in scored], color=theme().text)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(scored) - 0.5, -0.5)
    margin = 0.06 * max(max(extent) - min(extent), 0.01)
    axes.set_xlim(min(extent) - margin, max(extent) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.set_xlabel("bits per byte")
    return fig
