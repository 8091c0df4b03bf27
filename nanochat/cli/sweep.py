"""``sweep``: the same training with other settings, over and over, and what was best."""

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

if TYPE_CHECKING:
    from nanochat.cli.sweep_check import Base
    from nanochat.sweeping.space import Axis
    from nanochat.sweeping.storage import Storage
    from nanochat.sweeping.trials import Trial

WIDTH, WIDEST = 80, 120  # of what is printed, in columns
MOST_CHECKED = 40  # values are tried beforehand, a few tenths of a second each
OVER = (
    "An option of fit and what it is to be: values with commas between them (model.depth=4,6,8), or a range for "
    "--search (model.matrix_lr=0.005..0.05). A range that spans a factor of ten or more is searched by factors, whole "
    "ends (2..12) have whole numbers between them. Several --over make a grid: every combination."
)
PRUNE = (
    "End trials that are hopeless by their val/bpb on the way: with median (what --prune alone means) those worse than "
    "the median of the others at the same point; with halving the worse half, each time the validations have doubled. "
    "The first three trials, and a trial at its first validation, are never ended by the median."
)
RETRY = "Try trials that failed once more."
EXAMPLES = """\
All other options are those of `fit`, and are given to every trial. What is
interrupted goes on with the same command; the same command in a second terminal
takes its share of the work.

examples:
  {0} sweep --config configs/tiny.yaml --over model.depth=4,6,8 \\
      --over model.matrix_lr=0.01,0.02,0.04 --seeds 3
  {0} sweep --config configs/tiny.yaml --plan.minutes=2 \\
      --over model.matrix_lr=0.005..0.05 --search 20 --prune
"""


class Terminated(BaseException):
    """SIGTERM asks the sweep to stop."""


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
    """Trains with every setting, and says which was best.

    Args:
        over: What is varied.
        search: How many settings to try, drawn by Optuna (TPE) in the light of those before; null tries all
            combinations. A larger number goes on with a search that has ended.
        seeds: How many times each setting is trained, with seeds from --seed_everything on. Settings are compared seed
            by seed: how much their differences vary tells how much of a lead is chance.
        name: Of the sweep's folder in lightning_logs, in which version_N is trial N; null takes the run's own with
            -sweep behind it.
        prune: Which of Optuna's pruners ends hopeless trials.
        retry_failed: Whether trials that failed are tried once more.
        analyze: Whether to end with `analyze` over the trials.
        fit: the options that every trial has.

    Returns:
        The exit status: 2 if no trial came to its end.
    """
    from nanochat.sweeping.results import best, reasons, table
    from nanochat.sweeping.runner import Sweep, running, say
    from nanochat.sweeping.space import parse_axes
    from nanochat.sweeping.storage import Storage
    from nanochat.sweeping.trials import DONE, superseded

    at_least(1, search=search, seeds=seeds)
    axes = parse_axes(over, search is not None)
    base = _checked(fit, axes)
    if base.stage == "reinforce":
        raise UsageError("a sweep compares trials by their val/bpb, and the stage reinforce has none")
    name = name or f"{base.name}-sweep"
    check_name(name)
    folder = Path(base.root, RUNS, _folder_name(name, base.stage))
    storage = Storage(folder, axes, [base.seed + i for i in range(seeds)], search, prune, retry_failed)
    kind = "grid" if search is None else "search"
    storage.define({"kind": kind, "options": [axis.option for axis in axes], "settings": base.settings})
    trials = superseded(storage.trials())
    for line in _plan(storage, trials, base):
        say(line)

    def command(trial: Trial) -> list[str]:
        start = [f"--start_from={base.start_from}"] if base.start_from else []
        varied = [f"--{option}={value}" for option, value in trial.setting.items() if option != "config"]
        tier = [f"--config={trial.setting['config']}"] if "config" in trial.setting else []  # what is said later wins
        own = [f"--name={name}", f"--version={trial.number}", f"--seed_everything={trial.seed}", "--ckpt_path=auto"]
        return [*program(), "fit", *tier, *fit, *start, *varied, *own]

    Sweep(storage, command, prune is not None).run()
    trials = superseded(storage.trials())
    say("")
    width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDEST) if sys.stdout.isatty() else WIDTH
    say(table(trials, width))
    others = running(trials)
    wait = f"{others} still being trained by another process, and the last to end says what is best."
    for line in ("", *reasons(trials), wait if others else best(trials)):
        say(textwrap.fill(line, width, break_on_hyphens=False))
    if not others and analyze and storage.is_first_to_sum_up():
        _analyze([folder / f"version_{trial.number}" for trial in trials if trial.status == DONE], folder)
    return 0 if any(trial.status == DONE for trial in trials) else EXIT_ERROR


