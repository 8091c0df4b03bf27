"""Option names, and checks whose error messages are the same everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def flatten_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration with the names of the command line: ``{"model.depth": 4, ...}``.

    Strings, numbers, booleans and None stay as they are; any other value becomes a string.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten_config(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, (str, int, float, type(None))) else str(value)
    return flat


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ ", did you mean X?" for the most similar known word; an empty string if none is similar."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {matches[0]}?" if matches else ""


def at_least(least: int, prefix: str = "", **values: float | None) -> None:
    """Checks that each option is at least ``least``; None means that it is not set, and passes.

    Args:
        least: the smallest allowed value.
        prefix: of the option names, such as "data.".
        values: option names and their values.

    Raises:
        ValueError: naming the first option that is too small.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"--{prefix}{name} must be at least {least}, not {value}")


def check_name(name: str) -> None:
    """Checks that ``--name`` is the name of a single folder; runs under any other name would not be found again.

    Raises:
        ValueError: if it is not, with an example of a valid name.
    """
    if name.strip(". ") == "" or any(letter in "/\\" or not letter.isprintable() for letter in name):
        raise ValueError(f"--name={name} is not a folder name: give one such as tiny, without slashes")
