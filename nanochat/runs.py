"""What runs leave behind in ``lightning_logs``: read without torch, and whatever state the files are in."""

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

# The files of a run, which nanochat/training/ writes and nanochat/evaluation/ adds to.
RUNS = "lightning_logs"  # the folder of all runs, below the root that a user may choose
SUMMARY, CONFIG, METRICS, EVALUATION = "summary.json", "config.yaml", "metrics.csv", "evaluation.json"
CHECKPOINTS = "checkpoints"
EVENTS = re.compile(r"events\.out\.tfevents\.(\d+)\.")  # TensorBoard puts the time that it began into the name
STAGES = ("pretrain", "middle", "chat", "reinforce")  # in the order of a model's life
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as quick, where PyYAML has it


@dataclass(frozen=True)
class Run:
    """One run: the folder ``lightning_logs/<name>/version_<version>``.

    Attributes:
        folder: of the run.
        name: of the folder above it, such as "tiny" or "tiny-chat".
        version: its number; 0 where the folder is called otherwise.
        stage: one of :data:`STAGES`, or what its configuration says.
        summary: ``summary.json``; empty before the last step and where the file is damaged.
        config: ``config.yaml``; empty where the file is missing or damaged.
        evaluation: ``evaluation.json``; empty where nothing was scored or the file is damaged.
        problems: what is wrong with its files, in words; :meth:`metrics` adds to it.
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
        """The name without that of the stage: "tiny" for all stages of it."""
        return self.name.removesuffix(f"-{self.stage}")

    @property
    def complete(self) -> bool:
        """Whether it came to its end, with its final score."""
        return self.summary.get("complete") is True

    @property
    def started(self) -> float:
        """When it began, in seconds since 1970: as TensorBoard's files say, else the time of the oldest file."""
        names = [EVENTS.match(path.name) for path in _files(self.folder)]
        times = [float(match[1]) for match in names if match]
        return min(times or [_time(path) for path in _files(self.folder)], default=0.0)

    @property
    def updated(self) -> float:
        """When training last wrote anything, in seconds since 1970."""
        written = [self.folder / SUMMARY, self.folder / METRICS, *self.checkpoints.values()]
        written += [path for path in _files(self.folder) if EVENTS.match(path.name)]
        times = [_time(path) for path in written if path.is_file()]
        return max(times or [_time(path) for path in _files(self.folder)], default=0.0)

    @property
    def size_bytes(self) -> int:
        """Of everything in its folder."""
        return sum(file_sizes(self.folder))

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The checkpoints that there are: "last", "best", "previous"."""
        return {path.stem: path for path in sorted((self.folder / CHECKPOINTS).glob("[!.]*.ckpt")) if path.is_file()}

    @property
    def checkpoint(self) -> Path | None:
        """The last one, or the one before it where that is missing."""
        return self.checkpoints.get("last") or self.checkpoints.get("previous")

    @property
    def started_from(self) -> str | None:
        """The checkpoint, or the run, whose weights it began with; None if it began with fresh ones."""
        start = self.summary.get("started_from") or self.config.get("start_from")
        return str(start) if start else None

    def metrics(self) -> dict[str, list[float]]:
        """``metrics.csv``: each column with a value for each line, NaN where the line has none.

        The columns "step", "tokens" and "seconds" are there in every run; a line that is damaged is left out. Empty
        where there is no such file.
        """
        rows = list(self._rows())
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name, math.nan) for row in rows] for name in names}

    def curve(self, column: str, against: str = "step") -> tuple[list[float], list[float]]:
        """The lines of ``metrics.csv`` that have a value in a column: where they lie, and these values."""
        table = self.metrics()
        pairs = zip(table.get(against, []), table.get(column, []), strict=False)
        kept = [(x, y) for x, y in pairs if not math.isnan(x) and not math.isnan(y)]
        return [x for x, _ in kept], [y for _, y in kept]

    def _rows(self) -> Iterator[dict[str, float]]:
        path = self.folder / METRICS
        if not path.is_file():
            return
        bad = 0
        try:
            with open(path, newline="", encoding="utf-8", errors="replace") as file:
                for row in csv.DictReader(file):
                    values = {name: number for name, text in row.items() if (number := _number(text)) is not None}
                    if None in row.values() or None in row or "step" not in values:
                        bad += 1  # cut short when a process was killed, or damaged
                    else:
                        yield values
        except (OSError, csv.Error) as error:
            self._note(f"{METRICS} cannot be read to its end: {error}")
        if bad:
            self._note(f"{METRICS}: {plural(bad, 'damaged line')} left out")

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def find_runs(root: str | Path = ".") -> list[Run]:
    """All runs below ``root``/lightning_logs, those that were trained last at the end.

    Whatever state their files are in, this raises nothing.
    """
    found = [read_run(path) for path in Path(root, RUNS).glob("*/version_*") if _is_run(path)]
    return sorted(found, key=lambda run: (run.updated, run.started, run.name, run.version))


def read_run(folder: str | Path) -> Run:
    """The run in a folder.

    Raises:
        ValueError: if there is no run in it.
    """
    path = Path(folder)
    if not _is_run(path):
        raise ValueError(f"there is no run in the folder {path}: give one such as {RUNS}/tiny/version_0")
    problems: list[str] = []
    config = _read(path / CONFIG, problems)
    summary, evaluation = _read(path / SUMMARY, problems), _read(path / EVALUATION, problems)
    whole = path.absolute()
    name, number = whole.parent.name, whole.name.removeprefix("version_")
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
    except OSError:  # replaced just now
        return 0.0


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON or YAML file; empty if it is missing, and if it is damaged, which is then said."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, LOADER)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is damaged"
        problems.append(f"{path.name} cannot be read: {what}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name} is damaged: it holds no names with values")
        return {}
    return content


def _number(text: Any) -> float | None:
    """None for an empty cell, and for what is no number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
