"""Errors as a user sees them: one line on stderr that says what is wrong and what to do."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended


class UsageError(ValueError):
    """The command line or a configuration file asks for something that there is not."""


def report(message: str) -> int:
    """Prints the line, and returns the exit status that goes with it."""
    print(f"nanochat: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_ERROR


def nearest(word: str, known: Iterable[str]) -> str:
    """ ", did you mean X?", or nothing if no known word is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {matches[0]}?" if matches else ""
