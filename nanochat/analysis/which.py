"""Which runs are meant: folders, names, versions, or the newest there is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from nanochat.options import did_you_mean
from nanochat.runs import RUNS, Run, find_runs, read_run

PREFIX = "analysis-"  # of the folder of a comparison, in lightning_logs
LONGEST = 60  # letters in the name of that folder


def find(
    words: Sequence[str], root: str | Path = ".", every: bool = False, program: str = "python cli.py"
) -> list[Run]:
    """The runs that are meant, each once, in the order in which they were asked for.

    Args:
        words: of each run or group of runs its folder ("lightning_logs/tiny/version_0"), its label
            ("tiny/version_0"), or a name ("tiny", or the folder of that name), of which the newest run is taken. None
            at all means the newest run.
        root: the folder that lightning_logs is in.
        every: take all runs of a name instead of the newest one.
        program: how the user calls the command line, for what an error proposes.

    Raises:
        ValueError: if there is no such run.
    """
    runs = find_runs(root)
    if not words:
        if not runs:
            raise ValueError(f"there is no run below {Path(root, RUNS)}: train one with `{program} fit`")
        words = [runs[-1].name if every else str(runs[-1].folder)]
    found: dict[Path, Run] = {}
    for word in words:
        for run in _meant(word, runs, root, every):
            found.setdefault(run.folder.resolve(), run)
    return list(found.values())


def _meant(word: str, runs: Sequence[Run], root: str | Path, every: bool) -> list[Run]:
    path = Path(word)
    inside = [run for run in runs if run.name == word.rstrip("/") or run.label == word.rstrip("/")]
    if not inside and path.is_dir():
        below = [read for child in path.glob("version_*") if (read := _try(child)) is not None]
        if not below:
            return [read_run(path)]
        inside = sorted(below, key=lambda run: (run.updated, run.version))
    if inside:
        return sorted(inside, key=lambda run: run.version) if every else inside[-1:]
    labels = sorted({run.name for run in runs} | {run.label for run in runs})
    names = ", ".join(sorted({run.name for run in runs}))
    hint = did_you_mean(word, labels) or (f": there is {names}" if names else "")
    raise ValueError(f"there is no run {word} below {Path(root, RUNS)}{hint}")


def _try(folder: Path) -> Run | None:
    try:
        return read_run(folder)
    except ValueError:
        return None


def folder_for(runs: Sequence[Run], root: str | Path = ".") -> Path:
    """Where the comparison of these runs is written: the same runs, the same folder.

    It is called after the runs: "analysis-tiny" for several versions of tiny alone, "analysis-tiny-small" for the two;
    where the versions do not follow from that, or the name would become long, a short hash is added.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    stem = re.sub(r"[^\w.-]+", "_", PREFIX + "-".join(names))
    labels = sorted(str(run.folder.resolve()) for run in runs)
    every = {str(run.folder.resolve()) for run in find_runs(root) if run.name in names}
    if every == set(labels) and len(stem) <= LONGEST:
        return Path(root, RUNS, stem)
    return Path(root, RUNS, f"{stem[:LONGEST]}-{hashlib.sha256(' '.join(labels).encode()).hexdigest()[:6]}")
