"""``analyze``: what a run was like, or how several differ, in figures that explain themselves."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from nanochat.cli.errors import UsageError, check_folder, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import new_parser

RUNS = (
    "The runs: their folders (lightning_logs/tiny/version_0), labels (tiny/version_0) or names (tiny: the newest "
    "run of it). None takes the newest run of all; several are compared."
)
ALL = "Take every run of each name, not just the newest one."
QUICK = "Only what the run's files tell: without the figures that need the model itself."
OPEN = "Show the page in the browser when it is done."
FLAGS = {"all": ALL, "quick": QUICK, "open": OPEN}
EXAMPLES = """\
examples:
  {0} analyze                          the newest run
  {0} analyze tiny --quick             the newest run of a name
  {0} analyze tiny small               side by side
  {0} analyze tiny --all               all versions of tiny
  {0} analyze tiny --figures=loss,bpb  these alone
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
    """Writes figures, tables and a page about one run, or compares several.

    Args:
        runs: The runs, by folder, label or name.
        out: The folder to write into; null is the run's own, and for a comparison lightning_logs/analysis-<names>.
        figures: Names of the figures to make, with commas between them; null makes all. (A wrong one lists them.)
        root: The folder that lightning_logs is in.
        device: Where the model runs for the figures that need it: cpu, cuda or mps.
        seed: Of what is drawn by chance, such as the passage of text that the model reads.
        passage: A text to look at the model with; null takes one of the held-out texts.
        all: Whether to take every run of each name.
        quick: Whether to leave out what needs the model.
        open: Whether to show the page.
    """
    from nanochat.analysis.resolve_runs import comparison_folder, resolve_runs

    found = resolve_runs(runs, root, all, program_name())
    if passage is not None and not passage.strip():
        raise UsageError("there is no text in --passage")
    only = [name.strip() for name in figures.split(",") if name.strip()] if figures is not None else None
    if only == []:
        raise UsageError("--figures: name at least one, or leave the option out")

    from nanochat.analysis.analyze import AnalysisOptions, analyze_run, analyze_runs
    from nanochat.analysis.figure import ModelOptions
    from nanochat.training.console import say
    from nanochat.training.hardware import usable_device

    usable_device(device)  # is refused now, if there is none, and not after half of the figures
    check_folder(out, "--out")
    wanted = AnalysisOptions(ModelOptions(device, seed, passage), only, quick)
    if len(found) == 1:
        say(f"{found[0].label}: {found[0].folder}")
        page = analyze_run(found[0], wanted, say, Path(out) if out is not None else None)
    else:
        page = analyze_runs(found, wanted, say, Path(out) if out is not None else comparison_folder(found, root))
    say(f"\nThe page: {page}")
    if open:
        webbrowser.open(page.resolve().as_uri())


def run(arguments: Sequence[str]) -> int:
    """Runs ``analyze``; returns the exit status."""
    return report_errors(lambda: _call(arguments[1:]))


def _call(options: Sequence[str]) -> None:
    parser = new_parser("analyze", analyze, skip=("runs", *FLAGS), epilog=EXAMPLES.format(program_name()))
    parser.add_argument("runs", nargs="*", default=[], help=RUNS)
    for name, what in FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    analyze(**parser.parse_args(list(options)).as_dict())
