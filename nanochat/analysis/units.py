"""Numbers on axes and in tables: short, and with their unit."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

NICE = [1, 2, 2.5, 5, 10]  # steps between ticks
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SMOOTHED = 0.015  # of the width of a curve: the standard deviation of the running mean's window


class Unit(NamedTuple):
    """What the values on an axis are divided by, and what the axis is called then."""

    size: float
    label: str


def power_of_ten(exponent: int) -> str:
    """ "10¹²" """
    return "10" + str(exponent).translate(SUPERSCRIPTS)


def scientific(value: float) -> str:
    """ "6.7·10¹³" """
    exponent = math.floor(math.log10(value))
    return f"{value / 10**exponent:.1f}·{power_of_ten(exponent)}"


def unit_of(kind: str, largest: float) -> Unit:
    """The unit in which values up to ``largest`` are easy to read.

    Args:
        kind: "step", "tokens", "seconds" or "flops".
        largest: of the values.
    """
    if kind == "seconds":
        for size, name in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
            if largest >= 2 * size:
                return Unit(size, f"time ({name})")
        return Unit(1, "time (seconds)")
    if kind == "tokens":
        for size, name in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")):
            if largest >= 2 * size:
                return Unit(size, f"tokens ({name})")
        return Unit(1, "tokens")
    if kind == "flops":
        exponent = math.floor(math.log10(largest)) if largest > 0 else 0
        return Unit(10.0**exponent, f"compute ({power_of_ten(exponent)} FLOPs)")
    return Unit(1, "step")


def thousands(value: float, position: object = None) -> str:
    """Ticks: 0.5, 10, 2,000"""
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def smooth(x: np.ndarray, y: np.ndarray, width: float = SMOOTHED) -> np.ndarray:
    """A running mean, weighted by a Gaussian window around each point.

    Args:
        x: where the points lie, ascending.
        y: their values.
        width: the window's standard deviation, as a share of the whole width.
    """
    if len(x) < 4:
        return y
    span = max(width * float(x[-1] - x[0]), 1e-12)
    result = np.empty(len(x))
    for index, here in enumerate(x):
        near = slice(np.searchsorted(x, here - 3 * span), np.searchsorted(x, here + 3 * span, "right"))
        weights = np.exp(-0.5 * ((x[near] - here) / span) ** 2)
        result[index] = weights @ y[near] / weights.sum()
    return result


def thinned(x: np.ndarray, y: np.ndarray, most: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points, evenly taken: more than a picture has dots only make its file larger."""
    if len(x) <= most:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[kept], y[kept]


def cell(value: str | int | float | None) -> str:
    """A number in a table as people read it; a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\u2013"
    if isinstance(value, (str, bool)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{min(digits, 4)}f}"
    return scientific(value) if value >= 1e9 else f"{value:.3g}"
