"""Removes runs: only those that the user names, only within lightning_logs, and never one that is in training."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from nanochat.housekeeping.listing import is_training
from nanochat.runs import RUNS, Run, find_runs

VERSION = re.compile(r"version_\d+")
REMOVING = ".removed-"  # prefix of a folder that is being removed, so that a partial one is not mistaken for a run
SWEEP_FILES = {"sweep.db", "sweep.lock", "output", "analysis", "analysis.html"}  # of a sweep, next to its trials


def select_runs(names: Sequence[str], root: str | Path) -> list[Run]:
    """The runs with these names: "tiny/version_0", "tiny" for all runs of that name, or a path below lightning_logs.

    Raises:
        ValueError: if there is no such run, or it must not be removed.
    """
    runs = find_runs(root)
    chosen: dict[Path, Run] = {}
    for name in names:
        wanted = _split_name(name, root)
        found = [run for run in runs if (run.name, run.folder.name)[: len(wanted)] == wanted]
        if not found:
            existing = ", ".join(dict.fromkeys(run.label if len(wanted) > 1 else run.name for run in runs))
            choices = f"choose from {existing}" if existing else "there are no runs"
            raise ValueError(f"no run in {Path(root, RUNS)} is called {name}: {choices}")
        chosen |= {run.folder: run for run in found}
    for run in chosen.values():
        check_removable(run, root)
    return list(chosen.values())


def _split_name(name: str, root: str | Path) -> tuple[str, ...]:
    """``("tiny", "version_0")`` or ``("tiny",)``."""
    path = Path(name)
    for base in (Path(root, RUNS), Path(root, RUNS).absolute()):
        if path.is_relative_to(base):
            path = path.relative_to(base)
    parts = path.parts
    valid = 1 <= len(parts) <= 2 and ".." not in parts and not path.is_absolute()
    if not valid or (len(parts) == 2 and not VERSION.fullmatch(parts[1])):
        raise ValueError(f"{name} is not a run: give its name and version, such as tiny/version_0")
    return parts


def check_removable(run: Run, root: str | Path) -> None:
    """Checks that a run may be removed.

    Raises:
        ValueError: if its folder is a symbolic link or outside of ``root``, or the run is in training.
    """
    runs = Path(root, RUNS)
    folder = runs / run.name / run.folder.name
    for path in (folder.parent, folder):
        if path.is_symlink():
            raise ValueError(f"{path} is a link to another folder: remove it by hand")
    if folder.resolve() != runs.resolve() / run.name / run.folder.name or not VERSION.fullmatch(run.folder.name):
        raise ValueError(f"{folder} is not a run folder below {runs}: remove it by hand")
    if is_training(run):
        raise ValueError(f"{run.label} is in training: stop it first")


def unfinished_runs(root: str | Path) -> list[Run]:
    """The runs that were stopped before their end and are not in training."""
    return [run for run in find_runs(root) if not run.complete and not is_training(run)]


def remove_runs(chosen: Iterable[Run], root: str | Path) -> int:
    """Removes runs, and parent folders that become empty or have only files of a sweep; returns the freed bytes.

    Raises:
        ValueError: if a run must not be removed.
    """
    freed = 0
    for run in chosen:
        check_removable(run, root)  # again, since training may have started while the user was asked
        freed += run.size_bytes
        folder = Path(root, RUNS, run.name, run.folder.name)
        remove_folder(folder)
        remaining = {path.name for path in folder.parent.iterdir()}
        if remaining <= SWEEP_FILES:
            remove_folder(folder.parent)
    return freed


def remove_folder(folder: Path) -> None:
    """Removes a folder atomically, by renaming it first. Links in it are removed, not the files they point to.

    Raises:
        OSError: if it cannot be removed.
    """
    renamed = folder.with_name(f"{REMOVING}{folder.name}-{os.getpid()}")
    folder.rename(renamed)
    shutil.rmtree(renamed)
    for remnant in folder.parent.glob(f"{REMOVING}*"):  # of a removal that was interrupted
        shutil.rmtree(remnant, ignore_errors=True)
