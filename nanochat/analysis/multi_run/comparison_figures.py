"""The figures that compare several runs, and the text at the top of their page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nanochat.analysis.figure import FigureSpec
from nanochat.analysis.history import History
from nanochat.analysis.multi_run.device_speedup import cpu_gpu_pairs, speed_up
from nanochat.analysis.multi_run.overlay import overlay
from nanochat.analysis.multi_run.results import RUNS_TITLE, SCORES_TITLE, runs_table, scores
from nanochat.analysis.multi_run.scaling import scaling_figures
from nanochat.analysis.multi_run.seed_groups import SeedGroup
from nanochat.analysis.single_run.other_curves import is_covered


class ComparedCurve(NamedTuple):
    """A curve that is compared between runs: its column in metrics.csv, and the text of its figure."""

    column: str
    name: str
    title: str
    label: str
    caption: str


CURVES = (
    ComparedCurve(
        "train/bpb",
        "bpb_by_run",
        "Bits per byte in training",
        "bits per byte",
        "Running means against steps, tokens, time and compute. The order of the runs may depend on the x-axis: per "
        "token the larger model learns more, per second the smaller one is often ahead.",
    ),
    ComparedCurve(
        "val/bpb",
        "held_out_by_run",
        "Bits per byte on held-out text during training",
        "bits per byte",
        "Each dot is a validation, always on the same part of the held-out text.",
    ),
    ComparedCurve(
        "train/loss",
        "loss_by_run",
        "Training loss",
        "loss (nats per token)",
        "Running means. Losses are comparable only between runs with the same vocabulary: longer tokens are harder to "
        "predict.",
    ),
)
OTHER_CAPTION = "The same curve of every run that logged it; running means if there are many values."
MAX_OTHERS = 12  # other curves that are compared


def comparison_figures(histories: Sequence[History], groups: Sequence[SeedGroup]) -> list[FigureSpec]:
    """The figures, in the order of the page."""
    found = [
        FigureSpec("runs", RUNS_TITLE, lambda: runs_table(histories), "Runs"),
        FigureSpec("scores", SCORES_TITLE, lambda: scores(groups), "Runs"),
    ]
    if cpu_gpu_pairs(histories):
        title = "The same training on a CPU and on a GPU"
        found.append(FigureSpec("speed_up", title, lambda: speed_up(histories), "Runs"))
    found += [_spec(groups, curve) for curve in CURVES if _in_several_runs(histories, curve.column)]
    for column in _other_columns(histories)[:MAX_OTHERS]:
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in column.lower()) + "_by_run"
        found.append(_spec(groups, ComparedCurve(column, name, column, column.split("/")[-1], OTHER_CAPTION)))
    return found + scaling_figures(histories)


def _spec(groups: Sequence[SeedGroup], curve: ComparedCurve) -> FigureSpec:
    return FigureSpec(curve.name, curve.title, lambda: overlay(groups, *curve), "Curves")


def _in_several_runs(histories: Sequence[History], column: str) -> bool:
    return sum(len(history.curve(column).x) > 1 for history in histories) > 1


def _other_columns(histories: Sequence[History]) -> list[str]:
    names = dict.fromkeys(name for history in histories for name in history.names)
    return [name for name in names if not is_covered(name) and _in_several_runs(histories, name)]


def warnings(histories: Sequence[History]) -> list[str]:
    """The reasons why the runs may not be comparable."""
    found = []
    texts: dict[object, list[str]] = {}
    for history in histories:
        texts.setdefault(history.run.summary.get("corpus_fingerprint"), []).append(history.run.label)
    known = {text: labels for text, labels in texts.items() if text is not None}
    if len(known) > 1:
        runs_by_text = "; ".join(f"{text}: {_list(labels)}" for text, labels in known.items())
        found.append(
            "These runs were trained and scored on different texts, so their scores are not comparable. "
            f"(Corpus fingerprints: {runs_by_text}.)"
        )
    if None in texts:
        found.append(f"The text that these runs were trained on is not known: {_list(texts[None])}.")
    stages = {history.run.stage for history in histories}
    if len(stages) > 1:
        found.append(f"These runs are of different training stages ({', '.join(sorted(stages))}).")
    unfinished = [history.run.label for history in histories if not history.run.complete]
    if unfinished:
        found.append(f"Not finished, so their last scores are from the middle of training: {_list(unfinished)}.")
    devices = {str(device) for history in histories if (device := history.run.summary.get("device"))}
    if len(devices) > 1:
        found.append(
            f"These runs used different devices, so their times are not comparable: {'; '.join(sorted(devices))}."
        )
    vocab_sizes = {history.setting("data", "vocab_size") for history in histories} - {None}
    if len(vocab_sizes) > 1:
        found.append("Their vocabulary sizes differ: compare bits per byte, not losses per token.")
    problems = [f"{history.run.label}: {problem}" for history in histories for problem in history.run.problems]
    return found + problems


def _list(labels: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(labels) - limit} more" if len(labels) > limit else ""
    return ", ".join(labels[:limit]) + more


def description(histories: Sequence[History], groups: Sequence[SeedGroup]) -> str:
    """One sentence: the number of runs and groups."""
    largest = max(len(group.histories) for group in groups)
    if len(groups) == 1:
        return f"{len(histories)} runs that differ only in their seed."
    if largest > 1:
        return f"{len(histories)} runs in {len(groups)} groups; the runs of a group differ only in their seed."
    return f"A comparison of {len(histories)} runs."
