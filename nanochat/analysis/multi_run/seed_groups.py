"""The settings that differ between runs, and groups of runs that differ only in their seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nanochat.analysis.history import History
from nanochat.analysis.statistics import Estimate, mean_of
from nanochat.options import flatten_config

SEED_SETTINGS = ("seed_everything", "data.seed")
# Settings of paths, logging and display, which do not affect training.
IRRELEVANT_SETTINGS = (
    *("name", "ckpt_path", "trainer.default_root_dir", "trainer.logger", "trainer.callbacks", "trainer.plugins"),
    *("trainer.enable_progress_bar", "trainer.profiler", "trainer.log_every_n_steps", "data.num_workers"),
)
MAX_IN_LABEL = 3  # with more differing settings, a group is labelled with the run's name instead
NOT_SET = "(not set)"


def training_settings(history: History) -> dict[str, Any]:
    """The settings of a run that affect its training, by dotted name."""
    settings = flatten_config(history.run.config)
    return {name: value for name, value in settings.items() if name not in IRRELEVANT_SETTINGS}


def differing_settings(histories: Sequence[History]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, each with its values, one per run."""
    settings = [training_settings(history) for history in histories]
    names = dict.fromkeys(name for of_run in settings for name in of_run)
    values = {name: [of_run.get(name, NOT_SET) for of_run in settings] for name in names}
    differing = {name: each for name, each in values.items() if any(value != each[0] for value in each)}
    if differing.get("data.seed") == differing.get("seed_everything"):
        differing.pop("data.seed", None)  # data.seed follows seed_everything by default
    return differing


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seed.

    Attributes:
        label: the settings that distinguish it from the other groups, in short.
        histories: the runs.
    """

    label: str
    histories: list[History]

    @property
    def bpb(self) -> Estimate | None:
        """The mean of the final scores with its 95 % interval; None without scores."""
        scores = self.scores
        return mean_of(scores) if scores else None

    @property
    def scores(self) -> list[float]:
        """The final bits per byte of each run that has them."""
        return [history.bpb for history in self.histories if history.bpb is not None]


def seed_groups(histories: Sequence[History]) -> list[SeedGroup]:
    """Groups runs by everything but the seed.

    Returns:
        The groups, in the order of their first runs; or, if they differ in a single numeric setting, sorted by it.
    """
    by_key: dict[str, list[History]] = {}
    for history in histories:
        settings = {name: value for name, value in training_settings(history).items() if name not in SEED_SETTINGS}
        conditions = [history.run.summary.get(name) for name in ("device", "devices", "corpus_fingerprint")]
        if not settings:  # without a configuration, a run is a group of its own
            conditions.append(history.run.label)
        key = repr((history.run.stage, sorted(settings.items(), key=str), conditions))
        by_key.setdefault(key, []).append(history)
    found = list(by_key.values())
    differing = _differing(found)
    if len(differing) == 1:
        ((_, values),) = differing.items()
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            order = sorted(range(len(found)), key=lambda index: values[index])
            found = [found[index] for index in order]
            differing = _differing(found)
    labels = _labels([members[0] for members in found], differing)
    return [SeedGroup(label, members) for label, members in zip(labels, found, strict=True)]


def _differing(found: Sequence[list[History]]) -> dict[str, list[Any]]:
    """The settings that differ between groups, without the seeds."""
    differing = differing_settings([members[0] for members in found])
    return {name: values for name, values in differing.items() if name not in SEED_SETTINGS}


def _labels(first_runs: Sequence[History], differing: dict[str, list[Any]]) -> list[str]:
    """A label per group: its differing settings if they are few and distinguish it, or else the name of its run."""
    if 0 < len(differing) <= MAX_IN_LABEL:
        labels = [
            ", ".join(f"{name.split('.')[-1]} {_format(values[index])}" for name, values in differing.items())
            for index in range(len(first_runs))
        ]
        if len(set(labels)) == len(labels):
            return labels
    names = [history.run.name for history in first_runs]
    return names if len(set(names)) == len(names) else [history.run.label for history in first_runs]


def _format(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "default" if value is None else str(value)
