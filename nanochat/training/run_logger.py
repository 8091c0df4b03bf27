"""TensorBoard's logger, which also writes a CSV file beside the events and draws curves against tokens seen."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.tensorboard.summary import hparams

CSV_NAME = "metrics.csv"


class RunLogger(TensorBoardLogger):
    """Lightning's TensorBoardLogger for the runs of this project.

    ``metrics.csv`` has a line for each logged step, with the step, the tokens and the seconds so far. In TensorBoard
    the losses also appear under ``by_tokens/``, with the tokens seen as x-axis, because runs with batches of
    different sizes cannot be compared by steps.

    Args:
        save_dir: the folder of all runs.
        name: of the run.
        version: a number or the name of a folder; None takes the next free number.
        purge_step: a resumed run's first step: what is there from it on is dropped.
    """

    def __init__(
        self,
        save_dir: str | Path = "lightning_logs",
        name: str = "nanochat",
        version: int | str | None = None,
        purge_step: int | None = None,
    ) -> None:
        super().__init__(
            save_dir, name=name, version=version, default_hp_metric=False, purge_step=purge_step, flush_secs=10
        )
        self.tokens_per_step: int | None = None  # known when training starts
        self._purge_step = purge_step
        self._started = time.time()
        self._rows: dict[int, dict[str, float]] = {}  # not yet in the file
        self._columns: list[str] | None = None  # of the file, once it has been looked at

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}  # there are no epochs
        super().log_metrics(dict(values), step)
        if step is None or not values:
            return
        if self.tokens_per_step is not None:
            tokens = (step + 1) * self.tokens_per_step
            for name in ("train/loss", "train/bpb", "val/bpb"):
                if name in values:
                    self.experiment.add_scalar(f"by_tokens/{name}", values[name], tokens)
            values["tokens"] = tokens
        values["seconds"] = round(time.time() - self._started, 3)
        row = self._rows.setdefault(step, {})
        row.update(values)

    @rank_zero_only
    def log_result(self, settings: Mapping[str, Any], metric: str) -> None:
        """Puts the run into TensorBoard's table of hyperparameters, beside the last value of one of its curves.

        (:meth:`log_hyperparams` would write that value at step 0, into the curve.)

        Args:
            settings: numbers and short texts.
            metric: the name of the curve.
        """
        values = {name: value for name, value in settings.items() if isinstance(value, (int, float, str))}
        for summary in hparams(values, {metric: 0.0}):
            self.experiment._get_file_writer().add_summary(summary)

    @rank_zero_only
    def save(self) -> None:
        super().save()
        newest = max(self._rows, default=0)  # more may yet be logged for this step
        self._write_csv({step: self._rows.pop(step) for step in sorted(self._rows) if step < newest})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._write_csv(self._rows)
        self._rows = {}

    def _write_csv(self, rows: dict[int, dict[str, float]]) -> None:
        """Appends lines to the file, which is written anew when there is a column that it does not have."""
        if not rows:
            return
        path = Path(self.log_dir, CSV_NAME)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._columns is None:
            self._columns, old = _read_csv(path)
            if self._purge_step is not None:
                purged = {step: row for step, row in old.items() if step < self._purge_step}
                _write_rows(path, "w", self._columns, purged)
        new = dict.fromkeys(name for row in rows.values() for name in row if name not in self._columns)
        if new:
            _, old = _read_csv(path)
            self._columns += new
            _write_rows(path, "w", self._columns, {**old, **rows})
        else:
            _write_rows(path, "a", self._columns, rows)


def _read_csv(path: Path) -> tuple[list[str], dict[int, dict[str, Any]]]:
    """The columns and the lines of a file, by step; of a new file, the columns that every run has."""
    if not path.is_file():
        return ["step", "tokens", "seconds"], {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or []), {int(row["step"]): row for row in reader}


def _write_rows(path: Path, mode: str, columns: list[str], rows: Mapping[int, Mapping[str, Any]]) -> None:
    with open(path, mode, newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        if mode == "w":
            writer.writeheader()
        writer.writerows({"step": step, **row} for step, row in rows.items())
