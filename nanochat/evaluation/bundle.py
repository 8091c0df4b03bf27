"""The tasks of CORE as they are published: a folder with core.yaml, the chance levels, and a file of lines for each."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

# The 22 of the DCLM paper (arXiv 2406.11794), in the order of its bundle. A bundle may hold fewer; their mean is then
# not CORE.
CORE_TASKS = (
    "hellaswag_zeroshot",
    "jeopardy",
    "bigbench_qa_wikidata",
    "arc_easy",
    "arc_challenge",
    "copa",
    "commonsense_qa",
    "piqa",
    "openbook_qa",
    "lambada_openai",
    "hellaswag",
    "winograd",
    "winogrande",
    "bigbench_dyck_languages",
    "agi_eval_lsat_ar",
    "bigbench_cs_algorithms",
    "bigbench_operators",
    "bigbench_repeat_copy_logic",
    "squad",
    "coqa",
    "boolq",
    "bigbench_language_identification",
)
LIST, CHANCE, FILES = "core.yaml", "eval_meta_data.csv", "eval_data"  # names in the folder
CHOICE, SCHEMA, LANGUAGE = "multiple_choice", "schema", "language_modeling"
DELIMITER = " "  # between a question and its answer, where the task says no other
SHUFFLED_BY = 1337  # nanochat's seed: the first 100 lines are then a fair sample, in the same order everywhere

# What a line of each kind must hold: texts, and lists of texts of which "gold" names one.
FIELDS = {
    CHOICE: (("query",), ("choices",)),
    SCHEMA: (("continuation",), ("context_options",)),
    LANGUAGE: (("context", "continuation"), ()),
}


@dataclass(frozen=True)
class CoreTask:
    """A task of the bundle; its lines are read when they are needed.

    Attributes:
        name: one of :data:`CORE_TASKS`.
        kind: one of :data:`FIELDS`.
        shots: how many solved examples come before a question.
        delimiter: what stands between a question and its answer.
        baseline: the accuracy of chance, or of always giving the commonest answer.
        path: the file of lines.
    """

    name: str
    kind: str
    shots: int
    delimiter: str
    baseline: float
    path: Path

    @cached_property
    def lines(self) -> list[Mapping[str, Any]]:
        """The lines in nanochat's order.

        Raises:
            ValueError: if the file is missing or a line is not one of this kind, naming both.
        """
        lines = read_lines(self.path, self.kind)
        random.Random(SHUFFLED_BY).shuffle(lines)
        return lines

    def centred(self, accuracy: float) -> float:
        """0 at the baseline, 1 if everything is right."""
        return (accuracy - self.baseline) / (1 - self.baseline)


@dataclass(frozen=True)
class Bundle:
    """The tasks of a folder.

    Attributes:
        tasks: those of CORE that it has, in CORE's order.
        others: names in its core.yaml that are not CORE's, and are left out.
    """

    folder: Path
    tasks: tuple[CoreTask, ...]
    others: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The tasks of CORE that it lacks."""
        return tuple(name for name in CORE_TASKS if name not in {task.name for task in self.tasks})

    def fingerprint(self, task: CoreTask) -> str:
        """A short hash of all that a task's score depends on besides the model."""
        said = [task.name, task.kind, task.shots, task.delimiter, task.baseline]
        content = task.path.read_bytes() if task.path.is_file() else b""
        return hashlib.sha256(json.dumps(said).encode() + content).hexdigest()[:16]


