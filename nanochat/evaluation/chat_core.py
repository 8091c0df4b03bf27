"""Scores of the chat tasks, and ChatCORE: the mean centred accuracy over six of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nanochat.evaluation.confidence_intervals import Interval, bootstrap_interval, mean_interval, wilson_interval
from nanochat.evaluation.humaneval import pass_at_k

CHATCORE_TASKS = ("arc-easy", "arc-challenge", "mmlu", "gsm8k", "humaneval", "spelling-bee")
OFFLINE_TASKS = ("functions", "documentation", "arithmetic", "spelling", "identity")  # scored, but not in ChatCORE
PASS_AT_K = (1, 10, 100)  # values of k for which pass@k is reported, up to the number of samples


@dataclass(frozen=True)
class ChatTaskScore:
    """The score of a model in one chat task.

    Attributes:
        name: name of the task.
        kind: how answers are obtained, :attr:`nanochat.evaluation.chat_evals.ChatEval.kind`.
        chance: accuracy of random guessing.
        right: number of right samples of each item.
        samples: number of samples per item.
        too_long: number of items whose question exceeds the model's context.
        seconds: duration of the evaluation.
    """

    name: str
    kind: str
    chance: float
    right: tuple[int, ...]
    samples: int = 1
    too_long: int = 0
    seconds: float = 0.0

    @property
    def items(self) -> int:
        return len(self.right)

    @property
    def accuracy(self) -> float:
        """The proportion of right answers; with several samples this is pass@1."""
        return sum(self.right) / (self.items * self.samples)

    @property
    def centred(self) -> float:
        """The centred accuracy: 0 at chance, 1 if every answer is right."""
        return (self.accuracy - self.chance) / (1 - self.chance)

    @property
    def interval(self) -> Interval:
        """95% confidence interval of the accuracy."""
        if self.samples > 1:
            return bootstrap_interval(self.right, self.samples)
        return wilson_interval(sum(self.right), self.items)

    def pass_at(self, k: int) -> float:
        """pass@k, averaged over the items."""
        return sum(pass_at_k(self.samples, right, k) for right in self.right) / self.items

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        more = {f"pass@{k}": self.pass_at(k) for k in PASS_AT_K if k <= self.samples} if self.kind == "programs" else {}
        return {
            "right": list(self.right),
            "items": self.items,
            "samples": self.samples,
            "accuracy": self.accuracy,
            **more,
            "chance": self.chance,
            "centred": self.centred,
            "interval": list(self.interval),
            "in_chatcore": self.name in CHATCORE_TASKS,
            "kind": self.kind,
            "too_long": self.too_long,
            "seconds": round(self.seconds, 2),
        }

    @classmethod
    def from_dict(cls, name: str, values: dict[str, Any]) -> ChatTaskScore:
        """The inverse of :meth:`to_dict`."""
        right = tuple(int(count) for count in values["right"])
        numbers = (int(values["samples"]), int(values["too_long"]), float(values["seconds"]))
        return cls(name, str(values["kind"]), float(values["chance"]), right, *numbers)


@dataclass(frozen=True)
class ChatScore:
    """The scores of all chat tasks and their mean.

    Attributes:
        tasks: in the order in which they are shown.
        max_per_task: limit on the items of each task; None for no limit.
    """

    tasks: Sequence[ChatTaskScore]
    max_per_task: int | None = None

    @property
    def chatcore_tasks(self) -> list[ChatTaskScore]:
        """The scores of tasks that belong to ChatCORE."""
        return [task for task in self.tasks if task.name in CHATCORE_TASKS]

    @property
    def missing(self) -> list[str]:
        """The ChatCORE tasks without a score."""
        present = {task.name for task in self.tasks}
        return [name for name in CHATCORE_TASKS if name not in present]

    @property
    def value(self) -> float | None:
        """The mean centred accuracy of the ChatCORE tasks; None if there are none."""
        centred = [task.centred for task in self.chatcore_tasks]
        return sum(centred) / len(centred) if centred else None

    @property
    def interval(self) -> Interval | None:
        """95% confidence interval of :attr:`value`."""
        if not self.chatcore_tasks:
            return None
        return mean_interval([(task.centred, task.interval.centred(task.chance)) for task in self.chatcore_tasks])

    @property
    def label(self) -> str:
        """The name of the score: "ChatCORE" alone only for all six tasks in full."""
        label = "ChatCORE"
        if self.missing:
            label += f" over {len(self.chatcore_tasks)} of its {len(CHATCORE_TASKS)} tasks"
        if self.max_per_task is not None:
            label += f", {self.max_per_task:,} items of each at most"
        return label
