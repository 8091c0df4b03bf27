"""Removing runs: only what was named, only within lightning_logs, and never what is in training."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from nanochat.housekeeping.listing import is_training
from nanochat.runs import RUNS, Run, find_runs

VERSION = re.compile(r"version_\d+")
GOING = ".removed-"  # what is being removed is called so: nobody takes the half of it for a whole
SWEEP = {"sweep.db", "sweep.lock", "output", "analysis", "analysis.html"}  # what a sweep keeps beside its trials


def choose(names: Sequence[str], root: str | Path) -> list[Run]:
    """The runs that are meant: "tiny/version_0", or "tiny" for all of that name; a path below lightning_logs will do.

    Raises:
        ValueError: if there is no such run, or it is not one that may be removed.
    """
    runs = find_runs(root)
    chosen: dict[Path, Run] = {}
    for name in names:
        wanted = _parts(name, root)
        found = [run for run in runs if (run.name, run.folder.name)[: len(wanted)] == wanted]
        if not found:
            there = ", ".join(dict.fromkeys(run.label if len(wanted) > 1 else run.name for run in runs))
            raise ValueError(f"no run in {Path(root, RUNS)} is called {name}: there is {there or 'none at all'}")
        chosen |= {run.folder: run for run in found}
    for run in chosen.values():
        check(run, root)
    return list(chosen.values())


def _parts(name: str, root: str | Path) -> tuple[str, ...]:
    path = Path(name)
    for base in (Path(root, RUNS), Path(root, RUNS).absolute()):
        if path.is_relative_to(base):
            path = path.relative_to(base)
    parts = path.parts
    fits = 1 <= len(parts) <= 2 and ".." not in parts and not path.is_absolute()
    if not fits or (len(parts) == 2 and not VERSION.fullmatch(parts[1])):
        raise ValueError(f"{name} is no run: write its name and version, such as tiny/version_0")
    return parts


def check(run: Run, root: str | Path) -> None:
    """Refuses what must not be removed.

    Raises:
        ValueError: if its folder is a link, or lies elsewhere than it seems to, or it is in training.
    """
    runs = Path(root, RUNS)
    folder = runs / run.name / run.folder.name
    for path in (folder.parent, folder):
        if path.is_symlink():
            raise ValueError(f"{path} is a link to another place: remove that by hand")
    if folder.resolve() != runs.resolve() / run.name / run.folder.name or not VERSION.fullmatch(run.folder.name):
        raise ValueError(f"{folder} does not lie below {runs}: it is not removed")
    if is_training(run):
        raise ValueError(f"{run.label} is in training: stop it first")


def unfinished(root: str | Path) -> list[Run]:
    """The runs that were stopped before their end, and are not in training."""
    return [run for run in find_runs(root) if not run.complete and not is_training(run)]


def remove_runs(chosen: Iterable[Run], root: str | Path) -> int:
    """Removes runs, and the folders that are empty then; returns how many bytes that frees."""
    freed = 0
    for run in chosen:
        check(run, root)  # it may have begun to train while the user was asked
        freed += run.size_bytes
        folder = Path(root, RUNS, run.name, run.folder.name)
        remove_folder(folder)
        left = {path.name for path in folder.parent.iterdir()}
        if left <= SWEEP:
            remove_folder(folder.parent)
    return freed


def remove_folder(folder: Path) -> None:
    """Removes a folder, so that there is either all of it or nothing. Links in it are removed, never what they lead to.

    Raises:
        OSError: if it cannot be removed.
    """
    going = folder.with_name(f"{GOING}{folder.name}-{os.getpid()}")
    folder.rename(going)
    shutil.rmtree(going)
    for left in folder.parent.glob(f"{GOING}*"):  # of a process that was stopped in the middle
        shutil.rmtree(left, ignore_errors=True)