def open_bundle(folder: str | Path) -> Bundle:
    """Reads what tasks a folder holds: that of the published bundle, the one above it, or one without eval_data.

    Raises:
        ValueError: if it is no such folder, or something in it cannot be what it should, naming the file.
    """
    top = Path(folder).expanduser()
    if not (top / LIST).is_file() and (top / "eval_bundle" / LIST).is_file():
        top = top / "eval_bundle"
    if not top.is_dir():
        raise ValueError(f"there is no folder {folder}: --bundle takes that of the published bundle, unpacked")
    for name in (LIST, CHANCE):
        if not (top / name).is_file():
            raise ValueError(f"{top} is no bundle of CORE: it has no {name}")
    data = top / FILES if (top / FILES).is_dir() else top
    baselines = _read_baselines(top / CHANCE)
    tasks: dict[str, CoreTask] = {}
    others = []
    for number, entry in enumerate(_read_list(top / LIST), 1):
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(label, str):
            raise ValueError(f"{top / LIST}: entry {number} of icl_tasks has no label")
        if label not in CORE_TASKS:
            others.append(label)
            continue
        if label not in baselines:
            raise ValueError(f"{top / CHANCE} has no line for {label}")
        tasks[label] = _as_task(label, entry, baselines[label], data, top / LIST)
    if not tasks:
        raise ValueError(f"{top / LIST} names none of the {len(CORE_TASKS)} tasks of CORE")
    return Bundle(top, tuple(tasks[name] for name in CORE_TASKS if name in tasks), tuple(others))


def _read_list(path: Path) -> Sequence[Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{path} is not YAML" + (f", line {mark.line + 1}" if mark is not None else "")) from error
    entries = content.get("icl_tasks") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{path} has no list icl_tasks")
    return entries


def _as_task(name: str, entry: Mapping[str, Any], baseline: float, data: Path, source: Path) -> CoreTask:
    kind, shots, delimiter = (entry.get(key) for key in ("icl_task_type", "num_fewshot", "continuation_delimiter"))
    uri = entry.get("dataset_uri")
    shots = shots[0] if isinstance(shots, list) and len(shots) == 1 else shots
    if kind not in FIELDS:
        raise ValueError(f"{source}: {name} has the icl_task_type {kind}, not one of {', '.join(FIELDS)}")
    if not isinstance(shots, int) or isinstance(shots, bool) or shots < 0:
        raise ValueError(f"{source}: {name} has the num_fewshot {shots}, not a whole number")
    if not isinstance(uri, str) or Path(uri).is_absolute() or ".." in Path(uri).parts:
        raise ValueError(f"{source}: {name} has the dataset_uri {uri}, not a file below {data}")
    if not (data / uri).is_file():
        raise ValueError(f"there is no {data / uri}, which {source} names for {name}: put it there, or take it out")
    return CoreTask(name, kind, shots, DELIMITER if delimiter is None else str(delimiter), baseline, data / uri)


def _read_baselines(path: Path) -> dict[str, float]:
    """Of each task, as a share; the file says them in percent."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a table: {error}") from error
    baselines = {}
    for number, row in enumerate(rows, 2):
        name, percent = row.get("Eval Task"), row.get("Random baseline")
        try:
            baseline = float(percent or "") / 100
        except ValueError:
            baseline = -1.0
        if name in CORE_TASKS:
            if not 0 <= baseline < 1:
                raise ValueError(f"{path}, line {number}: {name} has the Random baseline {percent}, not 0 to 100")
            baselines[str(name)] = baseline
    return baselines


def read_lines(path: Path, kind: str) -> list[Mapping[str, Any]]:
    """The lines of a task, in the file's order.

    Raises:
        ValueError: if one is not JSON or not of this kind, naming file and line.
    """
    lines: list[Mapping[str, Any]] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): texts hold other line breaks
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
        if (problem := _problem(row, kind)) is not None:
            raise ValueError(f"{path}, line {number}: {problem}")
        lines.append(row)
    if not lines:
        raise ValueError(f"{path} has no lines")
    return lines


def _problem(row: Any, kind: str) -> str | None:
    """What is wrong with a line; None if nothing is."""
    if not isinstance(row, dict):
        return "not an object"
    texts, lists = FIELDS[kind]
    for name in texts:
        if not isinstance(row.get(name), str):
            return f"{name} is not a text"
    for name in lists:
        options, gold = row.get(name), row.get("gold")
        if not isinstance(options, list) or len(options) < 2 or not all(isinstance(o, str) for o in options):
            return f"{name} is not a list of at least two texts"
        if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(options):
            return f"gold is {gold}, not the index of one of {len(options)} {name}"
    return None
