"""The calculator tool: arithmetic expressions and ``str.count``. The input is parsed, never executed.

A call is one expression: numbers with ``+ - * / // % **`` and parentheses, with Python's syntax, precedence and
results, or ``"strawberry".count("r")``. Anything else has no result. The length of an expression, the size of its
numbers and its nesting are bounded, and with them the time.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal

MAX_CHARACTERS = 300
MAX_DIGITS = 50  # of every intermediate result
MAX_DEPTH = 30  # of nested parentheses and signs
TOKEN = re.compile(r"\s*(?:([0-9][0-9_,]*(?:\.[0-9]*)?|\.[0-9]+)|(\*\*|//|[-+*/%()]))")
COUNT_CALL = re.compile(r"""\s*(["'])([^"'\\]*)\1\.count\((["'])([^"'\\]+)\3\)\s*""")
Number = int | float


def calculate(expression: str) -> str | None:
    """The result of an expression as text; None if the expression is invalid or a number is too large.

    Integers are exact. Other results are rounded to ten significant digits; an integral result has no decimal point.

    >>> calculate("12 * 34")
    '408'
    >>> calculate('"strawberry".count("r")')
    '3'
    """
    if len(expression) > MAX_CHARACTERS:
        return None
    if call := COUNT_CALL.fullmatch(expression):
        return str(call[2].count(call[4]))
    try:
        return _format(_Parser(expression).parse())
    except (ValueError, ArithmeticError):
        return None


def _format(value: Number) -> str:
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return str(int(value))
    rounded = Context(prec=10, rounding=ROUND_HALF_EVEN).create_decimal(Decimal(value))
    text = f"{rounded:f}" if 1e-6 <= abs(value) < 1e15 else f"{rounded}"
    return text.rstrip("0").rstrip(".") if "." in text and "E" not in text else text


def _check_bounds(value: Number | complex) -> Number:
    if isinstance(value, complex) or value != value or abs(value) >= 10**MAX_DIGITS:
        raise ValueError("the number is too large or not real")
    return value


def _power(base: Number, exponent: Number) -> Number:
    """``base ** exponent``, refused before it is computed if the result would be far too large."""
    if abs(exponent) > 1000 or (abs(base) > 1 and abs(exponent) * len(str(int(abs(base)))) > 4 * MAX_DIGITS):
        raise ValueError("the power is too large")
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
    """A recursive-descent parser that evaluates as it reads.

    Grammar, loosest binding first: sum of products, product of signed values, signed value, power, number or
    parentheses.
    """

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []  # (number, "") or ("", operator)
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = TOKEN.match(text, position)
            if match is None:
                raise ValueError("not an arithmetic expression")
            self.tokens.append((match[1] or "", match[2] or ""))
            position = match.end()
        self.position = self.depth = 0

    def parse(self) -> Number:
        """The value of the whole text."""
        value = self._sum()
        if self.position < len(self.tokens):
            raise ValueError("unexpected text after the expression")
        return value

    def _accept(self, *operators: str) -> str:
        """Consumes and returns the next token if it is one of the operators, else returns an empty string."""
        if self.position < len(self.tokens) and (found := self.tokens[self.position][1]) in operators:
            self.position += 1
            return found
        return ""

    def _sum(self) -> Number:
        return self._left_associative(self._product, "+", "-")

    def _product(self) -> Number:
        return self._left_associative(self._signed, "*", "/", "//", "%")

    def _left_associative(self, operand: Callable[[], Number], *operators: str) -> Number:
        value = operand()
        while sign := self._accept(*operators):
            value = _check_bounds(OPERATORS[sign](value, operand()))
        return value

    def _signed(self) -> Number:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        sign = self._accept("+", "-")
        value = self._signed() if sign else self._exponentiation()
        self.depth -= 1
        return -value if sign == "-" else value

    def _exponentiation(self) -> Number:
        base = self._atom()
        return _check_bounds(_power(base, self._signed())) if self._accept("**") else base

    def _atom(self) -> Number:
        if self._accept("("):
            value = self._sum()
            if not self._accept(")"):
                raise ValueError("a closing parenthesis is missing")
            return value
        if self.position >= len(self.tokens) or not self.tokens[self.position][0]:
            raise ValueError("a number is missing")
        digits = self.tokens[self.position][0].replace(",", "").replace("_", "")
        self.position += 1
        return _check_bounds(float(digits) if "." in digits else int(digits))
