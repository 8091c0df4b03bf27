"""Analyses one run, or compares several: figures, tables, a page, and TensorBoard."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanochat.analysis.board import show
from nanochat.analysis.figure import Options
from nanochat.analysis.files import FOLDER
from nanochat.analysis.history import History
from nanochat.analysis.making import Say, choose, make
from nanochat.analysis.one import recipes as one
from nanochat.analysis.page import Page, write
from nanochat.analysis.several import recipes as several
from nanochat.analysis.several.groups import groups
from nanochat.runs import Run


@dataclass(frozen=True)
class Wanted:
    """What is to be made.

    Attributes:
        options: for the figures that need the model.
        only: names of figures; None for all.
        quick: leaves out those that need the model.
    """

    options: Options
    only: Sequence[str] | None = None
    quick: bool = False


def analyze_run(run: Run, wanted: Wanted, say: Say, out: Path | None = None) -> Path:
    """Writes the analysis of one run: its files below ``analysis/``, and ``analysis.html``.

    Args:
        run: which.
        wanted: what is to be made.
        say: what prints a line.
        out: where to write; None is the run's own folder.

    Returns:
        The page.

    Raises:
        ValueError: if a figure is asked for that there is not.
    """
    folder = out or run.folder
    history = History(run)
    made = make(choose(one.recipes(history, wanted.options, wanted.quick), wanted.only), folder / FOLDER, say)
    page = Page(
        title=run.label,
        lede=one.lede(history),
        facts=one.facts(history),
        warnings=one.warnings(history),
        missing=made.missing,
        footer=footer(),
    )
    show(made.written, folder / FOLDER, history.steps or 0)
    return write(page, made.written, folder)


def footer() -> str:
    """When the page was made."""
    return f"Made by nanochat's analyze on {time.strftime('%Y-%m-%d %H:%M')}."


def analyze_runs(runs: Sequence[Run], wanted: Wanted, say: Say, out: Path) -> Path:
    """Writes the comparison of several runs: its files below ``analysis/``, and ``analysis.html``.

    Args:
        runs: two or more.
        wanted: what is to be made.
        say: what prints a line.
        out: the folder to write into.

    Returns:
        The page.

    Raises:
        ValueError: if a figure is asked for that there is not.
    """
    histories = [History(run) for run in runs]
    together = groups(histories)
    chosen = choose(several.recipes(histories, together), wanted.only)
    say(several.lede(histories, together))
    warnings = several.warnings(histories)
    for warning in warnings:
        say(textwrap.fill(f"Note: {warning}", 80))
    made = make(chosen, out / FOLDER, say)
    names = list(dict.fromkeys(run.label if len(runs) <= 3 else run.name for run in runs))
    page = Page(
        title=", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else ""),
        lede=several.lede(histories, together),
        warnings=warnings,
        missing=made.missing,
        footer=footer(),
    )
    show(made.written, out / FOLDER, 0)
    return write(page, made.written, out)
