"""``runs``: what was trained, what it takes, and away with what is no longer wanted."""

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

WIDEST = 120  # columns of a table
REMOVE = "Remove these runs (tiny/version_0), or all of a name (tiny), after a question."
CLEAR = "Remove these caches (all, if none is named), after a question. What is needed is made again."


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
        sort: By what: date (of the last step), name, bpb, time or size. What is newest, best, longest or largest comes
            last.
        root: The folder that lightning_logs is in.
        remove: runs to remove.
        remove_unfinished: whether to remove the runs that were stopped before their end.
        caches: whether to list caches instead.
        clear_caches: caches to remove; an empty list means all.
        yes: whether to remove without a question.
        as_json: whether for programs.
    """
    from nanochat.housekeeping.caches import choose_caches, clear, find_caches
    from nanochat.housekeeping.caches import table as cache_table
    from nanochat.housekeeping.removal import choose, remove_runs, unfinished
    from nanochat.training.console import size

    if remove is not None or remove_unfinished:
        chosen = choose(remove, root) if remove is not None else []
        chosen += [run for run in (unfinished(root) if remove_unfinished else []) if run not in chosen]
        if not chosen:
            print("There is no unfinished run: nothing is removed.")
        elif _agreed(_listed(chosen, sort), f"Remove {_counted(chosen)}", yes):
            print(f"Removed: {size(remove_runs(chosen, root))} are free again.")
    elif clear_caches is not None:
        if training := _in_training(root):
            raise UsageError(f"{training} is in training and reads the caches: stop it first")
        wanted = choose_caches(clear_caches)
        if not wanted:
            print("There is nothing in these caches.")
        elif _agreed(cache_table(wanted), "Remove these caches", yes):
            print(f"Removed: {size(clear(wanted))} are free again.")
    elif caches:
        there = find_caches()
        rows = [{**cache._asdict(), "folder": str(cache.folder)} for cache in there]
        print(json.dumps(rows, indent=2) if as_json else cache_table(there))
    else:
        _list(sort, root, as_json)


def _list(sort: str, root: str, as_json: bool) -> None:
    from nanochat.housekeeping.listing import SORTS, facts, table

    rows = sorted(map(facts, find_runs(root)), key=SORTS[sort])
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print(table(rows, _columns()))
    else:
        first = f"{program_name()} fit --config configs/tiny.yaml"
        print(f"There are no runs below {Path(root, RUNS)}: `{first}` makes one.")


def _listed(chosen: Sequence[Run], sort: str) -> str:
    from nanochat.housekeeping.listing import SORTS, facts, table

    return table(sorted(map(facts, chosen), key=SORTS[sort]), _columns())


def _columns() -> int:
    return min(shutil.get_terminal_size((80, 24)).columns, WIDEST) if sys.stdout.isatty() else 80


def _counted(chosen: Sequence[Run]) -> str:
    return f"the run {chosen[0].label}" if len(chosen) == 1 else f"these {len(chosen)} runs"


def _agreed(what: str, question: str, yes: bool) -> bool:
    """Shows what is to be removed, and asks.

    Raises:
        UsageError: if nobody is there to answer.
    """
    print(what)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here, so nothing is removed: --yes removes without a question")
    answer = input(f"\n{question} for good? [y/N] ").strip().lower()
    if answer not in ("y", "yes"):
        print("Nothing is removed.")
        return False
    return True


def _in_training(root: str) -> str | None:
    from nanochat.housekeeping.listing import is_training

    return next((run.label for run in find_runs(root) if is_training(run)), None)


def run(arguments: Sequence[str]) -> int:
    """Runs ``runs``; returns the exit status."""
    return report_errors(lambda: _call(arguments[1:]))


def _call(words: Sequence[str]) -> None:
    own = ("remove", "remove_unfinished", "caches", "clear_caches", "yes", "as_json")
    parser = new_parser("runs", runs, skip=own)
    parser.add_argument("--remove", type=str, nargs="+", metavar="NAME/version_N", help=REMOVE)
    for flag, text in (
        ("remove_unfinished", "Remove the runs that were stopped before their end, after a question."),
        ("caches", "List the caches instead, with their sizes."),
    ):
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    parser.add_argument("--clear_caches", type=str, nargs="*", metavar="CACHE", help=CLEAR)
    parser.add_argument("--yes", action="store_true", help="Remove without a question.")
    parser.add_argument("--json", action="store_true", help="For programs: the list as JSON.")
    options: dict[str, Any] = parser.parse_args(list(words)).as_dict()
    options["as_json"] = options.pop("json")
    runs(**options)
