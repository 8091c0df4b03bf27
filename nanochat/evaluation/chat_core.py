"""The chat tasks' scores, and ChatCORE: the mean, over six of them, of how far a model is above chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nanochat.evaluation.confidence_intervals import Interval, of_accuracy, of_mean, of_samples
from nanochat.evaluation.humaneval import pass_at_k

CHAT_CORE = ("arc-easy", "arc-challenge", "mmlu", "gsm8k", "humaneval", "spelling-bee")
OFFLINE = ("functions", "documentation", "arithmetic", "spelling", "identity")  # beside it, not in it
SHOWN_K = (1, 10, 100)  # of pass@k, where there are as many samples


@dataclass(frozen=True)
class ChatResult:
    """How a model did in one task.

    Attributes:
        name: of the task.
        kind: how it is answered.
        chance: the accuracy of one who guesses.
        right: of each item, how many of its samples were right.
        samples: of each item.
        too_long: items whose question the model could not take in whole.
        seconds: that it took.
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
        """The share of right answers; of several samples, pass@1."""
        return sum(self.right) / (self.items * self.samples)

    @property
    def centred(self) -> float:
        """0 at chance, 1 where everything is right."""
        return (self.accuracy - self.chance) / (1 - self.chance)

    @property
    def interval(self) -> Interval:
        """95%, of the accuracy."""
        return of_samples(self.right, self.samples) if self.samples > 1 else of_accuracy(sum(self.right), self.items)

    def pass_at(self, k: int) -> float:
        """How likely one of ``k`` samples is right."""
        return sum(pass_at_k(self.samples, right, k) for right in self.right) / self.items

    def facts(self) -> dict[str, Any]:
        """For a JSON file."""
        more = {f"pass@{k}": self.pass_at(k) for k in SHOWN_K if k <= self.samples} if self.kind == "programs" else {}
        return {
            "right": list(self.right),
            "items": self.items,
            "samples": self.samples,
            "accuracy": self.accuracy,
            **more,
            "chance": self.chance,
            "centred": self.centred,
            "interval": list(self.interval),
            "in_chatcore": self.name in CHAT_CORE,
            "kind": self.kind,
            "too_long": self.too_long,
            "seconds": round(self.seconds, 2),
        }

    @classmethod
    def from_facts(cls, name: str, facts: dict[str, Any]) -> ChatResult:
        """The inverse of :meth:`facts`."""
        right = tuple(int(count) for count in facts["right"])
        numbers = (int(facts["samples"]), int(facts["too_long"]), float(facts["seconds"]))
        return cls(name, str(facts["kind"]), float(facts["chance"]), right, *numbers)


@dataclass(frozen=True)
class ChatScore:
    """The results of all tasks together.

    Attributes:
        results: in the order of the tasks.
        max_per_task: the cap that they were scored under.
    """

    results: Sequence[ChatResult]
    max_per_task: int | None = None

    @property
    def counted(self) -> list[ChatResult]:
        """Those that are in ChatCORE."""
        return [result for result in self.results if result.name in CHAT_CORE]

    @property
    def missing(self) -> list[str]:
        have = {result.name for result in self.results}
        return [name for name in CHAT_CORE if name not in have]

    @property
    def value(self) -> float | None:
        """The mean of the centred accuracies; None if no task is one of the six."""
        centred = [result.centred for result in self.counted]
        return sum(centred) / len(centred) if centred else None

    @property
    def interval(self) -> Interval | None:
        """95%, of that mean."""
        if not self.counted:
            return None
        return of_mean([(result.centred, result.interval.centred(result.chance)) for result in self.counted])

    @property
    def label(self) -> str:
        """What the figure may be called: ChatCORE alone only if it is that."""
        label = "ChatCORE"
        if self.missing:
            label += f" over {len(self.counted)} of its {len(CHAT_CORE)} tasks"
        if self.max_per_task is not None:
            label += f", {self.max_per_task:,} items of each at most"
        return label
