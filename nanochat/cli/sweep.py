"""``sweep``: trains with every setting of a grid or a search, and compares the results."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from nanochat.cli.errors import EXIT_ERROR, EXIT_INTERRUPTED, UsageError, report_errors
from nanochat.cli.main import COMMANDS, program_name
from nanochat.cli.parser import new_parser
from nanochat.options import at_least, check_name, did_you_mean
from nanochat.runs import RUNS
from nanochat.wording import plural

if TYPE_CHECKING:
    from nanochat.cli.sweep_check import CommonOptions
    from nanochat.sweeping.space import Axis
    from nanochat.sweeping.storage import Storage
    from nanochat.sweeping.trials import Trial

WIDTH, MAX_WIDTH = 80, 120  # characters of a line: if the output is not a terminal, and at most
MAX_CHECKED = 40  # variations that are checked before the sweep starts, a few tenths of a second each
OVER = (
    "An option of fit and its values, separated by commas (model.depth=4,6,8), or a range for --search "
    "(model.matrix_lr=0.005..0.05). A range that spans a factor of ten or more is searched on a log scale; a range of "
    "whole numbers (2..12) has only whole numbers. Several --over are combined into a grid."
)
PRUNE = (
    "Stop hopeless trials early, by their val/bpb so far. median (the default of --prune) stops trials that are worse "
    "than the median of the others after the same number of validations, but none of the first three trials, and none "
    "at its first validation. halving stops the worse half of the trials each time the number of validations doubles."
)
RETRY = "Retry the trials that have failed."
EXAMPLES = """\
All other options are those of `fit`, for every trial. The same command resumes
a sweep that was interrupted; in a second terminal, it shares the work.

examples:
  {0} sweep --config configs/tiny.yaml --over model.depth=4,6,8 \\
      --over model.matrix_lr=0.01,0.02,0.04 --seeds 3
  {0} sweep --config configs/tiny.yaml --plan.minutes=2 \\
      --over model.matrix_lr=0.005..0.05 --search 20 --prune
