"""``doctor``: checks whether this machine can train, and prints what to do about each problem."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from nanochat.cli.errors import UsageError, report_errors
from nanochat.cli.main import COMMANDS, program_name
from nanochat.doctor.all_checks import as_json, format_check, run_checks, verdict
from nanochat.doctor.check import PROBLEM
from nanochat.options import did_you_mean

NOT_READY = 1  # exit status if there is a problem
MAX_WIDTH = 100  # columns


def doctor(root: str = ".", as_json_text: bool = False) -> int:
    """Runs all checks and prints their results.

    Args:
        root: the folder that contains lightning_logs, or will.
        as_json_text: whether to print JSON.

    Returns:
        The exit status: 0 if nothing necessary is missing, else 1.
    """
    width = min(shutil.get_terminal_size((80, 24)).columns, MAX_WIDTH) if sys.stdout.isatty() else 80
    checks = []
    for check in run_checks(Path(root)):
        checks.append(check)
        if not as_json_text:
            print(format_check(check, width), flush=True)
    print(json.dumps(as_json(checks), indent=2) if as_json_text else "\n" + verdict(checks))
    return NOT_READY if any(check.status == PROBLEM for check in checks) else 0


class _Parser(argparse.ArgumentParser):
    """Python's own parser: the project's needs jsonargparse, which may be missing."""

    def error(self, message: str) -> NoReturn:
        word = message.rpartition("unrecognized arguments: ")[2].split("=")[0]
        if word != message:
            raise UsageError(
                f"there is no option {word}{did_you_mean(word, ['--root', '--json'])} (all of them: --help)"
            )
        raise UsageError(message)


def run(arguments: Sequence[str]) -> int:
    """Runs ``doctor``; returns the exit status."""
    return report_errors(lambda: sys.exit(_call(arguments[1:])))


def _call(words: Sequence[str]) -> int:
    parser = _Parser(
        prog=f"{program_name()} doctor",
        description=f"{COMMANDS['doctor'].description.capitalize()}. This takes some seconds, and sends nothing but "
        "a request to the hub. The exit status is 0 if this machine is ready to train, and 1 if not.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--root", default=".", help="the folder that contains lightning_logs (default: the current one)"
    )
    parser.add_argument("--json", action="store_true", help="print all results as JSON")
    options = parser.parse_args(list(words))
    return doctor(options.root, options.json)
