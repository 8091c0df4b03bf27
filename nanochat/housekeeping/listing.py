"""Lists runs, as a table and as plain values for JSON."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil

from nanochat.runs import EVENTS, SUMMARY, Run
from nanochat.text_table import format_table
from nanochat.training.console import clock, count, size
from nanochat.wording import plural

WIDTH_PER_DEPTH = 64  # of a model whose width is not configured
SUMMARY_TOLERANCE = 2.0  # seconds; a process writes the summary last, so newer files are from another process
REMOTE_TIMEOUT = 600.0  # seconds since the last write, until a run on another machine is considered stopped
COMPLETE, STOPPED, TRAINING = "complete", "stopped", "training"
MARKS = {COMPLETE: " ", STOPPED: "*", TRAINING: ">"}
LEGEND = {STOPPED: "* stopped before its end: resume with --ckpt_path=last", TRAINING: "> in training"}
SORT_KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "date": lambda row: row["updated"],
    "name": lambda row: (row["name"], row["version"]),
    "bpb": lambda row: -(row["val_bpb"] if row["val_bpb"] is not None else 1e9),  # the best run last
    "time": lambda row: row["seconds"] or 0,
    "size": lambda row: row["size_bytes"],
}


def state(run: Run) -> str:
    """``COMPLETE``, ``TRAINING``, or otherwise ``STOPPED``."""
    if is_training(run):
        return TRAINING
    return COMPLETE if run.complete else STOPPED


def is_training(run: Run) -> bool:
    """Whether a process is training this run, according to the host and process id in the names of its event files.

    The process of another machine cannot be queried: its run counts as in training for ``REMOTE_TIMEOUT`` seconds after
    the last write.
    """
    files = [path for path in run.folder.iterdir() if EVENTS.match(path.name)] if run.folder.is_dir() else []
    if not files or (run.complete and run.updated <= (run.folder / SUMMARY).stat().st_mtime + SUMMARY_TOLERANCE):
        return False
    newest = max(files, key=lambda path: path.stat().st_mtime)
    # events.out.tfevents.<time>.<host>.<pid>.<count>
    host, _, pid = newest.name.split(".", 4)[-1].rpartition(".")[0].rpartition(".")
    if host != platform.node() or not pid.isdecimal():
        return time.time() - run.updated < REMOTE_TIMEOUT
    match = EVENTS.match(newest.name)
    assert match is not None
    with suppress(psutil.Error):
        process = psutil.Process(int(pid))
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= float(match[1]) + 1
    return False


def run_row(run: Run) -> dict[str, Any]:
    """The row of a run in the list, in plain values; None where its files do not have a value."""
    summary, model = run.summary, run.config.get("model")
    model = model if isinstance(model, dict) else {}
    depth = model.get("depth")
    width = model.get("width") or (WIDTH_PER_DEPTH * depth if isinstance(depth, int) else None)
    score, seconds = summary.get("val_bpb"), summary.get("seconds")
    steps = summary.get("steps")
    if not run.complete:
        _, scores = run.curve("val/bpb")
        score = scores[-1] if scores else score
        metrics = run.metrics()
        seconds = max([s for s in metrics.get("seconds", []) if not math.isnan(s)], default=seconds)
        steps = int(max(metrics["step"])) + 1 if metrics.get("step") else steps
    return {
        "name": run.name,
        "version": run.version,
        "run": run.label,
        "folder": str(run.folder),
        "stage": run.stage,
        "depth": depth,
        "width": width,
        "parameters": summary.get("parameters"),
        "started": run.started,
        "updated": run.updated,
        "steps": steps,
        "val_bpb": score if isinstance(score, (int, float)) else None,
        "seconds": seconds if isinstance(seconds, (int, float)) else None,
        "size_bytes": run.size_bytes,
        "state": state(run),
        "problems": run.problems,
    }


def runs_table(rows: Sequence[dict[str, Any]], width: int = 80) -> str:
    """One line per run, at most ``width`` characters long (names are shortened), a legend, and the total size."""
    head = ["  run", "model", "stage", "date", "val/bpb", "time", "disk"]
    lines = format_table([head, *map(_cells, rows)], right=(4, 5, 6), narrow=(0,), width=width)
    marks = [text for state, text in LEGEND.items() if any(row["state"] == state for row in rows)]
    total = f"{plural(len(rows), 'run')}, {size(sum(row['size_bytes'] for row in rows))}"
    return "\n".join([lines, "", *marks, total])


def _cells(row: dict[str, Any]) -> list[str]:
    shape = f"{row['depth']}x{row['width']}" if row["depth"] else count(row["parameters"]) if row["parameters"] else "-"
    return [
        f"{MARKS[row['state']]} {row['run']}",
        shape,
        row["stage"],
        date(row["updated"]),
        f"{row['val_bpb']:.4f}" if row["val_bpb"] is not None else "-",
        clock(row["seconds"]) if row["seconds"] is not None else "-",
        size(row["size_bytes"]),
    ]


def date(seconds: float) -> str:
    """ "11-24 17:18" in the current year, "2025-11-24" in others."""
    when = time.localtime(seconds)
    this_year = when.tm_year == time.localtime().tm_year
    return time.strftime("%m-%d %H:%M" if this_year else "%Y-%m-%d", when)
