"""Options: their names, and what is wrong with one, said in the same words everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def flatten_config(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A configuration by the names of the command line, {"model.depth": 4, ...}; what is no plain value as text."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flatten_config(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value if isinstance(value, (str, int, float, type(None))) else str(value)
    return found


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ ", did you mean X?", or nothing if no known word is near."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {matches[0]}?" if matches else ""


def at_least(least: int, before: str = "", **values: float | None) -> None:
    """Refuses options that are too small; None is not set and therefore right.

    Args:
        least: that each may be.
        before: of their names, such as "data.".
        values: by their names.

    Raises:
        ValueError: naming the option.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"--{before}{name} must be at least {least}, not {value}")


def check_name(name: str) -> None:
    """Refuses a --name that is not one of a single folder: its runs would not be found again.

    Raises:
        ValueError: saying what a name is.
    """
    if name.strip(". ") == "" or any(letter in "/\\" or not letter.isprintable() for letter in name):
        raise ValueError(f"--name={name} is no name of a folder: give one such as tiny, without slashes")
