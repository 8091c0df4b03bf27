"""Finds the last or the best checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

from nanochat.runs import CHECKPOINTS
from nanochat.training.checkpoint.loading import LAST, PREVIOUS


def find_checkpoint(which: str, runs: Path, version: str = "version_*") -> Path:
    """The ``last`` or ``best`` checkpoint of the newest run that has one.

    Args:
        which: "last" or "best".
        runs: the folder of all runs of one name.
        version: name of the folder of a certain run.

    Raises:
        ValueError: if no run has one.
    """
    versions = [(int(p.name.split("_")[-1]), p) for p in runs.glob(version) if p.name.split("_")[-1].isdigit()]
    for _, run in sorted(versions, reverse=True):
        for name in (which, PREVIOUS) if which == LAST else (which,):
            path = run / CHECKPOINTS / f"{name}.ckpt"
            if path.is_file():
                return path
    raise ValueError(f"there is no {which} checkpoint below {runs}: train first, or give --ckpt_path a file")


def has_last_checkpoint(runs: Path, version: str = "version_*") -> bool:
    """Whether :func:`find_checkpoint` finds a last checkpoint."""
    try:
        return find_checkpoint(LAST, runs, version).is_file()
    except ValueError:
        return False
