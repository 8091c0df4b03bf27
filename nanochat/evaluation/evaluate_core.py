"""The "core" group of `evaluate`: scores a model on the tasks of a CORE bundle and makes the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from nanochat.evaluation.bundle import CORE_TASKS, Bundle, CoreTask
from nanochat.evaluation.bundle_download import find_bundle
from nanochat.evaluation.core import CoreScore, CoreTaskScore, number_of_items, score_task
from nanochat.evaluation.distributed import all_gather, rank
from nanochat.evaluation.formatting import format_interval, wrap
from nanochat.evaluation.groups import EvaluationRequest, Report
from nanochat.evaluation.score_tasks import OnDone, default_precision, open_results, score_tasks, summarize
from nanochat.evaluation.scoring import Judge
from nanochat.options import at_least
from nanochat.text_table import format_table

HEADER = ("task", "score", "chance", "centred", "95% CI", "items")


def evaluate(request: EvaluationRequest) -> Report:
    """Scores a model on CORE.

    The options are "bundle", a folder or a zip file; "precision", "32" or "bf16"; and "batch_tokens".

    Raises:
        ValueError: if the bundle cannot be read or downloaded, or lacks a task that is requested by name.
    """
    batch_tokens = request.options.get("batch_tokens")
    at_least(1, max_per_task=request.max_per_task, batch_tokens=batch_tokens)
    bundle = _find_bundle(request)
    tasks = _select(bundle, request.tasks)
    if bundle.unknown:
        request.say(f"{bundle.folder}: skipping {', '.join(bundle.unknown)}, not part of CORE")
    device = request.gpt.device
    precision = request.options.get("precision") or default_precision(device)
    results = open_results(request, "core", precision)
    judge = Judge(request.gpt, batch_tokens)
    started = time.monotonic()

    def score(task: CoreTask, on_done: OnDone) -> CoreTaskScore:
        return score_task(judge, request.tokenizer, task, request.max_per_task, on_done)

    with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
        scores = score_tasks(
            tasks,
            {task.name: bundle.fingerprint(task) for task in tasks},
            results,
            request.say,
            score,
            CoreTaskScore.from_dict,
            lambda task: number_of_items(task, request.max_per_task),
        )
    core = CoreScore(scores, request.max_per_task)
    summary = summarize(core)
    if rank() == 0 and len(tasks) == len(bundle.tasks):
        results.add_summary(summary)
    seconds = time.monotonic() - started
    return Report(score_table(core, bundle), {**summary, "seconds": seconds, "written": str(results.path)})


def _find_bundle(request: EvaluationRequest) -> Bundle:
    """The bundle. Rank 0 opens it first, so that only one process downloads it."""
    given = request.options.get("bundle")
    bundle = find_bundle(given) if rank() == 0 else None
    all_gather(bundle is not None)
    return bundle or find_bundle(given)


def _select(bundle: Bundle, names: Sequence[str]) -> list[CoreTask]:
    present = {task.name: task for task in bundle.tasks}
    absent = [name for name in names if name not in present]
    if absent:
        raise ValueError(f"{bundle.folder} has no {', '.join(absent)}: it has {', '.join(present)}")
    return [task for task in bundle.tasks if not names or task.name in names]


def score_table(score: CoreScore, bundle: Bundle | None = None) -> str:
    """A table with a line for each task, followed by the mean; at most 80 columns wide."""
    rows = [
        (
            task.name,
            f"{task.accuracy:.1%}",
            f"{task.baseline:.1%}",
            f"{task.centred:+.3f}",
            format_interval(task.interval),
            f"{task.items:,}",
        )
        for task in score.tasks
    ]
    low, high = score.interval
    lines = [format_table([HEADER, *rows], right=range(1, len(HEADER))), ""]
    lines += wrap(f"{score.label}: {score.value:.4f} (95% interval {low:.4f} to {high:.4f})")
    if score.missing:
        where = "" if bundle is None or any(n not in bundle.missing for n in score.missing) else f" in {bundle.folder}"
        mean = f"This is not CORE, which is the mean of {len(CORE_TASKS)} tasks"
        lines += wrap(f"{mean}. Missing{where}: {_join(score.missing)}")
    return "\n".join(lines)


def _join(names: Sequence[str], limit: int = 6) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
