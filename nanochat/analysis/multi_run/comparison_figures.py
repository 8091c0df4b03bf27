"""All figures that compare several runs, and what a reader must know before comparing anything."""

from __future__ import annotations

from collections.abc import Sequence

from nanochat.analysis.figure import FigureSpec
from nanochat.analysis.history import History
from nanochat.analysis.multi_run import device_speedup, results, scaling
from nanochat.analysis.multi_run.overlay import overlay
from nanochat.analysis.multi_run.seed_groups import SeedGroup
from nanochat.analysis.single_run.other_curves import is_covered

CURVES = (
    (
        "train/bpb",
        "bpb_by_run",
        "Bits per byte in training, run by run",
        "bits per byte",
        "Running means of the same curve against steps, tokens, time and compute. Which run is ahead may change with "
        "what is counted: per token the larger model learns more, per second the smaller one is often ahead.",
    ),
    (
        "val/bpb",
        "held_out_by_run",
        "Bits per byte on held-out text, on the way",
        "bits per byte",
        "Each dot is a score on the same part of the held-out text, taken while the run trained.",
    ),
    (
        "train/loss",
        "loss_by_run",
        "Loss in training, run by run",
        "loss (nats per token)",
        "Running means. Losses can be compared only between runs with the same vocabulary: a longer token is harder "
        "to guess.",
    ),
)
MOST_OTHERS = 12  # curves of other names that are compared


def comparison_figures(histories: Sequence[History], groups: Sequence[SeedGroup]) -> list[FigureSpec]:
    """The figures, in the order of the page."""
    found = [
        FigureSpec("runs", results.TITLE, lambda: results.runs_table(histories), "The runs"),
        FigureSpec("scores", results.SCORES, lambda: results.scores(groups), "The runs"),
    ]
    if device_speedup.cpu_gpu_pairs(histories):
        found.append(
            FigureSpec("speed_up", "On a CPU and on a GPU", lambda: device_speedup.speed_up(histories), "The runs")
        )
    for column, name, title, label, caption in CURVES:
        if _shared(histories, column):
            found.append(_overlay_spec(groups, column, name, title, label, caption))
    for column in _others(histories)[:MOST_OTHERS]:
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in column.lower()) + "_by_run"
        caption = "The same curve of every run that has logged it; running means where there are many values."
        found.append(_overlay_spec(groups, column, name, f"{column}, run by run", column.split("/")[-1], caption))
    return found + scaling.scaling_figures(histories)


def _overlay_spec(
    groups: Sequence[SeedGroup], column: str, name: str, title: str, label: str, caption: str
) -> FigureSpec:
    return FigureSpec(name, title, lambda: overlay(groups, column, name, title, label, caption), "Curves")


def _shared(histories: Sequence[History], column: str) -> bool:
    return sum(len(history.curve(column).x) > 1 for history in histories) > 1


def _others(histories: Sequence[History]) -> list[str]:
    names = dict.fromkeys(name for history in histories for name in history.names)
    return [name for name in names if not is_covered(name) and _shared(histories, name)]


def warnings(histories: Sequence[History]) -> list[str]:
    """What makes a comparison unfair or impossible."""
    found = []
    texts: dict[object, list[str]] = {}
    for history in histories:
        texts.setdefault(history.run.summary.get("corpus_fingerprint"), []).append(history.run.label)
    known = {text: labels for text, labels in texts.items() if text is not None}
    if len(known) > 1:
        each = "; ".join(f"{text}: {_some(labels)}" for text, labels in known.items())
        found.append(
            "These runs learned from, and were scored on, different texts, so their scores do not say which is better. "
            f"({each})"
        )
    if None in texts:
        found.append(f"Not known is what text these learned from: {_some(texts[None])}.")
    stages = {history.run.stage for history in histories}
    if len(stages) > 1:
        found.append(f"Different stages of training are compared here ({', '.join(sorted(stages))}).")
    unfinished = [history.run.label for history in histories if not history.run.complete]
    if unfinished:
        found.append(f"Not finished, so that their last scores come from the middle of training: {_some(unfinished)}.")
    machines = {str(device) for history in histories if (device := history.run.summary.get("device"))}
    if len(machines) > 1:
        found.append(f"They ran on different machines, and times tell of these, too: {'; '.join(sorted(machines))}.")
    vocabularies = {history.setting("data", "vocab_size") for history in histories} - {None}
    if len(vocabularies) > 1:
        found.append("Their vocabularies differ: compare bits per byte, not losses per token.")
    problems = [f"{history.run.label}: {problem}" for history in histories for problem in history.run.problems]
    return found + problems


def _some(labels: Sequence[str], most: int = 6) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more


def description(histories: Sequence[History], groups: Sequence[SeedGroup]) -> str:
    """What is compared, in a sentence."""
    seeds = [len(group.histories) for group in groups]
    if len(groups) == 1:
        return f"{len(histories)} runs that differ by their seed alone."
    if max(seeds) > 1:
        return f"{len(histories)} runs in {len(groups)} groups; the runs of a group differ by their seed alone."
    return f"{len(histories)} runs, side by side."
