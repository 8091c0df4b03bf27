"""The tool that a model may call: arithmetic, and counting letters. Nothing of what it is given is ever executed.

A call is one expression: numbers with ``+ - * / // % **`` and parentheses, as Python writes and reckons them, or
``"strawberry".count("r")``. A parser of a few dozen lines reads it; what it does not know has no result. Length, size
of numbers and depth are bounded, and with them the time.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal

MOST_CHARACTERS = 300
MOST_DIGITS = 50  # of any number on the way
MOST_DEPTH = 30  # of parentheses and signs
TOKEN = re.compile(r"\s*(?:([0-9][0-9_,]*(?:\.[0-9]*)?|\.[0-9]+)|(\*\*|//|[-+*/%()]))")
COUNT = re.compile(r"""\s*(["'])([^"'\\]*)\1\.count\((["'])([^"'\\]+)\3\)\s*""")
Number = int | float


def calculate(expression: str) -> str | None:
    """The result of an expression, as a model reads it; None if it is none, or too large.

    Whole numbers are exact. Others have at most ten significant digits, and a whole result no decimal point.

    >>> calculate("12 * 34")
    '408'
    >>> calculate('"strawberry".count("r")')
    '3'
    """
    if len(expression) > MOST_CHARACTERS:
        return None
    if counted := COUNT.fullmatch(expression):
        return str(counted[2].count(counted[4]))
    try:
        return _text(_Parser(expression).whole())
    except (ValueError, ArithmeticError):
        return None


def _text(value: Number) -> str:
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return str(int(value))
    rounded = Context(prec=10, rounding=ROUND_HALF_EVEN).create_decimal(Decimal(value))
    text = f"{rounded:f}" if 1e-6 <= abs(value) < 1e15 else f"{rounded}"
    return text.rstrip("0").rstrip(".") if "." in text and "E" not in text else text


def _bounded(value: Number | complex) -> Number:
    if isinstance(value, complex) or value != value or abs(value) >= 10**MOST_DIGITS:
        raise ValueError("too large, or no number")
    return value


def _power(base: Number, exponent: Number) -> Number:
    if abs(exponent) > 1000 or (abs(base) > 1 and abs(exponent) * len(str(int(abs(base)))) > 4 * MOST_DIGITS):
        raise ValueError("too large")
    return base**exponent  # type: ignore[no-any-return]


OPERATORS: dict[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


class _Parser:
    """Recursive descent: a sum of products of signed powers of numbers and parentheses."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []  # a number or an operator, the other one empty
        place = 0
        text = text.rstrip()
        while place < len(text):
            match = TOKEN.match(text, place)
            if match is None:
                raise ValueError("not arithmetic")
            self.tokens.append((match[1] or "", match[2] or ""))
            place = match.end()
        self.place = self.depth = 0

    def whole(self) -> Number:
        value = self._sum()
        if self.place < len(self.tokens):
            raise ValueError("something follows")
        return value

    def _next(self, *wanted: str) -> str:
        """The next operator if it is one of those, which is then taken; or nothing."""
        if self.place < len(self.tokens) and (found := self.tokens[self.place][1]) in wanted:
            self.place += 1
            return found
        return ""

    def _sum(self) -> Number:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Number:
        return self._chain(self._signed, "*", "/", "//", "%")

    def _chain(self, operand: Callable[[], Number], *operators: str) -> Number:
        value = operand()
        while sign := self._next(*operators):
            value = _bounded(OPERATORS[sign](value, operand()))
        return value

    def _signed(self) -> Number:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise ValueError("too deep")
        sign = self._next("+", "-")
        value = self._signed() if sign else self._raised()
        self.depth -= 1
        return -value if sign == "-" else value

    def _raised(self) -> Number:
        base = self._atom()
        return _bounded(_power(base, self._signed())) if self._next("**") else base

    def _atom(self) -> Number:
        if self._next("("):
            value = self._sum()
            if not self._next(")"):
                raise ValueError("a parenthesis is open")
            return value
        if self.place >= len(self.tokens) or not self.tokens[self.place][0]:
            raise ValueError("a number is missing")
        digits = self.tokens[self.place][0].replace(",", "").replace("_", "")
        self.place += 1
        return _bounded(float(digits) if "." in digits else int(digits))
