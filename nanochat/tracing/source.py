"""Locates statements in the source code at run time, so that quoted lines and line numbers are always current."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]  # the folder that contains the package


class Source(NamedTuple):
    """A statement in the source code.

    Attributes:
        file: absolute path.
        line: first line of the statement, from 1.
        code: its lines, without their common indentation.
        name: qualified name of the function that contains it.
        found: whether the statement was found; if not, ``line`` and ``code`` are those of the function's first line.
    """

    file: Path
    line: int
    code: str
    name: str
    found: bool

    @property
    def location(self) -> str:
        """nanochat/model/gpt.py:97"""
        path = self.file.relative_to(ROOT) if self.file.is_relative_to(ROOT) else self.file
        return f"{path.as_posix()}:{self.line}"


def source_of(function: Callable[..., Any], statement: str | None = None) -> Source:
    """The source of a function, or of a statement in it.

    Line numbers follow changes of the code. If the statement is gone, the result points to its function, and a test
    of the trace fails.

    Args:
        function: a function, a method or a class.
        statement: text that occurs in the first line of the statement and in no line before it; None for the function
            itself.
    """
    function = inspect.unwrap(function)  # the function itself, not the wrapper of a decorator
    lines, first = inspect.getsourcelines(function)
    file = Path(inspect.getsourcefile(function) or "")
    start = next((i for i, line in enumerate(lines) if statement is not None and statement in line), None)
    found = statement is None or start is not None
    if start is None:
        start = next((i for i, line in enumerate(lines) if line.lstrip().startswith(("def ", "class "))), 0)
    code = inspect.cleandoc(_statement(lines, start))
    return Source(file, first + start, code, function.__qualname__, found)


def _statement(lines: list[str], start: int) -> str:
    """The lines from ``start`` on, until all brackets are closed."""
    statement: list[str] = []
    depth = 0
    for line in lines[start:]:
        statement.append(line)
        code = line.split("  #")[0]
        depth += sum(code.count(c) for c in "([{") - sum(code.count(c) for c in ")]}")
        if depth <= 0:
            break
    return "".join(statement).rstrip()
