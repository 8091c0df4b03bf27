"""CORE: the mean, over 22 tasks, of how far a model is above chance (DCLM, arXiv 2406.11794)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nanochat.evaluation.bundle import CORE_TASKS, Bundle, CoreTask
from nanochat.evaluation.confidence_intervals import Interval, of_accuracy, of_mean
from nanochat.evaluation.distributed import gather, rank, world_size
from nanochat.evaluation.prompts import questions
from nanochat.evaluation.scoring import Judge
from nanochat.tokenizer import Tokenizer

AT_ONCE = 500  # questions whose prompts are in memory at the same time


@dataclass(frozen=True)
class TaskScore:
    """How a model did in one task.

    Attributes:
        name: of the task.
        right: how many answers were right.
        items: of how many.
        baseline: the accuracy of chance.
        kind: multiple choice, schema or language modelling, as the bundle calls it.
        shots: solved examples before each question.
        seconds: that it took.
    """

    name: str
    right: int
    items: int
    baseline: float
    kind: str
    shots: int
    seconds: float = 0.0

    @property
    def accuracy(self) -> float:
        return self.right / self.items

    @property
    def centred(self) -> float:
        """0 at chance, 1 if everything is right."""
        return (self.accuracy - self.baseline) / (1 - self.baseline)

    @property
    def interval(self) -> Interval:
        """Of the accuracy."""
        return of_accuracy(self.right, self.items)

    def facts(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "right": self.right,
            "items": self.items,
            "accuracy": self.accuracy,
            "baseline": self.baseline,
            "centred": self.centred,
            "interval": list(self.interval),
            "kind": self.kind,
            "shots": self.shots,
            "seconds": round(self.seconds, 2),
        }

    @classmethod
    def from_facts(cls, name: str, facts: dict[str, Any]) -> TaskScore:
        """The inverse of :meth:`facts`."""
        counts = (int(facts["right"]), int(facts["items"]))
        return cls(
            name, *counts, float(facts["baseline"]), str(facts["kind"]), int(facts["shots"]), float(facts["seconds"])
        )


@dataclass(frozen=True)
class CoreScore:
    """The tasks' scores together.

    Attributes:
        tasks: at least one.
        max_per_task: the cap that they were scored under.
    """

    tasks: Sequence[TaskScore]
    max_per_task: int | None = None
    missing: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        have = {task.name for task in self.tasks}
        object.__setattr__(self, "missing", tuple(name for name in CORE_TASKS if name not in have))

    @property
    def value(self) -> float:
        """The mean of the centred accuracies."""
        return sum(task.centred for task in self.tasks) / len(self.tasks)

    @property
    def interval(self) -> Interval:
        return of_mean([(task.centred, task.interval.centred(task.baseline)) for task in self.tasks])

    @property
    def label(self) -> str:
        """What the figure may be called: CORE alone only if it is that."""
        label = "CORE"
        if self.missing:
            label += f" over {len(self.tasks)} of {len(CORE_TASKS)} tasks"
        if self.max_per_task is not None:
            label += f", {self.max_per_task:,} items of each at most"
        return label


def score_task(
    judge: Judge,
    tokenizer: Tokenizer,
    task: CoreTask,
    max_per_task: int | None = None,
    on_done: Callable[[int], object] | None = None,
) -> TaskScore:
    """Scores one task. Several processes deal its items out among themselves.

    Args:
        judge: with the model.
        tokenizer: the model's.
        task: of a bundle.
        max_per_task: how many of its lines, from the first of the shuffled ones; None for all.
        on_done: is told, as it goes, how many more items are done, in all processes together.
    """
    started = time.perf_counter()
    items = number_of_items(task, max_per_task)
    # the processes of a sharded model must all make the same calls
    apart = world_size() if judge.is_whole else 1
    mine = range(rank() if apart > 1 else 0, items, apart)
    right = 0
    for begin in range(0, len(mine), AT_ONCE):
        some = mine[begin : begin + AT_ONCE]
        asked = questions(task, tokenizer, judge.gpt.context, some)
        right += sum(judge.answers(asked, on_done and (lambda done: on_done(done * apart))))
    if apart > 1:
        right = sum(gather(right))
    seconds = time.perf_counter() - started
    return TaskScore(task.name, right, items, task.baseline, task.kind, task.shots, seconds)


def number_of_items(task: CoreTask, max_per_task: int | None) -> int:
    """How many of a task's lines are scored."""
    return len(task.lines) if max_per_task is None else min(max_per_task, len(task.lines))


def score_core(
    judge: Judge,
    tokenizer: Tokenizer,
    bundle: Bundle,
    max_per_task: int | None = None,
    on_done: Callable[[int], object] | None = None,
) -> CoreScore:
    """Scores all tasks of a bundle; the arguments are those of :func:`score_task`."""
    return CoreScore([score_task(judge, tokenizer, task, max_per_task, on_done) for task in bundle.tasks], max_per_task)
