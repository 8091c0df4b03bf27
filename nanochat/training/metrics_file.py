"""``metrics.csv``: a row with all metrics for each logged step."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanochat.cache import write_atomically

FIRST_COLUMNS = ("step", "tokens", "seconds")  # of every run

Rows = Mapping[int, Mapping[str, Any]]  # values by step and column


class MetricsFile:
    """Appends rows to the file; rewrites it for new columns, and for new metrics of a step that is in the file.

    Args:
        purge_step: first step of a resumed run; rows from it on are removed before the first write. None keeps all.
    """

    def __init__(self, purge_step: int | None) -> None:
        self._purge_step = purge_step
        self._columns: list[str] | None = None  # of the file; None before it has been read
        self._newest_step = -1  # in the file

    def write(self, path: Path, rows: Rows) -> None:
        """Writes rows."""
        if not rows:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._columns is None:
            self._columns = self._open(path)
        new_columns = dict.fromkeys(name for row in rows.values() for name in row if name not in self._columns)
        if new_columns or not path.is_file() or min(rows) <= self._newest_step:
            _, merged = read_metrics(path)
            self._columns += new_columns
            for step, row in rows.items():
                merged[step] = {**merged.get(step, {}), **row}
            _rewrite(path, self._columns, merged)
        else:
            with open(path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerows(_with_step(rows))
        self._newest_step = max(self._newest_step, *rows)

    def _open(self, path: Path) -> list[str]:
        """Removes rows that a resumed run replaces; returns the columns."""
        columns, rows = read_metrics(path)
        if self._purge_step is not None:
            rows = {step: row for step, row in rows.items() if step < self._purge_step}
            _rewrite(path, columns, rows)
        self._newest_step = max(rows, default=-1)
        return columns


def read_metrics(path: Path) -> tuple[list[str], dict[int, dict[str, Any]]]:
    """The columns of a file, and its rows by step; for a missing file the columns that every run has.

    A row that was cut short when a process was killed is left out.
    """
    if not path.is_file():
        return list(FIRST_COLUMNS), {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        complete = [row for row in reader if None not in row.values() and str(row.get("step")).isdigit()]
        return list(reader.fieldnames or FIRST_COLUMNS), {int(row["step"]): row for row in complete}


def _rewrite(path: Path, columns: list[str], rows: Rows) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_with_step(rows))
    write_atomically(path, text.getvalue())


def _with_step(rows: Rows) -> list[dict[str, Any]]:
    return [{**row, "step": step} for step, row in rows.items()]
