"""What differs between the runs, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import MaxNLocator

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.multi_run.overlay import colors
from nanochat.analysis.multi_run.seed_groups import SeedGroup, differing_settings
from nanochat.analysis.style import subplots, theme
from nanochat.analysis.units import NICE

MOST = 12  # settings in the table: runs that differ in more are too different to name each
TITLE = "What differs between the runs, and what came of it"
SCORES = "Bits per byte on held-out text, at the end"
INTERVAL_SEEDS = 3  # from so many on an interval is drawn: that of two is so wide that nothing else can be seen


def runs_table(histories: Sequence[History]) -> Figure:
    """One row for each run: the settings that are not the same in all of them, then the results."""
    different = dict(list(differing_settings(histories).items())[:MOST])
    left_out = len(differing_settings(histories)) - len(different)
    results = ("bits per byte", "parameters", "steps", "tokens", "compute (FLOPs)", "time (s)", "speed (tokens/s)")
    header = ["run", *different, *results, "memory (MB)", "device", "text"]
    rows: list[list[Cell]] = []
    for index, history in enumerate(histories):
        summary = history.run.summary
        memory = summary.get("peak_gpu_memory_bytes") or summary.get("peak_memory_bytes")
        rows.append(
            [
                history.run.label,
                *("" if values[index] is None else str(values[index]) for values in different.values()),
                *(history.bpb, history.parameters, history.steps, int(history.tokens) if history.tokens else None),
                *(history.flops, summary.get("seconds"), summary.get("tokens_per_second")),
                *(memory / 1e6 if memory else None, summary.get("device"), summary.get("corpus_fingerprint")),
            ]
        )
    caption = (
        "Only settings that are not the same in all runs are listed, by their names on the command line; an empty cell "
        "is a setting that was left to the program. Lower bits per byte are better, on the same text."
    )
    if left_out:
        caption += f" {left_out} more settings differ."
    return Figure("runs", TITLE, caption, table=Table(header, rows), section="The runs")


def scores(groups: Sequence[SeedGroup]) -> Figure:
    """The final score of every run, and of each group the mean with its interval.

    Raises:
        ValueError: if no run has a score yet.
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
    caption = "Each dot is a run's final score on held-out text; further left is better. "
    if seeds >= INTERVAL_SEEDS:
        caption += (
            "The thick lines are 95 % intervals of the mean over seeds (Student's t): two that overlap by much do not "
            "differ for certain."
        )
    elif seeds > 1:
        caption += "The upright lines are their means."
    else:
        caption += (
            "With one seed each, nobody knows how much of a difference is chance: runs with other seeds "
            "(--seed_everything) tell."
        )
    if any(_by_seed(scored)):
        caption += (
            " Thin lines join runs with the same seed: the more of them lean one way, the surer it is that the "
            "settings differ, whatever the seeds do to all of them."
        )
    return Figure(
        name="scores",
        title=SCORES,
        caption=caption,
        draw=lambda: _draw(scored),
        table=Table(["group", "runs", "bits per byte (mean)", "95 % from", "95 % to"], rows),
        section="The runs",
    )


def _by_seed(scored: Sequence[SeedGroup]) -> list[list[tuple[float, int]]]:
    """Of each seed that several groups share on the same text, its scores with their rows; nothing of a lone seed."""
    seeds: dict[object, list[tuple[float, int]]] = {}
    for row, group in enumerate(scored):
        for history in group.histories:
            summary = history.run.summary
            if history.bpb is not None and (seed := summary.get("seed")) is not None:
                seeds.setdefault((summary.get("corpus_fingerprint"), seed), []).append((history.bpb, row))
    shared = [places for places in seeds.values() if len({row for _, row in places}) > 1]
    return shared if len(shared) > 1 else []


def _draw(scored: Sequence[SeedGroup]) -> MplFigure:
    fig, axes = subplots(height=1.0 + 0.42 * len(scored))
    shades = colors(len(scored))
    ends: list[float] = []
    for places in _by_seed(scored):
        axes.plot([score for score, _ in places], [row for _, row in places], color=theme().muted, lw=0.8, alpha=0.7)
    for row, group in enumerate(scored):
        assert group.bpb is not None
        mean, low, high = group.bpb
        if len(group.scores) >= INTERVAL_SEEDS:
            axes.plot([low, high], [row, row], color=shades[row], linewidth=2.2, alpha=0.55)
            ends += [low, high]
        if len(group.scores) > 1:
            axes.plot([mean], [row], "|", color=shades[row], markersize=15, markeredgewidth=2)
        style = dict(markersize=7.5, markeredgecolor=theme().background, color=shades[row])
        axes.plot(group.scores, [row] * len(group.scores), "o", **style)
        ends += group.scores
    axes.set_yticks(range(len(scored)), [group.label for group in scored], color=theme().text)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(scored) - 0.5, -0.5)
    margin = 0.06 * max(max(ends) - min(ends), 0.01)
    axes.set_xlim(min(ends) - margin, max(ends) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=NICE))
    axes.set_xlabel("bits per byte")
    return fig
