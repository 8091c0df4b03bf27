"""What has been scored so far, in a JSON file beside the model: an evaluation goes on with what is missing in it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanochat.cache import write_atomically
from nanochat.runs import EVALUATION

FORMAT = 1  # another number when scores come to mean something else: old ones are then not taken up


def path_beside(checkpoint: Path) -> Path:
    """``evaluation.json`` in the run's folder; of a checkpoint outside of runs, one with its name beside it."""
    run = checkpoint.absolute().parent.parent
    if run.name.startswith("version_"):
        return run / EVALUATION
    return checkpoint.with_name(f"{checkpoint.stem}.{EVALUATION}")


def content_of(checkpoint: Path) -> str:
    """A short hash of a file."""
    digest = hashlib.sha256()
    with open(checkpoint, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:16]


class Finished:
    """The scores of one model under certain conditions, as far as they are known.

    The file holds a list of evaluations; each has the conditions, the tasks and, once it is whole, what came of it.

    Args:
        path: the file.
        group: of the tasks, such as "core".
        conditions: all that the scores depend on besides the tasks themselves: only scores with the same are taken
            up. Plain values.
        about: what a reader wants to know of it besides, such as the name of the checkpoint.
    """

    def __init__(self, path: Path, group: str, conditions: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.path = path
        self._key = {"format": FORMAT, "group": group, "conditions": dict(conditions)}
        self._about = dict(about)
        self.tasks: dict[str, dict[str, Any]] = {}
        for entry in _read(path):
            if self._is_mine(entry) and isinstance(entry.get("tasks"), dict):
                self.tasks = {name: facts for name, facts in entry["tasks"].items() if isinstance(facts, dict)}

    def _is_mine(self, entry: Mapping[str, Any]) -> bool:
        return all(entry.get(name) == value for name, value in self._key.items())

    def known(self, task: str, content: str) -> dict[str, Any] | None:
        """The facts of a task that has been scored on the same content; else None."""
        facts = self.tasks.get(task)
        return facts if facts is not None and facts.get("content") == content else None

    def add(self, task: str, content: str, facts: Mapping[str, Any]) -> None:
        """Keeps the facts of a task, at once."""
        self.tasks[task] = {**facts, "content": content}
        self._write({})

    def close(self, result: Mapping[str, Any]) -> None:
        """Keeps what came of all tasks together."""
        self._write(result)

    def _write(self, result: Mapping[str, Any]) -> None:
        # read anew: another process may have added its own since
        others = [entry for entry in _read(self.path) if not self._is_mine(entry)]
        mine = {**self._key, **self._about, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **result, "tasks": self.tasks}
        write_atomically(self.path, json.dumps({"evaluations": [*others, mine]}, indent=2) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    """The evaluations in a file; none where it is missing or damaged: they can be made again."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["evaluations"]
        return [entry for entry in entries if isinstance(entry, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
