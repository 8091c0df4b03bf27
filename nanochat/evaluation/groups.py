"""What can be asked of `evaluate`: groups of tasks, and single ones of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nanochat.evaluation.bundle import CORE_TASKS
from nanochat.evaluation.chat_core import CHAT_CORE, OFFLINE
from nanochat.model import GPT
from nanochat.options import did_you_mean
from nanochat.tokenizer import Tokenizer


class Group(NamedTuple):
    """Tasks that make a figure together.

    Attributes:
        what: in words.
        tasks: their names, each of which may be asked for by itself.
        chat: whether they are asked of a model that was fine-tuned to answer.
        module: whose ``evaluate(asked)`` scores them; imported only when it is needed.
    """

    what: str
    tasks: tuple[str, ...]
    chat: bool
    module: str


GROUPS: dict[str, Group] = {
    "core": Group("the 22 tasks of CORE", CORE_TASKS, False, "nanochat.evaluation.evaluate_core"),
    "chat": Group(
        "the six tasks of ChatCORE, and those of fine-tuning beside them",
        (*CHAT_CORE, *OFFLINE),
        True,
        "nanochat.evaluation.evaluate_chat",
    ),
}


@dataclass(frozen=True)
class Asked:
    """What is to be scored, and how.

    Attributes:
        gpt: the model, where it is to run.
        tokenizer: its tokenizer.
        checkpoint: the file that it comes from.
        tasks: of the group; empty for all of them.
        max_per_task: how many items of each at most; None for all.
        options: what is for one group only, such as "bundle".
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
    """What came of a group.

    Attributes:
        text: the table that a user sees.
        facts: plain values, for a JSON file.
    """

    text: str
    facts: dict[str, Any]


def choose(words: str) -> dict[str, tuple[str, ...]]:
    """The groups that are asked for, each with the tasks of it, or with none for all of them.

    Args:
        words: names of groups and of tasks, with commas between them.

    Raises:
        ValueError: if there is no such name.
    """
    chosen: dict[str, tuple[str, ...]] = {}
    whole = set()
    for word in filter(None, (word.strip() for word in words.split(","))):
        if word in GROUPS:
            chosen[word] = ()
            whole.add(word)
            continue
        group = next((name for name, group in GROUPS.items() if word in group.tasks), None)
        if group is None:
            names = [*GROUPS, *(task for group in GROUPS.values() for task in group.tasks)]
            hint = did_you_mean(word, names) or f" ({', '.join(GROUPS)}, or one of their tasks)"
            raise ValueError(f"--tasks={words}: there is no {word}{hint}")
        if group not in whole:
            chosen[group] = (*chosen.get(group, ()), word)
    if not chosen:
        raise ValueError(f"--tasks names nothing to score: {', '.join(GROUPS)}, or one of their tasks")
    return chosen


def evaluate(group: str, asked: Asked) -> Report:
    """Scores a group's tasks."""
    report: Report = importlib.import_module(GROUPS[group].module).evaluate(asked)
    return report
