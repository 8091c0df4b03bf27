"""Groups of tasks that `evaluate` can score: CORE and the chat tasks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nanochat.evaluation.bundle import CORE_TASKS
from nanochat.evaluation.chat_core import CHATCORE_TASKS, OFFLINE_TASKS
from nanochat.model import GPT
from nanochat.options import did_you_mean
from nanochat.tokenizer import Tokenizer


class Group(NamedTuple):
    """Tasks with a common score.

    Attributes:
        tasks: their names; each can be scored alone.
        is_chat: whether the tasks are for a fine-tuned chat model.
        module: module whose ``evaluate(request)`` scores them; imported only when needed.
    """

    tasks: tuple[str, ...]
    is_chat: bool
    module: str


GROUPS: dict[str, Group] = {
    "core": Group(CORE_TASKS, False, "nanochat.evaluation.evaluate_core"),
    "chat": Group((*CHATCORE_TASKS, *OFFLINE_TASKS), True, "nanochat.evaluation.evaluate_chat"),
}


@dataclass(frozen=True)
class EvaluationRequest:
    """Describes which tasks of a group to score, and with what model and settings.

    Attributes:
        gpt: the model, on the device where it runs.
        tokenizer: its tokenizer.
        checkpoint: file that the model was loaded from.
        tasks: names of tasks in the group; empty for all.
        max_per_task: maximum number of items of each task; None for all.
        options: options of a single group, such as "bundle".
        say: prints a line.
    """

    gpt: GPT
    tokenizer: Tokenizer
    checkpoint: Path
    tasks: tuple[str, ...] = ()
    max_per_task: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], object] = print


class Report(NamedTuple):
    """The result of scoring a group.

    Attributes:
        text: table for the user.
        results: plain values for a JSON file.
    """

    text: str
    results: dict[str, Any]


def parse_tasks(names: str) -> dict[str, tuple[str, ...]]:
    """Maps each requested group to its requested tasks; an empty tuple stands for the whole group.

    Args:
        names: names of groups and tasks, separated by commas.

    Raises:
        ValueError: if a name is unknown or none is given.
    """
    selected: dict[str, tuple[str, ...]] = {}
    whole_groups = set()
    for name in filter(None, (name.strip() for name in names.split(","))):
        if name in GROUPS:
            selected[name] = ()
            whole_groups.add(name)
            continue
        group = next((key for key, group in GROUPS.items() if name in group.tasks), None)
        if group is None:
            known = [*GROUPS, *(task for group in GROUPS.values() for task in group.tasks)]
            hint = did_you_mean(name, known) or f" ({', '.join(GROUPS)}, or one of their tasks)"
            raise ValueError(f"--tasks={names}: there is no {name}{hint}")
        if group not in whole_groups:
            selected[group] = (*selected.get(group, ()), name)
    if not selected:
        raise ValueError(f"--tasks is empty: give {', '.join(GROUPS)}, or names of their tasks")
    return selected


def evaluate(group: str, request: EvaluationRequest) -> Report:
    """Scores the tasks of a group."""
    report: Report = importlib.import_module(GROUPS[group].module).evaluate(request)
    return report
