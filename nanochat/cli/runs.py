"""``runs``: lists runs and caches, and removes them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from nanochat.cli.errors import UsageError, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import new_parser
from nanochat.runs import RUNS, Run, find_runs

MAX_WIDTH = 120  # characters of a table's line
REMOVE = "Remove these runs (tiny/version_0), or all runs of a name (tiny), after confirmation."
CLEAR = "Remove these caches (all, if none is named), after confirmation. They are rebuilt when needed."


def runs(
    sort: Literal["date", "name", "bpb", "time", "size"] = "date",
    root: str = ".",
    remove: list[str] | None = None,
    remove_unfinished: bool = False,
    caches: bool = False,
    clear_caches: list[str] | None = None,
    yes: bool = False,
    as_json: bool = False,
) -> None:
    """Lists runs or caches, or removes some.

    Args:
        sort: Sort by date (of the last step), name, bpb, time or size; the newest, best, longest or largest is last.
        root: The folder that contains lightning_logs.
        remove: runs to remove.
        remove_unfinished: whether to remove the runs that were stopped before their end.
        caches: whether to list caches instead.
        clear_caches: caches to remove; an empty list means all.
        yes: whether to remove without confirmation.
        as_json: whether to print the list as JSON.
    """
    from nanochat.housekeeping.caches import caches_table, find_caches, remove_caches, select_caches
    from nanochat.housekeeping.removal import remove_runs, select_runs, unfinished_runs
    from nanochat.training.console import size

    if remove is not None or remove_unfinished:
        chosen = select_runs(remove, root) if remove is not None else []
        chosen += [run for run in (unfinished_runs(root) if remove_unfinished else []) if run not in chosen]
        if not chosen:
            print("There are no unfinished runs: nothing is removed.")
        elif _confirm(_table(chosen, sort), f"Remove {_these_runs(chosen)}", yes):
            print(f"Removed: {size(remove_runs(chosen, root))} freed.")
    elif clear_caches is not None:
        if training := _in_training(root):
            raise UsageError(f"{training} is in training and reads the caches: stop it first")
        selected = select_caches(clear_caches)
        if not selected:
            print("These caches are empty: nothing is removed.")
        elif _confirm(caches_table(selected), "Remove these caches", yes):
            print(f"Removed: {size(remove_caches(selected))} freed.")
    elif caches:
        found = find_caches()
        rows = [{**cache._asdict(), "folder": str(cache.folder)} for cache in found]
        print(json.dumps(rows, indent=2) if as_json else caches_table(found))
    else:
        _list(sort, root, as_json)


def _list(sort: str, root: str, as_json: bool) -> None:
    found = find_runs(root)
    if as_json:
        print(json.dumps(_rows(found, sort), indent=2))
    elif found:
        print(_table(found, sort))
    else:
        example = f"{program_name()} fit --config configs/tiny.yaml"
        print(f"There are no runs below {Path(root, RUNS)}. To train one: {example}")


def _rows(chosen: Sequence[Run], sort: str) -> list[dict[str, Any]]:
    from nanochat.housekeeping.listing import SORT_KEYS, run_row

    return sorted(map(run_row, chosen), key=SORT_KEYS[sort])


def _table(chosen: Sequence[Run], sort: str) -> str:
    from nanochat.housekeeping.listing import runs_table

    width = min(shutil.get_terminal_size((80, 24)).columns, MAX_WIDTH) if sys.stdout.isatty() else 80
    return runs_table(_rows(chosen, sort), width)


def _these_runs(chosen: Sequence[Run]) -> str:
    return f"the run {chosen[0].label}" if len(chosen) == 1 else f"these {len(chosen)} runs"


def _confirm(listing: str, question: str, yes: bool) -> bool:
    """Prints what will be removed, and asks for confirmation unless ``yes``.

    Raises:
        UsageError: if the standard input is not a terminal.
    """
    print(listing)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to confirm the removal, so nothing is removed: add --yes to remove")
    answer = input(f"\n{question} permanently? [y/N] ").strip().lower()
    if answer not in ("y", "yes"):
        print("Nothing is removed.")
        return False
    return True


def _in_training(root: str) -> str | None:
    """The label of a run that is in training, if there is one."""
    from nanochat.housekeeping.listing import is_training

    return next((run.label for run in find_runs(root) if is_training(run)), None)


def run(arguments: Sequence[str]) -> int:
    """Runs ``runs``; returns the exit status."""
    return report_errors(lambda: _call(arguments[1:]))


def _call(words: Sequence[str]) -> None:
    added = ("remove", "remove_unfinished", "caches", "clear_caches", "yes", "as_json")  # added below
    parser = new_parser("runs", runs, skip=added)
    parser.add_argument("--remove", type=str, nargs="+", metavar="NAME/version_N", help=REMOVE)
    for flag, text in (
        ("remove_unfinished", "Remove the runs that were stopped before their end, after confirmation."),
        ("caches", "List the caches and their sizes instead of the runs."),
    ):
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    parser.add_argument("--clear_caches", type=str, nargs="*", metavar="CACHE", help=CLEAR)
    parser.add_argument("--yes", action="store_true", help="Remove without confirmation.")
    parser.add_argument("--json", action="store_true", help="Print the list as JSON, for programs.")
    options: dict[str, Any] = parser.parse_args(list(words)).as_dict()
    options["as_json"] = options.pop("json")
    runs(**options)
