"""CORE as a group of `evaluate`: a bundle's tasks one after the other, those that are finished kept, and the table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from tqdm import tqdm

from nanochat.evaluation.bundle import CORE_TASKS, Bundle, CoreTask
from nanochat.evaluation.bundle_download import find_bundle
from nanochat.evaluation.core import CoreScore, TaskScore, number_of_items, score_task
from nanochat.evaluation.distributed import gather, rank, world_size
from nanochat.evaluation.formatting import percents, wrapped
from nanochat.evaluation.groups import Asked, Report
from nanochat.evaluation.results_file import Finished, content_of, path_beside
from nanochat.evaluation.scoring import Judge
from nanochat.options import at_least
from nanochat.text_table import format_table

HEADER = ("task", "score", "chance", "centred", "95% CI", "items")


def evaluate(asked: Asked) -> Report:
    """Scores a model on CORE.

    The options are "bundle", a folder or a zip file; "precision", "32" or "bf16"; "batch_tokens".

    Raises:
        ValueError: if the bundle is not to be had, is broken, or lacks a task that is asked for by name.
    """
    at_least(1, max_per_task=asked.max_per_task, batch_tokens=asked.options.get("batch_tokens"))
    bundle = _bundle(asked)
    tasks = _chosen(bundle, asked.tasks)
    precision = asked.options.get("precision") or default_precision(asked.gpt.device)
    if bundle.others:
        asked.say(f"{bundle.folder}: {', '.join(bundle.others)} is none of CORE's tasks, and left out")
    conditions = {
        "model": content_of(asked.checkpoint),
        "max_per_task": asked.max_per_task,
        "precision": precision,
        "device": asked.gpt.device.type,
    }
    about = {"checkpoint": asked.checkpoint.name}
    finished = Finished(path_beside(asked.checkpoint), "core", conditions, about)
    judge = Judge(asked.gpt, asked.options.get("batch_tokens"))
    device, started = asked.gpt.device.type, time.monotonic()
    with torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext():
        score = _score(judge, asked, bundle, tasks, finished)
    facts = as_facts(score)
    if rank() == 0 and len(tasks) == len(bundle.tasks):
        finished.close(facts)
    seconds = time.monotonic() - started
    return Report(as_table(score, bundle), {**facts, "seconds": seconds, "written": str(finished.path)})


def default_precision(device: torch.device) -> str:
    """bfloat16 on a GPU, which is several times as quick there, as nanochat does it; else float32."""
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"


def _bundle(asked: Asked) -> Bundle:
    """The bundle; of several processes on a machine the first fetches it, if it has to be fetched."""
    found = find_bundle(asked.options.get("bundle")) if rank() == 0 else None
    gather(found is not None)
    return found or find_bundle(asked.options.get("bundle"))


def _chosen(bundle: Bundle, names: Sequence[str]) -> list[CoreTask]:
    have = {task.name: task for task in bundle.tasks}
    absent = [name for name in names if name not in have]
    if absent:
        raise ValueError(f"{bundle.folder} has no {', '.join(absent)}: it has {', '.join(have)}")
    return [task for task in bundle.tasks if not names or task.name in names]


def _score(judge: Judge, asked: Asked, bundle: Bundle, tasks: Sequence[CoreTask], finished: Finished) -> CoreScore:
    contents = {task.name: bundle.fingerprint(task) for task in tasks}
    known = {name: facts for name, content in contents.items() if (facts := finished.known(name, content)) is not None}
    known = gather(known)[0]  # the first process' word: the others may not see its files
    left = [task for task in tasks if task.name not in known]
    if known:
        asked.say(f"{len(known)} of {len(tasks)} tasks are finished already: {finished.path}")
    total = sum(number_of_items(task, asked.max_per_task) for task in left)
    scores = {name: TaskScore.from_facts(name, facts) for name, facts in known.items()}
    with tqdm(
        total=total, unit="item", dynamic_ncols=True, leave=False, file=sys.stderr, disable=rank() > 0 or not total
    ) as bar:
        for task in left:
            bar.set_description(task.name)
            score = score_task(judge, asked.tokenizer, task, asked.max_per_task, bar.update)
            scores[task.name] = score
            if rank() == 0:
                finished.add(task.name, contents[task.name], score.facts())
    return CoreScore([scores[task.name] for task in tasks], asked.max_per_task)


def as_facts(score: CoreScore) -> dict[str, object]:
    """The figure and the tasks, for a JSON file."""
    return {
        "name": score.label,
        "value": score.value,
        "interval": list(score.interval),
        "missing": list(score.missing),
        "processes": world_size(),
        "tasks": {task.name: task.facts() for task in score.tasks},
    }


def as_table(score: CoreScore, bundle: Bundle | None = None) -> str:
    """The tasks, a line each, and the figure; no line is longer than a terminal's 80 columns."""
    rows = [
        (
            task.name,
            f"{task.accuracy:.1%}",
            f"{task.baseline:.1%}",
            f"{task.centred:+.3f}",
            percents(task.interval),
            f"{task.items:,}",
        )
        for task in score.tasks
    ]
    low, high = score.interval
    lines = [format_table([HEADER, *rows], right=range(1, len(HEADER))), ""]
    lines += wrapped(f"{score.label}: {score.value:.4f} (95% interval {low:.4f} to {high:.4f})")
    if score.missing:
        where = "" if bundle is None or any(n not in bundle.missing for n in score.missing) else f" in {bundle.folder}"
        verb = "is" if len(score.missing) == 1 else "are"
        mean = f"Not CORE itself, which is the mean of {len(CORE_TASKS)}"
        lines += wrapped(f"{mean}: missing{where} {verb} {_listed(score.missing)}")
    return "\n".join(lines)


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
