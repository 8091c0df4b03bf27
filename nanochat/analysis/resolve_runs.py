"""Resolves runs from folders, labels and names, and names the folder of a comparison."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from nanochat.options import did_you_mean
from nanochat.runs import RUNS, Run, find_runs, read_run

PREFIX = "analysis-"  # of the folder of a comparison, in lightning_logs
MAX_LENGTH = 60  # characters of that folder's name, without a hash


def resolve_runs(
    queries: Sequence[str], root: str | Path = ".", all_versions: bool = False, program: str = "python cli.py"
) -> list[Run]:
    """The runs that the queries refer to, without duplicates, in the order of the queries.

    Args:
        queries: folders of runs ("lightning_logs/tiny/version_0"), labels ("tiny/version_0"), or names ("tiny", or
            the folder of that name), which give their newest run. An empty list gives the newest run of all.
        root: the folder that contains lightning_logs.
        all_versions: whether a name gives all of its runs instead of the newest.
        program: the command line that error messages suggest.

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
    matching = [run for run in runs if run.name == query.rstrip("/") or run.label == query.rstrip("/")]
    if not matching and path.is_dir():
        versions = [run for child in path.glob("version_*") if (run := _read_or_none(child)) is not None]
        if not versions:
            return [read_run(path)]
        matching = sorted(versions, key=lambda run: (run.updated, run.version))
    if matching:
        return sorted(matching, key=lambda run: run.version) if all_versions else matching[-1:]
    known = sorted({run.name for run in runs} | {run.label for run in runs})
    names = ", ".join(sorted({run.name for run in runs}))
    hint = did_you_mean(query, known) or (f": there is {names}" if names else "")
    raise ValueError(f"there is no run {query} below {Path(root, RUNS)}{hint}")


def _read_or_none(folder: Path) -> Run | None:
    try:
        return read_run(folder)
    except ValueError:
        return None


def comparison_folder(runs: Sequence[Run], root: str | Path = ".") -> Path:
    """The folder for the comparison of these runs; the same runs give the same folder.

    It is named after the runs: "analysis-tiny" for all versions of tiny, "analysis-tiny-small" for all versions of
    both. A short hash is appended if some versions of a name are left out, or if the name would be too long.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    stem = re.sub(r"[^\w.-]+", "_", PREFIX + "-".join(names))
    folders = sorted(str(run.folder.resolve()) for run in runs)
    all_folders = {str(run.folder.resolve()) for run in find_runs(root) if run.name in names}
    if all_folders == set(folders) and len(stem) <= MAX_LENGTH:
        return Path(root, RUNS, stem)
    return Path(root, RUNS, f"{stem[:MAX_LENGTH]}-{hashlib.sha256(' '.join(folders).encode()).hexdigest()[:6]}")
