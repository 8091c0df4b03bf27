"""CORE and the chat scores of a stage, from the ``evaluation.json`` of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanochat.evaluation.bundle import CORE_TASKS
from nanochat.evaluation.chat_core import CHATCORE_TASKS, OFFLINE_TASKS, ChatScore, ChatTaskScore
from nanochat.evaluation.core import CoreScore, CoreTaskScore
from nanochat.evaluation.results_file import FORMAT, file_hash
from nanochat.reporting.schema import Score
from nanochat.runs import Run

ORDER = {"core": CORE_TASKS, "chat": (*CHATCORE_TASKS, *OFFLINE_TASKS)}


def score_of(run: Run, group: str) -> tuple[Score | None, str | None]:
    """The fullest score of a group of tasks that belongs to a run's checkpoint.

    Args:
        run: that was scored, or not.
        group: "core" or "chat".

    Returns:
        The score, of the last checkpoint if there is one of that, else of the best; and what is to be said if there is
        none: why.
    """
    entries = [entry for entry in _entries(run) if entry.get("group") == group and entry.get("format") == FORMAT]
    scores = [(entry, score) for entry in entries if (score := _score(entry, group)) is not None]
    if not scores:
        return None, "it was not scored"
    for name in ("last", "best", "previous"):
        path = run.checkpoints.get(name)
        content = file_hash(path) if path is not None else None
        mine = [
            (score, str(entry.get("time")))
            for entry, score in scores
            if content is not None and _conditions(entry).get("model") == content
        ]
        if mine:
            fullest = max(mine, key=lambda pair: _fullness(*pair))[0]
            return {**fullest, "checkpoint": f"{name}.ckpt"}, None
    if not run.checkpoints:
        fullest = max(scores, key=lambda pair: _fullness(pair[1], str(pair[0].get("time"))))[1]
        return fullest, None  # nothing says that it is of another state than the last
    return None, "what was scored is an earlier state of this run"


def _fullness(score: Score, time: str) -> tuple[bool, int, float, str]:
    asked = sum(task["items"] for task in score["tasks"].values())
    return score["whole"], len(score["tasks"]), asked, time


def _entries(run: Run) -> list[dict[str, Any]]:
    entries = run.evaluation.get("evaluations")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _conditions(entry: Mapping[str, Any]) -> dict[str, Any]:
    conditions = entry.get("conditions")
    return conditions if isinstance(conditions, dict) else {}


def _score(entry: Mapping[str, Any], group: str) -> Score | None:
    """Reckoned anew from the tasks' counts, so that its name says what it is; None if no task is in it."""
    tasks = entry.get("tasks")
    most = _conditions(entry).get("max_per_task")
    most = most if isinstance(most, int) else None
    make = CoreTaskScore.from_dict if group == "core" else ChatTaskScore.from_dict
    made: list[Any] = []
    for name in ORDER[group]:
        facts = tasks.get(name) if isinstance(tasks, dict) else None
        try:
            task: Any = make(name, facts) if isinstance(facts, dict) else None
            if task is not None and task.items > 0 and 0 <= task.accuracy <= 1:
                made.append(task)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue  # a damaged one is none
    if not made:
        return None
    score: CoreScore | ChatScore = CoreScore(made, most) if group == "core" else ChatScore(made, most)
    value, interval, missing = score.value, score.interval, list(score.missing)
    return {
        "name": score.label,
        "whole": value is not None and not missing and most is None,
        "value": value,
        "interval": list(interval) if interval is not None else None,
        "missing": missing,
        "max_per_task": most,
        "checkpoint": str(entry.get("checkpoint")),
        "seconds": sum(task.seconds for task in made),
        "tasks": {task.name: _facts(task) for task in made},
    }


def _facts(task: CoreTaskScore | ChatTaskScore) -> dict[str, Any]:
    return {
        "accuracy": task.accuracy,
        "chance": task.baseline if isinstance(task, CoreTaskScore) else task.chance,
        "centred": task.centred,
        "interval": list(task.interval),
        "items": task.items,
    }
