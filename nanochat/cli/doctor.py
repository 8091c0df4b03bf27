"""``doctor``: whether this machine has what it takes, and what to do where it has not."""

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

NOT_READY = 1  # exit status where something necessary is missing
WIDEST = 100  # columns


def doctor(root: str = ".", as_json_text: bool = False) -> int:
    """Looks at everything and says what there is.

    Args:
        root: the folder that lightning_logs is in, or will be.
        as_json_text: whether for programs.

    Returns:
        The exit status: 0 where all that is necessary is there, else 1.
    """
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST) if sys.stdout.isatty() else 80
    checks = []
    for check in run_checks(Path(root)):
        checks.append(check)
        if not as_json_text:
            print(format_check(check, width), flush=True)
    print(json.dumps(as_json(checks), indent=2) if as_json_text else "\n" + verdict(checks))
    return NOT_READY if any(check.status == PROBLEM for check in checks) else 0


class _Parser(argparse.ArgumentParser):
    """Python's own: the project's is made of a package that may be what is missing."""

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
        description=f"{COMMANDS['doctor'].description.capitalize()}. It takes some seconds, asks the hub whether it "
        "answers and sends nothing else, and ends with 0 if all that is necessary is there, with 1 if not.",
        allow_abbrev=False,
    )
    parser.add_argument("--root", default=".", help="the folder that lightning_logs is in (default: this one)")
    parser.add_argument("--json", action="store_true", help="for programs: all that was found, as JSON")
    options = parser.parse_args(list(words))
    return doctor(options.root, options.json)