"""


class Terminated(BaseException):
    """Raised by SIGTERM."""


def sweep(
    over: list[str],
    search: int | None = None,
    seeds: int = 1,
    name: str | None = None,
    prune: Literal["median", "halving"] | None = None,
    retry_failed: bool = False,
    analyze: bool = True,
    fit: Sequence[str] = (),
) -> int:
    """Trains with every setting, and prints which was best.

    Args:
        over: The varied options.
        search: Number of settings to try, drawn by Optuna's TPE sampler from the results so far; null tries all
            combinations. A larger number continues a finished search.
        seeds: Number of runs of each setting, with consecutive seeds from --seed_everything. Settings are compared
            seed by seed, and the variation of their differences shows how much of a lead is noise.
        name: Name of the sweep's folder in lightning_logs, where version_N is trial N; null takes the name of the run
            with -sweep appended.
        prune: The Optuna pruner that stops hopeless trials.
        retry_failed: Whether to retry the trials that have failed.
        analyze: Whether to run `analyze` on the trials at the end.
        fit: the options of `fit` for every trial.

    Returns:
        The exit status: 2 if no trial was completed.
    """
    from nanochat.sweeping.results import describe_best, describe_failures, results_table
    from nanochat.sweeping.runner import SweepRunner, count_running, print_line
    from nanochat.sweeping.space import parse_axes
    from nanochat.sweeping.storage import Storage
    from nanochat.sweeping.trials import DONE, latest_attempts

    at_least(1, search=search, seeds=seeds)
    axes = parse_axes(over, search is not None)
    common = _check_fit(fit, axes)
    if common.stage == "reinforce":
        raise UsageError("a sweep compares trials by their val/bpb, which the stage reinforce does not have")
    name = name or f"{common.name}-sweep"
    check_name(name)
    folder = Path(common.root, RUNS, name if common.stage == "pretrain" else f"{name}-{common.stage}")
    storage = Storage(folder, axes, [common.seed + i for i in range(seeds)], search, prune, retry_failed)
    kind = "grid" if search is None else "search"
    storage.check_definition({"kind": kind, "options": [axis.option for axis in axes], "settings": common.settings})
    trials = latest_attempts(storage.trials())
    for line in _plan(storage, trials, common):
        print_line(line)

    def command(trial: Trial) -> list[str]:
        start = [f"--start_from={common.start_from}"] if common.start_from else []
        varied = [f"--{option}={value}" for option, value in trial.setting.items() if option != "config"]
        config = [f"--config={trial.setting['config']}"] if "config" in trial.setting else []  # later options win
        own = [f"--name={name}", f"--version={trial.number}", f"--seed_everything={trial.seed}", "--ckpt_path=auto"]
        return [*program(), "fit", *config, *fit, *start, *varied, *own]

    SweepRunner(storage, command, prune is not None).run()
    trials = latest_attempts(storage.trials())
    print_line("")
    width = min(shutil.get_terminal_size((WIDTH, 24)).columns, MAX_WIDTH) if sys.stdout.isatty() else WIDTH
    print_line(results_table(trials, width))
    running = count_running(trials)
    are = "is" if running == 1 else "are"
    pending = f"{plural(running, 'trial')} {are} still running: the last process to finish prints the best setting."
    for line in ("", *describe_failures(trials), pending if running else describe_best(trials)):
        print_line(textwrap.fill(line, width, break_on_hyphens=False))
    if not running and analyze and storage.claim_analysis():
        _analyze([folder / f"version_{trial.number}" for trial in trials if trial.status == DONE], folder)
    return 0 if any(trial.status == DONE for trial in trials) else EXIT_ERROR


def _check_fit(fit: Sequence[str], axes: Sequence[Axis]) -> CommonOptions:
    """Checks the options of `fit` and the values of each axis; returns what the options of all trials mean."""
    from nanochat.cli.sweep_check import check_options

    for word in fit:
        option = word.split("=")[0]
        if option in ("--ckpt_path", "--version", "--print_config"):
            raise UsageError(f"{option} cannot be used with a sweep, which starts and resumes its trials automatically")
    first = [f"--{axis.option}={axis.samples[0]}" for axis in axes]
    variations = [first]
    for index, axis in enumerate(axes):
        for value in axis.samples[1:]:
            variations.append([*first[:index], f"--{axis.option}={value}", *first[index + 1 :]])
    try:
        return check_options(fit, variations[:MAX_CHECKED])
    except UsageError as error:
        raise UsageError(_suggest_own_option(str(error))) from error


def _suggest_own_option(message: str) -> str:
    """Corrects the suggestion of fit for an unknown option, which may be a misspelt option of the sweep itself."""
    match = re.search(r"there is no option (--[\w.]+)(?:, did you mean (\S+)\?)?", message)
    if match is None:
        return message
    suggestion = did_you_mean(match[1], [*OWN, *([match[2]] if match[2] else [])])
    return f"there is no option {match[1]}{suggestion} (all of them: --help)"


def _plan(storage: Storage, trials: Sequence[Trial], common: CommonOptions) -> Iterator[str]:
    """The lines that describe the sweep before it starts."""
    from nanochat.sweeping.runner import count_running
    from nanochat.training.console import table

    remaining, running, seeds = storage.remaining(), count_running(trials), len(storage.seeds)
    settings = "all combinations" if storage.search is None else f"{plural(storage.search, 'setting')}, drawn by TPE"
    each = f", each with {seeds} seeds" if seeds > 1 else ""
    rows = {
        "over": " x ".join(axis.describe() for axis in storage.axes),
        "trials": f"{len(trials) + remaining}: {settings}{each}",
    }
    if trials:
        started = len(trials) - running
        rows["of these"] = f"{started} already started, {running} running in another process, {remaining} to start"
    rows["folder"] = f"{storage.folder} (the same command resumes the sweep)"
    yield table("Sweep", rows)
    if common.time_limited and running:
        yield (
            "Trials take as many steps as fit into their time, and concurrent processes slow each other down: use "
            "--trainer.max_steps to make trials comparable."
        )
    yield ""


def program() -> list[str]:
    """The command line that starts this program."""
    script = Path(__file__).parents[2] / "cli.py"
    return [sys.executable, str(script)] if script.is_file() else [sys.executable, "-m", "nanochat"]


def _analyze(runs: Sequence[Path], folder: Path) -> None:
    """Runs `analyze` on the trials in a subprocess, which prints its own errors."""
    if "analyze" in COMMANDS and len(runs) > 1:
        sys.stdout.flush()
        subprocess.run([*program(), "analyze", *map(str, runs), f"--out={folder}"], check=False)


# ------------------------------------------------------------------------------------------------ the command line

TAKE_VALUES = ("--over", "--search", "--seeds", "--name", "--analyze")
FLAGS = ("--prune", "--retry_failed")  # do not need a value
OWN = (*TAKE_VALUES, *FLAGS)
PRUNERS = ("median", "halving")


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of the sweep itself, and those of fit."""
    own: list[str] = []
    fit: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        option, equals, _ = word.partition("=")
        if option in ("-h", "--help"):
            own.append(word)
        elif option not in OWN:
            fit.append(word)
        else:
            own.append(word)
            takes_next = option in TAKE_VALUES or (option == "--prune" and words[:1] and words[0] in PRUNERS)
            if not equals and takes_next and words:
                own.append(words.pop(0))
    return own, fit


@contextmanager
def _handle_sigterm() -> Iterator[None]:
    """Raises :class:`Terminated` on SIGTERM, so that it stops a sweep like Ctrl-C."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(arguments: Sequence[str]) -> int:
    """Runs ``sweep``; returns the exit status."""
    try:
        with _handle_sigterm():
            return report_errors(lambda: sys.exit(_call(arguments[1:])))
    except (KeyboardInterrupt, Terminated) as stop:
        print("\nStopped. The progress of the current trial is saved. To resume the sweep:", file=sys.stderr)
        print(f"  {program_name()} {shlex.join(arguments)}", file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(stop, KeyboardInterrupt) else 128 + signal.SIGTERM


def _call(words: Sequence[str]) -> int:
    own, fit = split_arguments(words)
    added = ("over", "fit", "prune", "retry_failed")
    parser = new_parser("sweep", sweep, skip=added, epilog=EXAMPLES.format(program_name()))
    parser.add_argument("--over", type=str, action="append", default=[], help=OVER, metavar="OPTION=VALUES")
    parser.add_argument("--prune", nargs="?", const="median", default=None, choices=PRUNERS, help=PRUNE)
    parser.add_argument("--retry_failed", action="store_true", help=RETRY)
    options: dict[str, Any] = parser.parse_args(own).as_dict()
    return sweep(**options, fit=fit)
