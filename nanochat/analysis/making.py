"""Makes the figures, one after the other: what cannot be made is named, and the others are not lost."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from nanochat.analysis.figure import Recipe
from nanochat.analysis.files import Written, write
from nanochat.options import did_you_mean

Say = Callable[[str], None]
WIDTH = 80  # of the terminal's lines


class Made(NamedTuple):
    """The figures that there are now, and for each of the others its title and the reason."""

    written: list[Written]
    missing: list[tuple[str, str]]


def choose(recipes: Sequence[Recipe], only: Sequence[str] | None) -> list[Recipe]:
    """The recipes of these names, in their own order; all if None.

    Raises:
        ValueError: if there is none of a name.
    """
    if only is None:
        return list(recipes)
    names = [recipe.name for recipe in recipes]
    for name in only:
        if name not in names:
            meant = did_you_mean(name, names)
            raise ValueError(f"--figures: there is no figure {name}{meant} (figures: {', '.join(names)})")
    return [recipe for recipe in recipes if recipe.name in only]


def make(recipes: Sequence[Recipe], folder: Path, say: Say) -> Made:
    """Makes and writes figures, with a line for each in the terminal.

    Args:
        recipes: of the figures.
        folder: for their files.
        say: what prints a line.
    """
    written: list[Written] = []
    missing: list[tuple[str, str]] = []
    width = max((len(recipe.name) for recipe in recipes), default=0) + 2
    for recipe in recipes:
        started = time.perf_counter()
        try:
            written.append(write(recipe.make(), folder))
        except ValueError as error:
            missing.append((recipe.title, str(error)))
        except Exception as error:  # whatever it is, the other figures are worth having
            missing.append((recipe.title, f"{type(error).__name__}: {error}"))
        else:
            seconds = f"{time.perf_counter() - started:.1f} s"
            say(f"  {recipe.name:<{width}}{_cut(recipe.title, WIDTH - width - 11):<{WIDTH - width - 10}}{seconds:>8}")
            continue
        indent = " " * (2 + width)
        reason = textwrap.wrap(f"not shown: {missing[-1][1]}", WIDTH - len(indent)) or [""]
        say(f"  {recipe.name:<{width}}{reason[0]}")
        for line in reason[1:]:
            say(indent + line)
    return Made(written, missing)


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3].rstrip() + "..."
