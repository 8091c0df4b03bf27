"""Scores the tasks of a group one after the other; results are stored at once, and stored ones are not repeated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from tqdm import tqdm

from nanochat.evaluation.chat_core import ChatScore
from nanochat.evaluation.core import CoreScore
from nanochat.evaluation.distributed import all_gather, rank, world_size
from nanochat.evaluation.groups import EvaluationRequest
from nanochat.evaluation.results_file import ResultsFile, file_hash, results_path

OnDone = Callable[[int], object]


class Named(Protocol):
    """A task that is to be scored."""

    @property
    def name(self) -> str: ...


class Storable(Protocol):
    """A task's score that can be stored as plain values."""

    def to_dict(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Named)
S = TypeVar("S", bound=Storable)


def default_precision(device: torch.device) -> str:
    """bfloat16 on a GPU that supports it, where it is several times faster (nanochat uses it too); else float32."""
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"


def open_results(request: EvaluationRequest, group: str, precision: str) -> ResultsFile:
    """The results file of the request's checkpoint."""
    conditions = {
        "model": file_hash(request.checkpoint),
        "max_per_task": request.max_per_task,
        "precision": precision,
        "device": request.gpt.device.type,
    }
    return ResultsFile(results_path(request.checkpoint), group, conditions, {"checkpoint": request.checkpoint.name})


def score_tasks(
    tasks: Sequence[T],
    fingerprints: Mapping[str, str],
    results: ResultsFile,
    say: Callable[[str], object],
    score: Callable[[T, OnDone], S],
    load: Callable[[str, dict[str, Any]], S],
    count_items: Callable[[T], int],
) -> list[S]:
    """The scores of all tasks: the stored ones from the file, the others computed and stored.

    All processes must call it.

    Args:
        tasks: the tasks.
        fingerprints: hash of each task's content, by name.
        results: where scores are stored.
        say: prints a line.
        score: scores a task and calls ``on_done`` with the number of items newly finished.
        load: makes a score from a task's name and its stored values.
        count_items: number of items of a task, for the progress bar.
    """
    stored = {name: values for name, content in fingerprints.items() if (values := results.get(name, content))}
    stored = all_gather(stored)[0]  # rank 0 decides, as other machines may not see its files
    if stored:
        say(f"{len(stored)} of {len(tasks)} tasks are already scored: {results.path}")
    scores = {name: load(name, values) for name, values in stored.items()}
    remaining = [task for task in tasks if task.name not in stored]
    total = sum(map(count_items, remaining))
    with tqdm(
        total=total, unit="item", dynamic_ncols=True, leave=False, file=sys.stderr, disable=rank() > 0 or not total
    ) as bar:
        for task in remaining:
            bar.set_description(task.name)
            scores[task.name] = score(task, bar.update)
            if rank() == 0:
                results.add(task.name, fingerprints[task.name], scores[task.name].to_dict())
    return [scores[task.name] for task in tasks]


def summarize(score: CoreScore | ChatScore) -> dict[str, Any]:
    """The score of a group and those of its tasks as plain values for a JSON file."""
    return {
        "name": score.label,
        "value": score.value,
        "interval": list(score.interval) if score.interval is not None else None,
        "missing": list(score.missing),
        "processes": world_size(),
        "tasks": {task.name: task.to_dict() for task in score.tasks},
    }
