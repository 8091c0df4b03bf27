"""Builds figures one after the other, with progress in the terminal. A figure that fails does not stop the others."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from nanochat.analysis.figure import FigureSpec
from nanochat.analysis.figure_files import SavedFigure, save_figure
from nanochat.options import did_you_mean

PrintLine = Callable[[str], None]
WIDTH = 80  # of the lines in the terminal


class BuildResult(NamedTuple):
    """The figures that were saved, and the title and error message of each that failed."""

    saved: list[SavedFigure]
    missing: list[tuple[str, str]]


def select(specs: Sequence[FigureSpec], only: Sequence[str] | None) -> list[FigureSpec]:
    """The specs with these names, in the order of ``specs``; all of them if ``only`` is None.

    Raises:
        ValueError: if no figure has one of the names.
    """
    if only is None:
        return list(specs)
    names = [spec.name for spec in specs]
    for name in only:
        if name not in names:
            suggestion = did_you_mean(name, names)
            raise ValueError(f"--figures: there is no figure {name}{suggestion} (figures: {', '.join(names)})")
    return [spec for spec in specs if spec.name in only]


def build_figures(specs: Sequence[FigureSpec], folder: Path, print_line: PrintLine) -> BuildResult:
    """Builds and saves figures, and prints one line for each.

    Args:
        specs: the figures to build.
        folder: where their files are written.
        print_line: prints one line of progress.
    """
    saved: list[SavedFigure] = []
    missing: list[tuple[str, str]] = []
    width = max((len(spec.name) for spec in specs), default=0) + 2
    for spec in specs:
        started = time.perf_counter()
        try:
            saved.append(save_figure(spec.build(), folder))
        except ValueError as error:
            missing.append((spec.title, str(error)))
        except Exception as error:  # of any kind: the other figures are still useful
            missing.append((spec.title, f"{type(error).__name__}: {error}"))
        else:
            seconds = f"{time.perf_counter() - started:.1f} s"
            title = _truncated(spec.title, WIDTH - width - 11)
            print_line(f"  {spec.name:<{width}}{title:<{WIDTH - width - 10}}{seconds:>8}")
            continue
        indent = " " * (2 + width)
        reason = textwrap.wrap(f"not shown: {missing[-1][1]}", WIDTH - len(indent)) or [""]
        print_line(f"  {spec.name:<{width}}{reason[0]}")
        for line in reason[1:]:
            print_line(indent + line)
    return BuildResult(saved, missing)


def _truncated(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3].rstrip() + "..."
