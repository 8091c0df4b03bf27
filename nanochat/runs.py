"""Reads the run folders in ``lightning_logs``, without importing torch, and even if files are missing or damaged."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nanochat.cache import file_sizes
from nanochat.wording import plural

# The files of a run: nanochat/training/ writes them, nanochat/evaluation/ adds evaluation.json.
RUNS = "lightning_logs"  # the folder of all runs, below --root
SUMMARY, CONFIG, METRICS, EVALUATION = "summary.json", "config.yaml", "metrics.csv", "evaluation.json"
CHECKPOINTS = "checkpoints"
EVENTS = re.compile(r"events\.out\.tfevents\.(\d+)\.")  # TensorBoard's file names contain the start time
STAGES = ("pretrain", "middle", "chat", "reinforce")  # in the order in which a model is trained
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader, if PyYAML has it, is ten times as fast


@dataclass(frozen=True)
class Run:
    """One run: the folder ``lightning_logs/<name>/version_<version>``.

    Attributes:
        folder: path of the run.
        name: name of the parent folder, such as "tiny" or "tiny-chat".
        version: number of the run; 0 if the folder is not called ``version_<number>``.
        stage: the stage in its configuration, or else derived from the name; usually one of :data:`STAGES`.
        summary: content of ``summary.json``; empty before the last step, or if the file is damaged.
        config: content of ``config.yaml``; empty if the file is missing or damaged.
        evaluation: content of ``evaluation.json``; empty if nothing was evaluated, or if the file is damaged.
        problems: one message per problem with its files; :meth:`metrics` may add to it.
    """

    folder: Path
    name: str
    version: int
    stage: str
    summary: dict[str, Any] = field(default_factory=dict, repr=False)
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    evaluation: dict[str, Any] = field(default_factory=dict, repr=False)
    problems: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """ "tiny/version_0" """
        return f"{self.name}/{self.folder.name}"

    @property
    def base_name(self) -> str:
        """The name without the stage, such as "tiny" for "tiny-chat"."""
        return self.name.removesuffix(f"-{self.stage}")

    @property
    def complete(self) -> bool:
        """Whether training finished, with a final score."""
        return self.summary.get("complete") is True

    @property
    def started(self) -> float:
        """Start time in seconds since the epoch: from the names of TensorBoard's files, or else of the oldest file."""
        names = [EVENTS.match(path.name) for path in _files(self.folder)]
        times = [float(match[1]) for match in names if match]
        return min(times or [_time(path) for path in _files(self.folder)], default=0.0)

    @property
    def updated(self) -> float:
        """Time of the last write by training, in seconds since the epoch."""
        written = [self.folder / SUMMARY, self.folder / METRICS, *self.checkpoints.values()]
        written += [path for path in _files(self.folder) if EVENTS.match(path.name)]
        times = [_time(path) for path in written if path.is_file()]
        return max(times or [_time(path) for path in _files(self.folder)], default=0.0)

    @property
    def size_bytes(self) -> int:
        """Total size of all files in its folder."""
        return sum(file_sizes(self.folder))

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The existing checkpoints by name: "last", "best", "previous"."""
        return {path.stem: path for path in sorted((self.folder / CHECKPOINTS).glob("[!.]*.ckpt")) if path.is_file()}

    @property
    def checkpoint(self) -> Path | None:
        """The last checkpoint, or the previous one if that is missing."""
        return self.checkpoints.get("last") or self.checkpoints.get("previous")

    @property
    def started_from(self) -> str | None:
        """The checkpoint or run that the initial weights were loaded from; None for a random initialisation."""
        start = self.summary.get("started_from") or self.config.get("start_from")
        return str(start) if start else None

    def metrics(self) -> dict[str, list[float]]:
        """The columns of ``metrics.csv``, all of the same length, with NaN for empty cells.

        Every run has the columns "step", "tokens" and "seconds". Damaged lines are left out and reported in
        :attr:`problems`. Empty if there is no such file.
        """
        rows = list(self._rows())
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name, math.nan) for row in rows] for name in names}

    def curve(self, column: str, against: str = "step") -> tuple[list[float], list[float]]:
        """The curve of a metric: x values (column ``against``) and y values, without lines where either is empty."""
        table = self.metrics()
        pairs = zip(table.get(against, []), table.get(column, []), strict=False)
        kept = [(x, y) for x, y in pairs if not math.isnan(x) and not math.isnan(y)]
        return [x for x, _ in kept], [y for _, y in kept]

    def _rows(self) -> Iterator[dict[str, float]]:
        """The undamaged lines of ``metrics.csv``, each with its non-empty cells by column."""
        path = self.folder / METRICS
        if not path.is_file():
            return
        bad = 0
        try:
            with open(path, newline="", encoding="utf-8", errors="replace") as file:
                for row in csv.DictReader(file):
                    values = {name: number for name, text in row.items() if (number := _number(text)) is not None}
                    if None in row.values() or None in row or "step" not in values:
                        bad += 1  # damaged, or truncated when a process was killed
                    else:
                        yield values
        except (OSError, csv.Error) as error:
            self._add_problem(f"{METRICS} cannot be read to its end: {error}")
        if bad:
            self._add_problem(f"{METRICS}: {plural(bad, 'damaged line')} left out")

    def _add_problem(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def find_runs(root: str | Path = ".") -> list[Run]:
    """All runs below ``root``/lightning_logs, the most recently trained last.

    Missing or damaged files raise no error: they are reported in :attr:`Run.problems`.
    """
    found = [read_run(path) for path in Path(root, RUNS).glob("*/version_*") if _is_run(path)]
    return sorted(found, key=lambda run: (run.updated, run.started, run.name, run.version))


def read_run(folder: str | Path) -> Run:
    """Reads the run in a folder.

    Raises:
        ValueError: if the folder is not that of a run.
    """
    path = Path(folder)
    if not _is_run(path):
        raise ValueError(f"there is no run in the folder {path}: give one such as {RUNS}/tiny/version_0")
    problems: list[str] = []
    config = _read(path / CONFIG, problems)
    summary, evaluation = _read(path / SUMMARY, problems), _read(path / EVALUATION, problems)
    absolute = path.absolute()
    name, number = absolute.parent.name, absolute.name.removeprefix("version_")
    stage = config.get("stage") or next((stage for stage in STAGES if name.endswith(f"-{stage}")), STAGES[0])
    version = int(number) if number.isdecimal() else 0
    return Run(path, name, version, str(stage), summary, config, evaluation, problems)


def _is_run(path: Path) -> bool:
    names = {file.name for file in _files(path)}
    return (
        bool(names & {SUMMARY, CONFIG, METRICS})
        or any(map(EVENTS.match, names))
        or any((path / CHECKPOINTS).glob("*.ckpt"))
    )


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # just replaced
        return 0.0


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    """The content of a JSON or YAML file; empty if it is missing, or damaged, which is added to ``problems``."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, LOADER)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        problems.append(f"{path.name} cannot be read: {reason}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name} is damaged: it is not a mapping of names to values")
        return {}
    return content


def _number(text: Any) -> float | None:
    """The number in a cell; None if it is empty or not a number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
