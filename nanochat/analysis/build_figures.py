"""Makes the figures, one after the other: what cannot be made is named, and the others are not lost."""

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
WIDTH = 80  # of the terminal's lines


class BuildResult(NamedTuple):
    """The figures that there are now, and for each of the others its title and the reason."""

    saved: list[SavedFigure]
    missing: list[tuple[str, str]]


def select(specs: Sequence[FigureSpec], only: Sequence[str] | None) -> list[FigureSpec]:
    """The recipes of these names, in their own order; all if None.

    Raises:
        ValueError: if there is none of a name.
    """
    if only is None:
        return list(specs)
    names = [spec.name for spec in specs]
    for name in only:
        if name not in names:
            meant = did_you_mean(name, names)
            raise ValueError(f"--figures: there is no figure {name}{meant} (figures: {', '.join(names)})")
    return [spec for spec in specs if spec.name in only]


def build_figures(specs: Sequence[FigureSpec], folder: Path, print_line: PrintLine) -> BuildResult:
    """Makes and writes figures, with a line for each in the terminal.

    Args:
        recipes: of the figures.
        folder: for their files.
        say: what prints a line.
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
        except Exception as error:  # whatever it is, the other figures are worth having
            missing.append((spec.title, f"{type(error).__name__}: {error}"))
        else:
            seconds = f"{time.perf_counter() - started:.1f} s"
            print_line(
                f"  {spec.name:<{width}}{_cut(spec.title, WIDTH - width - 11):<{WIDTH - width - 10}}{seconds:>8}"
            )
            continue
        indent = " " * (2 + width)
        reason = textwrap.wrap(f"not shown: {missing[-1][1]}", WIDTH - len(indent)) or [""]
        print_line(f"  {spec.name:<{width}}{reason[0]}")
        for line in reason[1:]:
            print_line(indent + line)
    return BuildResult(saved, missing)


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3].rstrip() + "..."
