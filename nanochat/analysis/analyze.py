"""Analyses one run, or compares several: figures, tables, an HTML page, and TensorBoard events."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanochat.analysis.build_figures import PrintLine, build_figures, select
from nanochat.analysis.figure import ModelOptions
from nanochat.analysis.figure_files import FOLDER
from nanochat.analysis.history import History
from nanochat.analysis.multi_run import comparison_figures
from nanochat.analysis.multi_run.seed_groups import seed_groups
from nanochat.analysis.page import Page, write_page
from nanochat.analysis.single_run import run_figures
from nanochat.analysis.tensorboard import log_figures
from nanochat.runs import Run


@dataclass(frozen=True)
class AnalysisOptions:
    """Which figures to make, and how.

    Attributes:
        model: options of the figures that load the model.
        only: names of the figures to make; None for all.
        quick: whether to skip the figures that load the model.
    """

    model: ModelOptions
    only: Sequence[str] | None = None
    quick: bool = False


def analyze_run(run: Run, options: AnalysisOptions, print_line: PrintLine, out: Path | None = None) -> Path:
    """Writes the analysis of one run: the figures' files in ``analysis/``, and ``analysis.html``.

    Args:
        run: the run to analyse.
        options: which figures to make, and how.
        print_line: prints one line of progress.
        out: the folder to write into; None is the run's own folder.

    Returns:
        The path of the page.

    Raises:
        ValueError: if ``options.only`` names a figure that does not exist.
    """
    folder = out or run.folder
    history = History(run)
    specs = select(run_figures.run_figures(history, options.model, options.quick), options.only)
    result = build_figures(specs, folder / FOLDER, print_line)
    page = Page(
        title=run.label,
        description=run_figures.description(history),
        facts=run_figures.facts(history),
        warnings=run_figures.warnings(history),
        missing=result.missing,
        footer=_footer(),
    )
    log_figures(result.saved, folder / FOLDER, history.steps or 0)
    return write_page(page, result.saved, folder)


def analyze_runs(runs: Sequence[Run], options: AnalysisOptions, print_line: PrintLine, out: Path) -> Path:
    """Writes the comparison of several runs: the figures' files in ``analysis/``, and ``analysis.html``.

    Args:
        runs: two or more.
        options: which figures to make; its options of the model are not used here.
        print_line: prints one line of progress.
        out: the folder to write into.

    Returns:
        The path of the page.

    Raises:
        ValueError: if ``options.only`` names a figure that does not exist.
    """
    histories = [History(run) for run in runs]
    groups = seed_groups(histories)
    specs = select(comparison_figures.comparison_figures(histories, groups), options.only)
    description = comparison_figures.description(histories, groups)
    print_line(description)
    warnings = comparison_figures.warnings(histories)
    for warning in warnings:
        print_line(textwrap.fill(f"Note: {warning}", 80))
    result = build_figures(specs, out / FOLDER, print_line)
    names = list(dict.fromkeys(run.label if len(runs) <= 3 else run.name for run in runs))
    page = Page(
        title=", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else ""),
        description=description,
        warnings=warnings,
        missing=result.missing,
        footer=_footer(),
    )
    log_figures(result.saved, out / FOLDER, 0)
    return write_page(page, result.saved, out)


def _footer() -> str:
    return f"Made by nanochat's analyze on {time.strftime('%Y-%m-%d %H:%M')}."
