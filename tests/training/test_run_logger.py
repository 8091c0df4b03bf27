"""``metrics.csv`` and TensorBoard's event files."""

import csv
import os
import socket
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nanochat.training.run_logger import RunLogger


def read(folder: str) -> list[dict[str, str]]:
    with open(Path(folder, "metrics.csv"), newline="") as file:
        return list(csv.DictReader(file))


def log(logger: RunLogger, steps: range) -> None:
    for step in steps:
        logger.log_metrics({"train/loss": 10 - step, "epoch": 0}, step)
        if step % 2:
            logger.log_metrics({"val/bpb": step / 10}, step)
        logger.save()


def test_one_row_per_step(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, "run")
    logger.tokens_after = lambda steps: 100 * steps
    log(logger, range(4))
    logger.finalize("success")
    rows = read(logger.log_dir)
    assert [(r["step"], r["tokens"], r["train/loss"], r["val/bpb"]) for r in rows] == [
        ("0", "100", "10.0", ""),
        ("1", "200", "9.0", "0.1"),
        ("2", "300", "8.0", ""),
        ("3", "400", "7.0", "0.3"),
    ]


def test_a_resumed_run_replaces_the_rows_after_its_checkpoint(tmp_path: Path) -> None:
    first = RunLogger(tmp_path, "run")
    log(first, range(5))
    first.finalize("failed")
    second = RunLogger(tmp_path, "run", version=0, purge_step=3)
    second.log_metrics({"train/loss": 0.5, "new": 1}, 3)
    second.finalize("success")
    rows = read(first.log_dir)
    assert [(r["step"], r["train/loss"], r["new"]) for r in rows] == [
        ("0", "10.0", ""),
        ("1", "9.0", ""),
        ("2", "8.0", ""),
        ("3", "0.5", "1.0"),
    ]
    events = EventAccumulator(first.log_dir).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["zzz.9.0", f"{socket.gethostname()}.{os.getpid()}.9999"])
def test_resumed_in_the_same_second(tmp_path: Path, name: str) -> None:
    """TensorBoard reads event files in the order of their names: by second, host, process and number, as text."""
    first = RunLogger(tmp_path, "run")
    while time.time() % 1 > 0.3:  # so that everything happens within one second
        time.sleep(0.01)
    log(first, range(10))
    first.finalize("failed")
    (file,) = Path(first.log_dir).glob("events.*")
    prefix = ".".join(file.name.split(".")[:4])
    file.rename(file.with_name(f"{prefix}.{name}"))  # sorts after any name of this process in the same second
    second = RunLogger(tmp_path, "run", version=0, purge_step=5)
    log(second, range(5, 12))
    second.finalize("success")
    events = EventAccumulator(first.log_dir).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(12))


def test_curves_by_tokens(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, "run")
    logger.tokens_after = lambda steps: 2048 * steps
    log(logger, range(4))
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir).Reload()
    assert [event.step for event in events.Scalars("by_tokens/val/bpb")] == [4096, 8192]


def test_a_resumed_run_continues_the_curves_by_tokens(tmp_path: Path) -> None:
    first = RunLogger(tmp_path, "run")
    first.tokens_after = lambda steps: 2048 * steps
    log(first, range(5))
    first.finalize("failed")
    second = RunLogger(tmp_path, "run", version=0, purge_step=3)
    second.tokens_after = lambda steps: 2048 * steps
    log(second, range(3, 6))
    second.finalize("success")
    events = EventAccumulator(first.log_dir).Reload()
    assert [event.step for event in events.Scalars("by_tokens/train/loss")] == [2048 * n for n in range(1, 7)]
    assert [event.step for event in events.Scalars("train/loss")] == list(range(6))
    seconds = [float(row["seconds"]) for row in read(first.log_dir)]
    assert seconds == sorted(seconds)


def test_a_truncated_row_is_dropped(tmp_path: Path) -> None:
    first = RunLogger(tmp_path, "run")
    log(first, range(5))
    first.finalize("failed")
    path = Path(first.log_dir, "metrics.csv")
    path.write_text(path.read_text()[:-9])
    second = RunLogger(tmp_path, "run", version=0, purge_step=4)
    log(second, range(4, 6))
    second.finalize("success")
    assert [row["step"] for row in read(first.log_dir)] == ["0", "1", "2", "3", "4", "5"]


def test_new_metrics_of_a_written_step_join_its_row(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, "run")
    for step in range(3):
        logger.log_metrics({"a": step, "b": -step}, step)
    logger.flush()
    logger.log_metrics({"a": 7.0}, 2)
    logger.finalize("success")
    rows = [(row["step"], float(row["a"]), float(row["b"])) for row in read(logger.log_dir)]
    assert rows == [("0", 0, 0), ("1", 1, -1), ("2", 7, -2)]