def _checked(fit: Sequence[str], axes: Sequence[Axis]) -> Base:
    """What the options mean, once `fit` has said that it takes them, and the values of each axis."""
    from nanochat.cli.sweep_check import check

    for word in fit:
        option = word.split("=")[0]
        if option in ("--ckpt_path", "--version", "--print_config"):
            raise UsageError(f"{option} is not for a sweep, which begins its runs, and goes on with them, by itself")
    first = [f"--{axis.option}={axis.samples[0]}" for axis in axes]
    combinations = [first]
    for place, axis in enumerate(axes):
        for value in axis.samples[1:]:
            combinations.append([*first[:place], f"--{axis.option}={value}", *first[place + 1 :]])
    try:
        return check(fit, combinations[:MOST_CHECKED])
    except UsageError as error:
        raise UsageError(_own_option(str(error))) from error


def _own_option(message: str) -> str:
    """fit's message about an option that it does not know, which may be a misspelt one of the sweep's own."""
    match = re.search(r"there is no option (--[\w.]+)(?:, did you mean (\S+)\?)?", message)
    if match is None:
        return message
    meant = did_you_mean(match[1], [*OWN, *([match[2]] if match[2] else [])])
    return f"there is no option {match[1]}{meant} (all of them: --help)"


def _folder_name(name: str, stage: str) -> str:
    return name if stage == "pretrain" else f"{name}-{stage}"


def _plan(storage: Storage, trials: Sequence[Trial], base: Base) -> Iterator[str]:
    """What is to come, in lines."""
    from nanochat.sweeping.runner import running
    from nanochat.training.console import table

    left, seeds = storage.left(), len(storage.seeds)
    total = len(trials) + left
    settings = "all combinations" if storage.search is None else f"{storage.search} settings, drawn by TPE"
    each = f", each with {seeds} seeds" if seeds > 1 else ""
    rows = {"over": " x ".join(axis.in_words() for axis in storage.axes), "trials": f"{total}: {settings}{each}"}
    if trials:
        rows["of these"] = f"{len(trials) - running(trials)} begun before, {running(trials)} elsewhere, {left} to come"
    rows["kept in"] = f"{storage.folder} (the same command goes on there)"
    yield table("Sweep", rows)
    if base.by_clock and running(trials):
        yield (
            "Trials take as many steps as fit into their time, and processes on one machine take time from each other: "
            "--trainer.max_steps makes them comparable."
        )
    yield ""


def program() -> list[str]:
    """How this program is started once more."""
    script = Path(__file__).parents[2] / "cli.py"
    return [sys.executable, str(script)] if script.is_file() else [sys.executable, "-m", "nanochat"]


def _analyze(runs: Sequence[Path], folder: Path) -> None:
    """Shows the trials side by side, in a process of its own: what is wrong there is said there."""
    if "analyze" in COMMANDS and len(runs) > 1:
        sys.stdout.flush()
        subprocess.run([*program(), "analyze", *map(str, runs), f"--out={folder}"], check=False)


# ------------------------------------------------------------------------------------------------ the command line

TAKE_VALUES = ("--over", "--search", "--seeds", "--name", "--analyze")
FLAGS = ("--prune", "--retry_failed")  # may stand alone
OWN = (*TAKE_VALUES, *FLAGS)
PRUNERS = ("median", "halving")


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The sweep's own words, and those that are for fit."""
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
            wants = option in TAKE_VALUES or (option == "--prune" and words[:1] and words[0] in PRUNERS)
            if not equals and wants and words:
                own.append(words.pop(0))
    return own, fit


@contextmanager
def _listening() -> Iterator[None]:
    """SIGTERM ends a sweep as calmly as Ctrl-C."""

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
        with _listening():
            return report_errors(lambda: sys.exit(_call(arguments[1:])))
    except (KeyboardInterrupt, Terminated) as stop:
        print("\nStopped; what the present trial has learned is saved. To go on:", file=sys.stderr)
        print(f"  {program_name()} {shlex.join(arguments)}", file=sys.stderr)
        return EXIT_INTERRUPTED if isinstance(stop, KeyboardInterrupt) else 128 + signal.SIGTERM


def _call(words: Sequence[str]) -> int:
    own, fit = divide(words)
    added = ("over", "fit", "prune", "retry_failed")
    parser = new_parser("sweep", sweep, skip=added, epilog=EXAMPLES.format(program_name()))
    parser.add_argument("--over", type=str, action="append", default=[], help=OVER, metavar="OPTION=VALUES")
    parser.add_argument("--prune", nargs="?", const="median", default=None, choices=PRUNERS, help=PRUNE)
    parser.add_argument("--retry_failed", action="store_true", help=RETRY)
    options: dict[str, Any] = parser.parse_args(own).as_dict()
    return sweep(**options, fit=fit)
