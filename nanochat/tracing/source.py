"""Where in the code something is computed: found by looking at the functions themselves, so that it is always true."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]  # the folder that the package is in


class Source(NamedTuple):
    """A statement of the program.

    Attributes:
        file: absolute.
        line: where the statement begins, from 1.
        code: its lines, without the indentation that they have in common.
        name: of the function that it is in.
        found: whether the statement is there; if not, this is where its function begins.
    """

    file: Path
    line: int
    code: str
    name: str
    found: bool

    @property
    def place(self) -> str:
        """nanochat/model/gpt.py:97"""
        path = self.file.relative_to(ROOT) if self.file.is_relative_to(ROOT) else self.file
        return f"{path.as_posix()}:{self.line}"


def source_of(function: Callable[..., Any], statement: str | None = None) -> Source:
    """The place of a function, or of a statement in it.

    Whoever changes the code need not change this: lines are counted anew each time, and where a statement is no longer
    there, its function is shown instead.

    Args:
        function: or a method, or a class.
        statement: a piece of text that only the first line of the statement has; None for the function itself.
    """
    function = inspect.unwrap(function)  # not the decorator's own code
    lines, first = inspect.getsourcelines(function)
    file = Path(inspect.getsourcefile(function) or "")
    name = function.__qualname__
    start = next((i for i, line in enumerate(lines) if statement is not None and statement in line), None)
    if start is None:
        start = next((i for i, line in enumerate(lines) if line.lstrip().startswith(("def ", "class "))), 0)
        return Source(file, first + start, inspect.cleandoc(_statement(lines, start)), name, statement is None)
    return Source(file, first + start, inspect.cleandoc(_statement(lines, start)), name, True)


def _statement(lines: list[str], start: int) -> str:
    """The lines from one on until its brackets are closed."""
    taken: list[str] = []
    depth = 0
    for line in lines[start:]:
        taken.append(line)
        code = line.split("  #")[0]
        depth += sum(code.count(c) for c in "([{") - sum(code.count(c) for c in ")]}")
        if depth <= 0:
            break
    return "".join(taken).rstrip()
