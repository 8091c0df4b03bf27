"""Stores scores in a JSON file beside the model, so that an interrupted evaluation continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanochat.cache import write_atomically
from nanochat.runs import EVALUATION

FORMAT = 1  # increased when the meaning of scores changes, so that older ones are not reused


def results_path(checkpoint: Path) -> Path:
    """``evaluation.json`` in the run's folder; outside of a run ``<checkpoint>.evaluation.json`` in the same folder."""
    run = checkpoint.absolute().parent.parent
    if run.name.startswith("version_"):
        return run / EVALUATION
    return checkpoint.with_name(f"{checkpoint.stem}.{EVALUATION}")


def file_hash(path: Path) -> str:
    """A short SHA-256 of a file's content: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:16]


class ResultsFile:
    """The stored scores of one model under given conditions.

    The file holds a list of evaluations. Each has its conditions, its tasks and, once it is complete, its summary.

    Args:
        path: the file.
        group: group of the tasks, such as "core".
        conditions: everything that the scores depend on besides the tasks; only scores with equal conditions are
            reused. Plain values.
        about: further entries for readers, such as the checkpoint's name.

    Attributes:
        tasks: the stored results by task name.
    """

    def __init__(self, path: Path, group: str, conditions: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.path = path
        self._key = {"format": FORMAT, "group": group, "conditions": dict(conditions)}
        self._about = dict(about)
        self.tasks: dict[str, dict[str, Any]] = {}
        for entry in _read(path):
            if self._matches(entry) and isinstance(entry.get("tasks"), dict):
                self.tasks = {name: result for name, result in entry["tasks"].items() if isinstance(result, dict)}

    def _matches(self, entry: Mapping[str, Any]) -> bool:
        return all(entry.get(name) == value for name, value in self._key.items())

    def get(self, task: str, fingerprint: str) -> dict[str, Any] | None:
        """The stored result of a task, or None if there is none for this fingerprint of its content."""
        result = self.tasks.get(task)
        return result if result is not None and result.get("content") == fingerprint else None

    def add(self, task: str, fingerprint: str, result: Mapping[str, Any]) -> None:
        """Stores the result of a task and writes the file."""
        self.tasks[task] = {**result, "content": fingerprint}
        self._write({})

    def add_summary(self, summary: Mapping[str, Any]) -> None:
        """Stores the summary of all tasks and writes the file."""
        self._write(summary)

    def _write(self, summary: Mapping[str, Any]) -> None:
        # read again: another process may have added entries
        others = [entry for entry in _read(self.path) if not self._matches(entry)]
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        entry = {**self._key, **self._about, "time": now, **summary, "tasks": self.tasks}
        write_atomically(self.path, json.dumps({"evaluations": [*others, entry]}, indent=2) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    """The evaluations in a file. A missing or damaged file counts as empty: its scores can be computed again."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["evaluations"]
        return [entry for entry in entries if isinstance(entry, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
