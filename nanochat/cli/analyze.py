"""``analyze``: figures, tables and a page about one run, or a comparison of several."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from nanochat.cli.errors import UsageError, check_folder, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import new_parser

RUNS = (
    "The runs, by folder (lightning_logs/tiny/version_0), label (tiny/version_0) or name (tiny: its newest run). "
    "Without any, the newest run; several are compared."
)
ALL = "Compare all runs of each name instead of taking the newest one."
QUICK = "Skip the figures that load the model or time steps."
OPEN = "Open the page in the browser when it is written."
FLAGS = {"all": ALL, "quick": QUICK, "open": OPEN}
EXAMPLES = """\
examples:
  {0} analyze                          the newest run
  {0} analyze tiny --quick             the newest run of a name
  {0} analyze tiny small               a comparison of two
  {0} analyze tiny --all               all versions of tiny
  {0} analyze tiny --figures=loss,bpb  only these figures
"""


def analyze(
    runs: Sequence[str] = (),
    out: str | None = None,
    figures: str | None = None,
    root: str = ".",
    device: str = "cpu",
    seed: int = 0,
    passage: str | None = None,
    all: bool = False,
    quick: bool = False,
    open: bool = False,
) -> None:
    """Writes figures, tables and a page about one run, or a comparison of several.

    Args:
        runs: The runs, by folder, label or name.
        out: Output folder; null is the run's own folder, or lightning_logs/analysis-<names> for a comparison.
        figures: Names of the figures to make, separated by commas; null makes all. (An unknown name lists them.)
        root: The folder that contains lightning_logs.
        device: Where the model runs: cpu, cuda or mps.
        seed: Has no effect: all figures are deterministic.
        passage: A text to run the model on; null takes one of the held-out texts.
        all: Whether to compare all runs of each name.
        quick: Whether to skip the figures that load the model or time steps.
        open: Whether to open the page in the browser.
    """
    from nanochat.analysis.resolve_runs import comparison_folder, resolve_runs

    found = resolve_runs(runs, root, all, program_name())
    if passage is not None and not passage.strip():
        raise UsageError("--passage is empty: give a text")
    only = [name.strip() for name in figures.split(",") if name.strip()] if figures is not None else None
    if only == []:
        raise UsageError("--figures: give at least one name, or omit the option")

    from nanochat.analysis.analyze import AnalysisOptions, analyze_run, analyze_runs
    from nanochat.analysis.figure import ModelOptions
    from nanochat.training.console import say
    from nanochat.training.hardware import usable_device

    usable_device(device)  # raises here, before any figure is made
    check_folder(out, "--out")
    options = AnalysisOptions(ModelOptions(device, passage), only, quick)
    if len(found) == 1:
        say(f"{found[0].label}: {found[0].folder}")
        page = analyze_run(found[0], options, say, Path(out) if out is not None else None)
    else:
        page = analyze_runs(found, options, say, Path(out) if out is not None else comparison_folder(found, root))
    say(f"\nPage: {page}")
    if open:
        webbrowser.open(page.resolve().as_uri())


def run(arguments: Sequence[str]) -> int:
    """Runs ``analyze``; returns the exit status."""
    return report_errors(lambda: _call(arguments[1:]))


def _call(arguments: Sequence[str]) -> None:
    parser = new_parser("analyze", analyze, skip=("runs", *FLAGS), epilog=EXAMPLES.format(program_name()))
    parser.add_argument("runs", nargs="*", default=[], help=RUNS)
    for name, text in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    analyze(**parser.parse_args(list(arguments)).as_dict())
