"""CORE and chat scores of a stage, read from the ``evaluation.json`` of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanochat.evaluation.bundle import CORE_TASKS
from nanochat.evaluation.chat_core import CHATCORE_TASKS, OFFLINE_TASKS, ChatScore, ChatTaskScore
from nanochat.evaluation.core import CoreScore, CoreTaskScore
from nanochat.evaluation.results_file import FORMAT, file_hash
from nanochat.reporting.schema import Score
from nanochat.runs import Run

TASK_ORDER = {"core": CORE_TASKS, "chat": (*CHATCORE_TASKS, *OFFLINE_TASKS)}


def find_score(run: Run, group: str) -> tuple[Score | None, str | None]:
    """The most complete score of a group of tasks that was measured on a checkpoint of the run.

    Args:
        run: the run.
        group: "core" or "chat".

    Returns:
        The score, or None. Scores of the last checkpoint come before those of the best and of the previous one.
        And the reason if there is none.
    """
    entries = [entry for entry in _entries(run) if entry.get("group") == group and entry.get("format") == FORMAT]
    scores = [
        (score, str(entry.get("time")), _conditions(entry).get("model"))
        for entry in entries
        if (score := _score(entry, group)) is not None
    ]
    if not scores:
        return None, "it was not scored"
    if not run.checkpoints:  # no checkpoint contradicts that the score is of the run's last state
        return max(scores, key=lambda found: _completeness(*found[:2]))[0], None
    for name in ("last", "best", "previous"):
        path = run.checkpoints.get(name)
        content = file_hash(path) if path is not None else None
        matching = [found for found in scores if content is not None and found[2] == content]
        if matching:
            score = max(matching, key=lambda found: _completeness(*found[:2]))[0]
            return {**score, "checkpoint": f"{name}.ckpt"}, None
    return None, "the scores are of an earlier checkpoint of this run"


def _completeness(score: Score, time: str) -> tuple[bool, int, float, str]:
    items = sum(task["items"] for task in score["tasks"].values())
    return score["whole"], len(score["tasks"]), items, time


def _entries(run: Run) -> list[dict[str, Any]]:
    entries = run.evaluation.get("evaluations")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _conditions(entry: Mapping[str, Any]) -> dict[str, Any]:
    conditions = entry.get("conditions")
    return conditions if isinstance(conditions, dict) else {}


def _score(entry: Mapping[str, Any], group: str) -> Score | None:
    """The score recomputed from the counts of its tasks; damaged tasks are skipped. None if no task is left."""
    tasks = entry.get("tasks")
    max_per_task = _conditions(entry).get("max_per_task")
    max_per_task = max_per_task if isinstance(max_per_task, int) else None
    from_dict = CoreTaskScore.from_dict if group == "core" else ChatTaskScore.from_dict
    results: list[Any] = []
    for name in TASK_ORDER[group]:
        facts = tasks.get(name) if isinstance(tasks, dict) else None
        try:
            task: Any = from_dict(name, facts) if isinstance(facts, dict) else None
            if task is not None and task.items > 0 and 0 <= task.accuracy <= 1:
                results.append(task)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue
    if not results:
        return None
    score: CoreScore | ChatScore = (
        CoreScore(results, max_per_task) if group == "core" else ChatScore(results, max_per_task)
    )
    value, interval, missing = score.value, score.interval, list(score.missing)
    return {
        "name": score.label,
        "whole": value is not None and not missing and max_per_task is None,
        "value": value,
        "interval": list(interval) if interval is not None else None,
        "missing": missing,
        "max_per_task": max_per_task,
        "checkpoint": str(entry.get("checkpoint")),
        "seconds": sum(task.seconds for task in results),
        "tasks": {task.name: _task_values(task) for task in results},
    }


def _task_values(task: CoreTaskScore | ChatTaskScore) -> dict[str, Any]:
    return {
        "accuracy": task.accuracy,
        "chance": task.baseline if isinstance(task, CoreTaskScore) else task.chance,
        "centred": task.centred,
        "interval": list(task.interval),
        "items": task.items,
    }
