"""``report``: a page about a model's whole life."""

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
    """Writes report.md and report.json: all that is known of a model, from its first step to its last score.

    Args:
        name: Of the model: the name of its runs, of which the newest counts with all that it descends from; or the
            folder of one run. null takes the model that was trained last.
        root: The folder that lightning_logs is in.
        out: The folder to write into; null is lightning_logs/<name>.
        samples: Whether the model writes samples at fixed prompts, which takes some seconds.
        dollars_per_hour: What an hour of the machine costs: the report then says what training cost.
    """
    if dollars_per_hour is not None and not 0 <= dollars_per_hour < float("inf"):
        raise UsageError(f"--dollars_per_hour must not be negative, but is {dollars_per_hour:g}")
    from nanochat.cache import write_atomically
    from nanochat.reporting.card import make_card
    from nanochat.reporting.life import find_life
    from nanochat.reporting.page import as_markdown, in_words

    life = find_life(root, name)
    check_folder(out, "--out")
    card = make_card(life, samples, dollars_per_hour, program_name(), say)
    folder = life.folder if out is None else Path(out)
    write_atomically(folder / DATA, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / PAGE, as_markdown(card))
    print(in_words(card))
    print(f"\nWritten to {folder / PAGE} and {DATA}")


def say(text: str) -> None:
    print(text, flush=True)


def run(arguments: Sequence[str]) -> int:
    """Runs ``report``; returns the exit status."""
    return report_errors(lambda: call(report, arguments))
