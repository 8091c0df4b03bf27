"""The ``Stage`` record of a report card, read from the files of a run, even if some are missing or damaged."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.reporting.lineage import LineageStage
from nanochat.reporting.schema import Stage
from nanochat.runs import SUMMARY, Run

ACTIVE_SECONDS = 600.0  # an unfinished run whose files changed within this time is taken to be still training
SUMMED = ("tokens", "flops", "seconds", "training_seconds", "dollars")
COUNTS = ("parameters", "steps", "tokens", "flops_per_token", "peak_memory_bytes", "peak_gpu_memory_bytes", "devices")
MEASURES = ("seconds", "training_seconds", "tokens_per_second", "mfu", "val_bpb", "best_val_bpb")


def describe_stage(stage: LineageStage, dollars_per_hour: float | None = None, now: float | None = None) -> Stage:
    """The record of a stage.

    Args:
        stage: of a lineage.
        dollars_per_hour: the price of the machine; None if unknown.
        now: in seconds since 1970; None reads the clock.
    """
    run, summary = stage.run, stage.run.summary
    figures: dict[str, float | int | None] = {name: get_number(summary, name) for name in (*COUNTS, *MEASURES)}
    resumed = _update_from_metrics(run, figures)
    accuracies = run.curve("val/accuracy")[1]  # of reinforcement learning
    figures["val_accuracy"] = accuracies[-1] if accuracies else None
    finished = run.complete and not resumed
    tokens, flops_per_token, seconds = figures["tokens"], figures["flops_per_token"], figures["seconds"]
    figures["flops"] = tokens * flops_per_token if tokens is not None and flops_per_token is not None else None
    figures["dollars"] = None
    if dollars_per_hour is not None and seconds is not None:
        figures["dollars"] = seconds / 3600 * dollars_per_hour
    damaged = any(problem.startswith(SUMMARY) for problem in run.problems)
    active = not damaged and (time.time() if now is None else now) - run.updated < ACTIVE_SECONDS
    tasks = get_mapping(summary, "tasks")
    return {
        "label": stage.label,
        "stage": run.stage,
        "run": run.label,
        "folder": str(run.folder),
        "state": "finished" if finished else "training" if active else "interrupted",
        "started": iso_time(run.started),
        "updated": iso_time(run.updated),
        "began_with": run.started_from,
        "by_name": stage.by_name,
        "figures": figures,
        "tasks": {str(name): accuracy for name in tasks if (accuracy := get_number(tasks, name)) is not None},
        "device": get_text(summary, "device"),
        "precision": get_text(summary, "precision"),
        "corpus": get_text(summary, "corpus"),
        "corpus_fingerprint": get_text(summary, "corpus_fingerprint"),
        "versions": to_json_values(get_mapping(summary, "versions")),
        "machine": to_json_values(get_mapping(summary, "machine")),
        "code": to_json_values(get_mapping(summary, "code")),
        "config": to_json_values(run.config),
        "problems": list(run.problems),
    }


def _update_from_metrics(run: Run, figures: dict[str, float | int | None]) -> bool:
    """Replaces figures by those of ``metrics.csv`` where it has later steps than the summary.

    Returns:
        Whether the run was resumed after its summary had been written.
    """
    steps, tokens = run.curve("tokens")
    last = int(steps[-1]) + 1 if steps else 0
    summarised = figures["steps"]
    if not last or (summarised is not None and last <= summarised):
        return False
    figures["steps"], figures["tokens"] = last, int(tokens[-1])
    seconds = run.curve("seconds")[1]
    figures["seconds"] = seconds[-1] if seconds else None
    for name in ("training_seconds", "tokens_per_second", "mfu", "peak_memory_bytes", "peak_gpu_memory_bytes"):
        figures[name] = None  # the summary's value, if any, is of an earlier step
    subset = run.curve("val/bpb")[1]
    full_steps, full = run.curve("val/bpb_all")
    is_scored_in_full = bool(full_steps) and full_steps[-1] == steps[-1]
    figures["val_bpb"] = full[-1] if is_scored_in_full else subset[-1] if subset else None
    figures["best_val_bpb"] = min(subset, default=None)
    return summarised is not None


def totals(stages: Sequence[Stage]) -> tuple[dict[str, float | int | None], dict[str, list[str]]]:
    """Sums over the stages; and for each sum, the labels of the stages that lack the figure."""
    sums: dict[str, float | int | None] = {}
    lacking = {}
    for name in SUMMED:
        known = [value for stage in stages if (value := stage["figures"][name]) is not None]
        sums[name] = sum(known) if known else None
        lacking[name] = [stage["label"] for stage in stages if stage["figures"][name] is None]
    return sums, lacking


def to_json_values(value: Any, max_depth: int = 20) -> Any:
    """A value read from YAML as one that JSON can hold: dates and infinities become text.

    Containers nested deeper than ``max_depth`` (such as a list that contains itself) become None.
    """
    if max_depth == 0:
        return None
    if isinstance(value, dict):
        return {str(name): to_json_values(each, max_depth - 1) for name, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_json_values(each, max_depth - 1) for each in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def get_number(values: Mapping[str, Any], name: str) -> float | int | None:
    """The value of a name if it is a finite number, else None."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def get_text(values: Mapping[str, Any], name: str) -> str | None:
    """The value of a name if it is a non-empty text, else None."""
    value = values.get(name)
    return value if isinstance(value, str) and value else None


def get_mapping(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The value of a name if it is a mapping, else an empty one."""
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def iso_time(seconds: float) -> str:
    """A time in seconds since 1970 as local time in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
