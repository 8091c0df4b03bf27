"""CORE: the mean centred accuracy over 22 tasks (DCLM, arXiv 2406.11794)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nanochat.evaluation.bundle import CORE_TASKS, Bundle, CoreTask
from nanochat.evaluation.confidence_intervals import Interval, mean_interval, wilson_interval
from nanochat.evaluation.distributed import all_gather, rank, world_size
from nanochat.evaluation.prompts import questions
from nanochat.evaluation.scoring import Judge
from nanochat.tokenizer import Tokenizer

CHUNK_SIZE = 500  # questions whose prompts are in memory at the same time


@dataclass(frozen=True)
class CoreTaskScore:
    """The score of a model in one CORE task.

    Attributes:
        name: name of the task.
        right: number of right answers.
        items: number of questions.
        baseline: accuracy at chance.
        kind: ``icl_task_type`` of the bundle: multiple_choice, schema or language_modeling.
        shots: solved examples before each question.
        seconds: duration of the evaluation.
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
        """The centred accuracy: 0 at chance, 1 if every answer is right."""
        return (self.accuracy - self.baseline) / (1 - self.baseline)

    @property
    def interval(self) -> Interval:
        """95% confidence interval of the accuracy."""
        return wilson_interval(self.right, self.items)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
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
    def from_dict(cls, name: str, values: dict[str, Any]) -> CoreTaskScore:
        """The inverse of :meth:`to_dict`."""
        return cls(
            name,
            right=int(values["right"]),
            items=int(values["items"]),
            baseline=float(values["baseline"]),
            kind=str(values["kind"]),
            shots=int(values["shots"]),
            seconds=float(values["seconds"]),
        )


@dataclass(frozen=True)
class CoreScore:
    """The scores of several CORE tasks and their mean.

    Attributes:
        tasks: at least one.
        max_per_task: limit on the items of each task; None for no limit.
        missing: the CORE tasks without a score.
    """

    tasks: Sequence[CoreTaskScore]
    max_per_task: int | None = None
    missing: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        present = {task.name for task in self.tasks}
        object.__setattr__(self, "missing", tuple(name for name in CORE_TASKS if name not in present))

    @property
    def value(self) -> float:
        """The mean of the centred accuracies."""
        return sum(task.centred for task in self.tasks) / len(self.tasks)

    @property
    def interval(self) -> Interval:
        """95% confidence interval of :attr:`value`."""
        return mean_interval([(task.centred, task.interval.centred(task.baseline)) for task in self.tasks])

    @property
    def label(self) -> str:
        """The name of the score: "CORE" alone only for all 22 tasks in full."""
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
) -> CoreTaskScore:
    """Scores one task. Several processes divide its items among themselves.

    Args:
        judge: scores the questions with the model.
        tokenizer: the model's tokenizer.
        task: task of a bundle.
        max_per_task: number of its (shuffled) lines to score; None for all.
        on_done: called with the number of items newly finished, in all processes together.
    """
    started = time.perf_counter()
    items = number_of_items(task, max_per_task)
    # the processes of a sharded model must all make the same calls, so each scores all items
    processes = world_size() if judge.is_whole else 1
    indices = range(rank() if processes > 1 else 0, items, processes)
    right = 0
    for begin in range(0, len(indices), CHUNK_SIZE):
        chunk = questions(task, tokenizer, judge.gpt.context, indices[begin : begin + CHUNK_SIZE])
        right += sum(judge.answers(chunk, on_done and (lambda done: on_done(done * processes))))
    if processes > 1:
        right = sum(all_gather(right))
    seconds = time.perf_counter() - started
    return CoreTaskScore(task.name, right, items, task.baseline, task.kind, task.shots, seconds)


def number_of_items(task: CoreTask, max_per_task: int | None) -> int:
    """The number of a task's lines that are scored."""
    return len(task.lines) if max_per_task is None else min(max_per_task, len(task.lines))


def score_core(
    judge: Judge,
    tokenizer: Tokenizer,
    bundle: Bundle,
    max_per_task: int | None = None,
    on_done: Callable[[int], object] | None = None,
) -> CoreScore:
    """Scores all tasks of a bundle, with the arguments of :func:`score_task`."""
    return CoreScore([score_task(judge, tokenizer, task, max_per_task, on_done) for task in bundle.tasks], max_per_task)
