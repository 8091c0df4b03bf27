"""What differs between runs, and which of them differ by their seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nanochat.analysis.history import History
from nanochat.analysis.statistics import Estimate, mean_of
from nanochat.options import flatten_config

SEED_SETTINGS = ("seed_everything", "data.seed")
# What says where things are and how they are shown, not what is trained.
IRRELEVANT_SETTINGS = (
    *("name", "ckpt_path", "trainer.default_root_dir", "trainer.logger", "trainer.callbacks", "trainer.plugins"),
    *("trainer.enable_progress_bar", "trainer.profiler", "trainer.log_every_n_steps", "data.num_workers"),
)
MOST_IN_LABEL = 3  # differences that a label names; where there are more, it is the run's own
NOT_SET = "(not said)"


def training_settings(history: History) -> dict[str, Any]:
    """What a run was trained with, as far as it matters for what comes of it."""
    return {
        name: value for name, value in flatten_config(history.run.config).items() if name not in IRRELEVANT_SETTINGS
    }


def differing_settings(histories: Sequence[History]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, each with its value in every run."""
    everything = [training_settings(history) for history in histories]
    names = dict.fromkeys(name for one in everything for name in one)
    values = {name: [one.get(name, NOT_SET) for one in everything] for name in names}
    different = {name: each for name, each in values.items() if any(value != each[0] for value in each)}
    if different.get("data.seed") == different.get("seed_everything"):
        different.pop("data.seed", None)  # it follows from the other
    return different


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ by their seed alone.

    Attributes:
        label: what sets it apart from the other groups, in a few words.
        histories: of the runs.
    """

    label: str
    histories: list[History]

    @property
    def bpb(self) -> Estimate | None:
        """The mean of the final scores with its 95 % interval; None if there is none."""
        scores = self.scores
        return mean_of(scores) if scores else None

    @property
    def scores(self) -> list[float]:
        """The final score of each run that has one."""
        return [history.bpb for history in self.histories if history.bpb is not None]


def seed_groups(histories: Sequence[History]) -> list[SeedGroup]:
    """The groups, in the order of their first runs; sorted by a number, where it alone sets them apart."""
    together: dict[str, list[History]] = {}
    for history in histories:
        own = {name: value for name, value in training_settings(history).items() if name not in SEED_SETTINGS}
        where = [history.run.summary.get(name) for name in ("device", "devices", "corpus_fingerprint")]
        if not own:  # without a configuration nobody knows what it was
            where.append(history.run.label)
        together.setdefault(repr((history.run.stage, sorted(own.items(), key=str), where)), []).append(history)
    found = list(together.values())
    firsts = [members[0] for members in found]
    different = {name: values for name, values in differing_settings(firsts).items() if name not in SEED_SETTINGS}
    if len(different) == 1:
        ((_, values),) = different.items()
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            order = sorted(range(len(found)), key=lambda index: values[index])
            found = [found[index] for index in order]
            different = differing_settings([members[0] for members in found])
    labels = _labels([members[0] for members in found], {n: v for n, v in different.items() if n not in SEED_SETTINGS})
    return [SeedGroup(label, members) for label, members in zip(labels, found, strict=True)]


def _labels(firsts: Sequence[History], different: dict[str, list[Any]]) -> list[str]:
    """Of each group: what differs if that is little, the device if it is that, else the run's own label."""
    if 0 < len(different) <= MOST_IN_LABEL:
        labels = [
            ", ".join(f"{name.split('.')[-1]} {_short(values[index])}" for name, values in different.items())
            for index in range(len(firsts))
        ]
        if len(set(labels)) == len(labels):
            return labels
    names = [history.run.name for history in firsts]
    return names if len(set(names)) == len(names) else [history.run.label for history in firsts]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "default" if value is None else str(value)
