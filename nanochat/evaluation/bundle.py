"""Reads a bundle of CORE tasks: core.yaml, the accuracies at chance, and a JSON Lines file for each task."""

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

# The 22 tasks of the DCLM paper (arXiv 2406.11794), in the order of its bundle. A bundle may hold fewer; their mean is
# then not CORE.
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
TASK_LIST, BASELINES, DATA_FOLDER = "core.yaml", "eval_meta_data.csv", "eval_data"  # names in a bundle
CHOICE, SCHEMA, LANGUAGE = "multiple_choice", "schema", "language_modeling"
DELIMITER = " "  # between a question and its answer, unless the task sets another
SHUFFLE_SEED = 1337  # nanochat's seed: the first 100 lines are then a fair sample, the same on every machine

# Required fields of a line of each kind: strings, and lists of strings. "gold" is the index of the right list entry.
FIELDS = {
    CHOICE: (("query",), ("choices",)),
    SCHEMA: (("continuation",), ("context_options",)),
    LANGUAGE: (("context", "continuation"), ()),
}


@dataclass(frozen=True)
class CoreTask:
    """A task of the bundle. Its lines are read on first use.

    Attributes:
        name: one of :data:`CORE_TASKS`.
        kind: one of :data:`FIELDS`.
        shots: number of solved examples before a question.
        delimiter: text between a question and its answer.
        baseline: accuracy at chance, or of always giving the most frequent answer.
        path: the JSON Lines file.
    """

    name: str
    kind: str
    shots: int
    delimiter: str
    baseline: float
    path: Path

    @cached_property
    def lines(self) -> list[Mapping[str, Any]]:
        """The lines, shuffled as nanochat does.

        Raises:
            ValueError: if the file is missing or a line is not of this kind, with the file and line.
        """
        lines = read_lines(self.path, self.kind)
        random.Random(SHUFFLE_SEED).shuffle(lines)
        return lines


@dataclass(frozen=True)
class Bundle:
    """The CORE tasks in a folder.

    Attributes:
        folder: the folder.
        tasks: its CORE tasks, in CORE's order.
        unknown: names in its core.yaml that are not CORE tasks; they are ignored.
    """

    folder: Path
    tasks: tuple[CoreTask, ...]
    unknown: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The CORE tasks that are not in the bundle."""
        return tuple(name for name in CORE_TASKS if name not in {task.name for task in self.tasks})

    def fingerprint(self, task: CoreTask) -> str:
        """A short SHA-256 of everything but the model that a task's score depends on."""
        settings = [task.name, task.kind, task.shots, task.delimiter, task.baseline]
        content = task.path.read_bytes() if task.path.is_file() else b""
        return hashlib.sha256(json.dumps(settings).encode() + content).hexdigest()[:16]


def open_bundle(folder: str | Path) -> Bundle:
    """Opens a bundle.

    Args:
        folder: the folder of the published bundle, its parent folder, or a folder with the data files directly inside
            instead of in eval_data.

    Raises:
        ValueError: if the folder is not a bundle or a file in it is invalid, with the file's name.
    """
    top = Path(folder).expanduser()
    if not (top / TASK_LIST).is_file() and (top / "eval_bundle" / TASK_LIST).is_file():
        top = top / "eval_bundle"
    if not top.is_dir():
        raise ValueError(f"there is no folder {folder}: give --bundle the folder of the unpacked bundle")
    for name in (TASK_LIST, BASELINES):
        if not (top / name).is_file():
            raise ValueError(f"{top} is not a CORE bundle: it has no {name}")
    data = top / DATA_FOLDER if (top / DATA_FOLDER).is_dir() else top
    baselines = _read_baselines(top / BASELINES)
    tasks: dict[str, CoreTask] = {}
    unknown = []
    for number, entry in enumerate(_read_task_list(top / TASK_LIST), 1):
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(label, str):
            raise ValueError(f"{top / TASK_LIST}: entry {number} of icl_tasks has no label")
        if label not in CORE_TASKS:
            unknown.append(label)
            continue
        if label not in baselines:
            raise ValueError(f"{top / BASELINES} has no line for {label}")
        tasks[label] = _to_task(label, entry, baselines[label], data, top / TASK_LIST)
    if not tasks:
        raise ValueError(f"{top / TASK_LIST} has none of the {len(CORE_TASKS)} CORE tasks")
    return Bundle(top, tuple(tasks[name] for name in CORE_TASKS if name in tasks), tuple(unknown))


def _read_task_list(path: Path) -> Sequence[Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{path} is not YAML" + (f", line {mark.line + 1}" if mark is not None else "")) from error
    entries = content.get("icl_tasks") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{path} has no list icl_tasks")
    return entries


def _to_task(name: str, entry: Mapping[str, Any], baseline: float, data: Path, source: Path) -> CoreTask:
    kind, shots, delimiter = (entry.get(key) for key in ("icl_task_type", "num_fewshot", "continuation_delimiter"))
    uri = entry.get("dataset_uri")
    shots = shots[0] if isinstance(shots, list) and len(shots) == 1 else shots
    if kind not in FIELDS:
        raise ValueError(f"{source}: {name} has the icl_task_type {kind}; it must be one of {', '.join(FIELDS)}")
    if not isinstance(shots, int) or isinstance(shots, bool) or shots < 0:
        raise ValueError(f"{source}: {name} has the num_fewshot {shots}; it must be an integer of at least 0")
    if not isinstance(uri, str) or Path(uri).is_absolute() or ".." in Path(uri).parts:
        raise ValueError(f"{source}: {name} has the dataset_uri {uri}; it must be a file below {data}")
    if not (data / uri).is_file():
        raise ValueError(f"there is no {data / uri}, which {source} lists for {name}: add the file or remove the task")
    return CoreTask(name, kind, shots, DELIMITER if delimiter is None else str(delimiter), baseline, data / uri)


def _read_baselines(path: Path) -> dict[str, float]:
    """The accuracy at chance of each task, 0 to 1; the file has percent."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from error
    baselines = {}
    for number, row in enumerate(rows, 2):
        name, percent = row.get("Eval Task"), row.get("Random baseline")
        try:
            baseline = float(percent or "") / 100
        except ValueError:
            baseline = -1.0
        if name in CORE_TASKS:
            if not 0 <= baseline < 1:
                raise ValueError(
                    f"{path}, line {number}: {name} has the Random baseline {percent}; it must be from 0 to below 100"
                )
            baselines[str(name)] = baseline
    return baselines


def read_lines(path: Path, kind: str) -> list[Mapping[str, Any]]:
    """The lines of a task, in the file's order.

    Raises:
        ValueError: if a line is not JSON or not of this kind, with the file and line.
    """
    lines: list[Mapping[str, Any]] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): strings may hold other line breaks
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
        if (problem := _find_problem(row, kind)) is not None:
            raise ValueError(f"{path}, line {number}: {problem}")
        lines.append(row)
    if not lines:
        raise ValueError(f"{path} has no lines")
    return lines


def _find_problem(row: Any, kind: str) -> str | None:
    """Describes the first problem of a line; None if it is valid."""
    if not isinstance(row, dict):
        return "it is not an object"
    strings, lists = FIELDS[kind]
    for name in strings:
        if not isinstance(row.get(name), str):
            return f"{name} is not a string"
    for name in lists:
        options, gold = row.get(name), row.get("gold")
        if not isinstance(options, list) or len(options) < 2 or not all(isinstance(o, str) for o in options):
            return f"{name} is not a list of at least two strings"
        if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(options):
            return f"gold is {gold}, not an index into the {len(options)} {name}"
    return None
