"""TensorBoard's logger, which also writes a CSV file beside the events and draws curves against tokens seen."""

from __future__ import annotations

import csv
import io
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from nanochat.cache import write_atomically
from nanochat.runs import METRICS

BY_TOKENS = ("train/loss", "train/bpb", "val/bpb")  # drawn against tokens as well


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
        self.tokens_after: Callable[[int], int] | None = None  # so many steps; known when training starts
        self._purge_step = purge_step
        self._taken_up = False
        self._started = time.time()
        self._rows: dict[int, dict[str, float]] = {}  # not yet in the file
        self._columns: list[str] | None = None  # of the file, once it has been looked at
        self._newest = -1  # step in the file

    @property
    def experiment(self) -> SummaryWriter:
        """TensorBoard's writer, which opens its file when it is first used."""
        if self._experiment is None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            _wait_for_a_later_name(Path(self.log_dir))
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}  # there are no epochs
        super().log_metrics(dict(values), step)
        if step is None or not values:
            return
        if self._purge_step is not None and not self._taken_up:
            self._take_up(self._purge_step)
        if self.tokens_after is not None:
            values["tokens"] = self.tokens_after(step + 1)
            self._draw_by_tokens(values)
        values["seconds"] = round(time.time() - self._started, 3)
        row = self._rows.setdefault(step, {})
        row.update(values)

    def _draw_by_tokens(self, values: Mapping[str, Any]) -> None:
        for name in BY_TOKENS:
            if values.get(name) not in (None, ""):
                self.experiment.add_scalar(f"by_tokens/{name}", float(values[name]), int(float(values["tokens"])))

    def _take_up(self, purge_step: int) -> None:
        """Goes on where an earlier process stopped: its seconds count, and its curves by tokens are drawn again.

        (TensorBoard drops them: it compares the step of going on with the x-axis of these curves, which is tokens.)
        """
        self._taken_up = True
        _, rows = _read_csv(Path(self.log_dir, METRICS))
        before = [row for step, row in rows.items() if step < purge_step]
        for row in before:
            if row.get("tokens"):
                self._draw_by_tokens(row)
        if before and before[-1].get("seconds"):
            self._started -= float(before[-1]["seconds"])

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
    def flush(self) -> None:
        """Puts everything into the files, so that nothing is lost if the process is killed."""
        self.experiment.flush()
        self._write_csv(self._rows)
        self._rows = {}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._write_csv(self._rows)
        self._rows = {}

    def _write_csv(self, rows: dict[int, dict[str, float]]) -> None:
        """Appends lines to the file, which is written anew for a new column and for more about an old step."""
        if not rows:
            return
        path = Path(self.log_dir, METRICS)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._columns is None:
            self._columns, old = _read_csv(path)
            if self._purge_step is not None:
                old = {step: row for step, row in old.items() if step < self._purge_step}
                _write_rows(path, self._columns, old)
            self._newest = max(old, default=-1)
        new = dict.fromkeys(name for row in rows.values() for name in row if name not in self._columns)
        if new or not path.is_file() or min(rows) <= self._newest:
            _, old = _read_csv(path)
            self._columns += new
            for step, row in rows.items():
                old[step] = {**old.get(step, {}), **row}
            _write_rows(path, self._columns, old)
        else:
            with open(path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerows(_lines(rows))
        self._newest = max(self._newest, *rows)


def _wait_for_a_later_name(folder: Path) -> None:
    """Waits, a second at most, until a new file of events comes after those of other processes in the folder.

    TensorBoard reads the files in the order of their names, which hold the second and the number of the process. Two
    of one second may be read the wrong way round: then the end of a killed run would come after the run that goes on
    from it, and all that it logged would be dropped.
    """
    for _ in range(100):
        mine = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}."
        now = mine.split(".")[3]
        of_now = [path.name for path in folder.glob(f"events.out.tfevents.{now}.*")]
        if all(name.startswith(mine) for name in of_now):
            return
        time.sleep(0.01)


def _read_csv(path: Path) -> tuple[list[str], dict[int, dict[str, Any]]]:
    """The columns and the lines of a file, by step; of a new file, the columns that every run has.

    A line that was cut short when a process was killed is left out.
    """
    if not path.is_file():
        return ["step", "tokens", "seconds"], {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        whole = [row for row in reader if None not in row.values() and str(row.get("step")).isdigit()]
        return list(reader.fieldnames or ["step", "tokens", "seconds"]), {int(row["step"]): row for row in whole}


def _write_rows(path: Path, columns: list[str], rows: Mapping[int, Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_lines(rows))
    write_atomically(path, text.getvalue())


def _lines(rows: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "step": step} for step, row in rows.items()]
