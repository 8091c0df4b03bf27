"""What a stage took and what came of it, from the files of its run, whatever state they are in."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.reporting.lineage import LineageStage
from nanochat.reporting.schema import Stage
from nanochat.runs import SUMMARY, Run

RECENT = 600.0  # seconds since a run was last written to, within which it is taken to be training still
SUMMED = ("tokens", "flops", "seconds", "training_seconds", "dollars")
COUNTS = ("parameters", "steps", "tokens", "flops_per_token", "peak_memory_bytes", "peak_gpu_memory_bytes", "devices")
MEASURES = ("seconds", "training_seconds", "tokens_per_second", "mfu", "val_bpb", "best_val_bpb")


def describe_stage(chapter: LineageStage, dollars_per_hour: float | None = None, now: float | None = None) -> Stage:
    """The facts of a stage.

    Args:
        chapter: of a life.
        dollars_per_hour: what the machine costs; None if that is not known.
        now: in seconds since 1970; None asks the clock.
    """
    run, summary = chapter.run, chapter.run.summary
    figures: dict[str, float | int | None] = {name: number(summary, name) for name in (*COUNTS, *MEASURES)}
    went_on = _take_curves(run, figures)
    accuracies = run.curve("val/accuracy")[1]  # of reinforcement learning
    figures["val_accuracy"] = accuracies[-1] if accuracies else None
    finished = run.complete and not went_on
    tokens, each, seconds = figures["tokens"], figures["flops_per_token"], figures["seconds"]
    figures["flops"] = tokens * each if tokens is not None and each is not None else None
    priced = dollars_per_hour is not None and seconds is not None
    figures["dollars"] = seconds / 3600 * dollars_per_hour if priced else None  # type: ignore[operator]
    damaged = any(problem.startswith(SUMMARY) for problem in run.problems)
    recent = not damaged and (time.time() if now is None else now) - run.updated < RECENT
    tasks = mapping(summary, "tasks")
    return {
        "label": chapter.label,
        "stage": run.stage,
        "run": run.label,
        "folder": str(run.folder),
        "state": "finished" if finished else "training" if recent else "interrupted",
        "started": iso_time(run.started),
        "updated": iso_time(run.updated),
        "began_with": run.started_from,
        "by_name": chapter.by_name,
        "figures": figures,
        "tasks": {str(name): share for name in tasks if (share := number(tasks, name)) is not None},
        "device": text(summary, "device"),
        "precision": text(summary, "precision"),
        "corpus": text(summary, "corpus"),
        "corpus_fingerprint": text(summary, "corpus_fingerprint"),
        "versions": plain_values(mapping(summary, "versions")),
        "machine": plain_values(mapping(summary, "machine")),
        "code": plain_values(mapping(summary, "code")),
        "config": plain_values(run.config),
        "problems": list(run.problems),
    }


def _take_curves(run: Run, figures: dict[str, float | int | None]) -> bool:
    """Takes from ``metrics.csv`` what the summary does not say; returns whether the run went on since its summary."""
    steps, tokens = run.curve("tokens")
    last = int(steps[-1]) + 1 if steps else 0
    said = figures["steps"]
    if not last or (said is not None and last <= said):
        return False
    figures["steps"], figures["tokens"] = last, int(tokens[-1])
    seconds = run.curve("seconds")[1]
    figures["seconds"] = seconds[-1] if seconds else None
    for name in ("training_seconds", "tokens_per_second", "mfu", "peak_memory_bytes", "peak_gpu_memory_bytes"):
        figures[name] = None  # of an earlier end, if there was one
    scores = run.curve("val/bpb")[1]
    whole_steps, whole = run.curve("val/bpb_all")
    end_of_training = bool(whole_steps) and whole_steps[-1] == steps[-1]
    figures["val_bpb"] = whole[-1] if end_of_training else scores[-1] if scores else None
    figures["best_val_bpb"] = min(scores, default=None)
    return said is not None


def totals(stages: Sequence[Stage]) -> tuple[dict[str, float | int | None], dict[str, list[str]]]:
    """Sums over the stages; and, for each of them, the stages that lack the figure."""
    sums: dict[str, float | int | None] = {}
    lacking = {}
    for name in SUMMED:
        known = [value for stage in stages if (value := stage["figures"][name]) is not None]
        sums[name] = sum(known) if known else None
        lacking[name] = [stage["label"] for stage in stages if stage["figures"][name] is None]
    return sums, lacking


def plain_values(value: Any, depth: int = 20) -> Any:
    """What JSON can hold of what YAML can say: no dates, no infinities, no lists that hold themselves."""
    if depth == 0:
        return None
    if isinstance(value, dict):
        return {str(name): plain_values(each, depth - 1) for name, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain_values(each, depth - 1) for each in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def number(facts: Mapping[str, Any], name: str) -> float | int | None:
    """A number out of a file that anybody may have written to; None if it is not one."""
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def text(facts: Mapping[str, Any], name: str) -> str | None:
    """A text; None if it is not one."""
    value = facts.get(name)
    return value if isinstance(value, str) and value else None


def mapping(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Names with values; none if it is not that."""
    value = facts.get(name)
    return value if isinstance(value, dict) else {}


def iso_time(seconds: float) -> str:
    """A time in seconds since 1970 as ISO 8601, local."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
