"""A TensorBoardLogger that also writes ``metrics.csv``, and curves with tokens as x-axis."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from nanochat.runs import METRICS
from nanochat.training.metrics_file import MetricsFile, read_metrics

BY_TOKENS = ("train/loss", "train/bpb", "val/bpb")  # metrics that also have a curve by tokens


class RunLogger(TensorBoardLogger):
    """Lightning's TensorBoardLogger for the runs of this project.

    ``metrics.csv`` has a row for each logged step, with the step, the tokens and the seconds so far. In TensorBoard the
    losses are also under ``by_tokens/``, with the number of tokens as x-axis, because runs with different batch sizes
    are not comparable by steps.

    Args:
        save_dir: the folder of all runs.
        name: of the run.
        version: a number or the name of a folder; None takes the next free number.
        purge_step: first step of a resumed run; rows and points from it on are removed.

    Attributes:
        tokens_after: returns the number of tokens after a number of steps; None before training.
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
        self.tokens_after: Callable[[int], int] | None = None
        self._purge_step = purge_step
        self._is_resumed = False  # whether the earlier process's rows have been read
        self._started = time.time()
        self._rows: dict[int, dict[str, float]] = {}  # by step, not yet in the file
        self._file = MetricsFile(purge_step)

    @property
    def experiment(self) -> SummaryWriter:
        """TensorBoard's writer, created on first use."""
        if self._experiment is None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            _wait_for_next_file_name(Path(self.log_dir))
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # without Lightning's "epoch", as the training stream has no epochs
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        super().log_metrics(dict(values), step)
        if step is None or not values:
            return
        if self._purge_step is not None and not self._is_resumed:
            self._resume(self._purge_step)
        if self.tokens_after is not None:
            values["tokens"] = self.tokens_after(step + 1)
            self._add_by_tokens(values)
        values["seconds"] = round(time.time() - self._started, 3)
        row = self._rows.setdefault(step, {})
        row.update(values)

    def _add_by_tokens(self, values: Mapping[str, Any]) -> None:
        for name in BY_TOKENS:
            if values.get(name) not in (None, ""):
                self.experiment.add_scalar(f"by_tokens/{name}", float(values[name]), int(float(values["tokens"])))

    def _resume(self, purge_step: int) -> None:
        """Continues the earlier process's seconds, and writes its curves by tokens again.

        (TensorBoard removes them: it compares ``purge_step`` with the x-axis of these curves, which is tokens.)
        """
        self._is_resumed = True
        _, rows = read_metrics(Path(self.log_dir, METRICS))
        before = [row for step, row in rows.items() if step < purge_step]
        for row in before:
            if row.get("tokens"):
                self._add_by_tokens(row)
        if before and before[-1].get("seconds"):
            self._started -= float(before[-1]["seconds"])

    @rank_zero_only
    def log_result(self, settings: Mapping[str, Any], metric: str) -> None:
        """Adds the run to TensorBoard's table of hyperparameters, with the last value of a metric.

        (:meth:`log_hyperparams` would add a point with that value to the metric's curve, at step 0.)

        Args:
            settings: numbers and short texts.
            metric: its name.
        """
        values = {name: value for name, value in settings.items() if isinstance(value, (int, float, str))}
        for summary in hparams(values, {metric: 0.0}):
            self.experiment._get_file_writer().add_summary(summary)

    @rank_zero_only
    def save(self) -> None:
        super().save()
        newest = max(self._rows, default=0)  # more metrics may follow for this step
        self._write_rows({step: self._rows.pop(step) for step in sorted(self._rows) if step < newest})

    @rank_zero_only
    def flush(self) -> None:
        """Writes everything to the files, so that nothing is lost if the process is killed."""
        self.experiment.flush()
        self._write_rows(self._rows)
        self._rows = {}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._write_rows(self._rows)
        self._rows = {}

    def _write_rows(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        self._file.write(Path(self.log_dir, METRICS), rows)


def _wait_for_next_file_name(folder: Path) -> None:
    """Waits, up to a second, until a new file of events sorts after all files in the folder.

    TensorBoard reads the files in the order of their names, ``events.out.tfevents.<second>.<host>.<process>.<number>``,
    so files of the same second may be in the wrong order (9 comes after 10). If the file of a killed run came after the
    file of the process that resumed it, TensorBoard would remove the points of the latter.
    """
    for _ in range(100):
        if not any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            return
        time.sleep(0.01)
