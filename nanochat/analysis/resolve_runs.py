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


def resolve_runs(
    queries: Sequence[str], root: str | Path = ".", all_versions: bool = False, program: str = "python cli.py"
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
    if not queries:
        if not runs:
            raise ValueError(f"there is no run below {Path(root, RUNS)}: train one with `{program} fit`")
        queries = [runs[-1].name if all_versions else str(runs[-1].folder)]
    found: dict[Path, Run] = {}
    for query in queries:
        for run in _resolve(query, runs, root, all_versions):
            found.setdefault(run.folder.resolve(), run)
    return list(found.values())


def _resolve(query: str, runs: Sequence[Run], root: str | Path, all_versions: bool) -> list[Run]:
    path = Path(query)
    inside = [run for run in runs if run.name == query.rstrip("/") or run.label == query.rstrip("/")]
    if not inside and path.is_dir():
        below = [read for child in path.glob("version_*") if (read := _read_or_none(child)) is not None]
        if not below:
            return [read_run(path)]
        inside = sorted(below, key=lambda run: (run.updated, run.version))
    if inside:
        return sorted(inside, key=lambda run: run.version) if all_versions else inside[-1:]
    labels = sorted({run.name for run in runs} | {run.label for run in runs})
    names = ", ".join(sorted({run.name for run in runs}))
    hint = did_you_mean(query, labels) or (f": there is {names}" if names else "")
    raise ValueError(f"there is no run {query} below {Path(root, RUNS)}{hint}")


def _read_or_none(folder: Path) -> Run | None:
    try:
        return read_run(folder)
    except ValueError:
        return None


def comparison_folder(runs: Sequence[Run], root: str | Path = ".") -> Path:
    """Where the comparison of these runs is written: the same runs, the same folder.

    It is called after the runs: "analysis-tiny" for several versions of tiny alone, "analysis-tiny-small" for the two;
    where the versions do not follow from that, or the name would become long, a short hash is added.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    stem = re.sub(r"[^\w.-]+", "_", PREFIX + "-".join(names))
    labels = sorted(str(run.folder.resolve()) for run in runs)
    all_versions = {str(run.folder.resolve()) for run in find_runs(root) if run.name in names}
    if all_versions == set(labels) and len(stem) <= LONGEST:
        return Path(root, RUNS, stem)
    return Path(root, RUNS, f"{stem[:LONGEST]}-{hashlib.sha256(' '.join(labels).encode()).hexdigest()[:6]}")
