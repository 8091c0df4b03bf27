"""``report``: writes the report card of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nanochat.cli.errors import UsageError, check_folder, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import call

PAGE, DATA = "report.md", "report.json"


def report(
    name: str | None = None,
    root: str = ".",
    out: str | None = None,
    samples: bool = True,
    dollars_per_hour: float | None = None,
) -> None:
    """Writes a model's report card, report.md and report.json: training stages, cost, scores and samples.

    Args:
        name: Name of the model's runs: the newest of them is selected, together with the runs that it started from
            and that started from it. Or the folder of one run. null selects the most recently trained model.
        root: The folder that contains lightning_logs.
        out: The folder to write to; null is lightning_logs/<name>.
        samples: Whether to generate samples at fixed prompts, which takes some seconds.
        dollars_per_hour: Price of the machine per hour in dollars; the report then includes the cost of training.
    """
    if dollars_per_hour is not None and not 0 <= dollars_per_hour < float("inf"):
        raise UsageError(f"--dollars_per_hour must be 0 or more, not {dollars_per_hour:g}")
    from nanochat.cache import write_atomically
    from nanochat.reporting.lineage import find_lineage
    from nanochat.reporting.render import render_markdown, render_text
    from nanochat.reporting.report_card import make_report_card

    lineage = find_lineage(root, name)
    check_folder(out, "--out")
    card = make_report_card(lineage, samples, dollars_per_hour, program_name(), say)
    folder = lineage.folder if out is None else Path(out)
    write_atomically(folder / DATA, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / PAGE, render_markdown(card))
    print(render_text(card))
    print(f"\nWritten to {folder / PAGE} and {DATA}")


def say(text: str) -> None:
    """Prints a line at once, even if the output is buffered."""
    print(text, flush=True)


def run(arguments: Sequence[str]) -> int:
    """Runs ``report`` with command-line arguments; returns the exit status."""
    return report_errors(lambda: call(report, arguments))
