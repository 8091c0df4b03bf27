"""Units and number formats of axes and tables."""

from __future__ import annotations

import math
from typing import NamedTuple

TICK_STEPS = [1, 2, 2.5, 5, 10]  # the `steps` of MaxNLocator: readable distances between ticks
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Unit(NamedTuple):
    """The divisor of the values on an axis, and the label of that axis."""

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
    """The unit of an axis with values up to ``largest``.

    Args:
        kind: "step", "tokens", "seconds" or "flops".
        largest: the largest value.
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
    """Tick labels for Matplotlib's FuncFormatter: 0.5, 10, 2,000."""
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def format_cell(value: str | int | float | None) -> str:
    """The text of a table cell; a dash for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\N{EN DASH}"
    if isinstance(value, (str, bool)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{min(digits, 4)}f}"
    return scientific(value) if value >= 1e9 else f"{value:.3g}"
