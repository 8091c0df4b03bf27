"""Extracts the final number of an answer to a word problem, as GSM8K is scored."""

from __future__ import annotations

import re
from decimal import Decimal

MARK = "####"  # precedes the final number in the reference answers of GSM8K
# A minus is a sign unless it follows an operand, as in "10-5".
NUMBER = re.compile(r"(?:(?<![\w)%])[-\u2212]\s?)?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


def final_number(answer: str) -> Decimal | None:
    """The first number after the last ``####``, or without it the last number; None if there is none.

    Thousands separators, dollar signs and whitespace are ignored.

    >>> final_number("48 / 2 = 24 each, 72 in all. #### 1,072")
    Decimal('1072')
    >>> final_number("It is -3.50.")
    Decimal('-3.50')
    """
    _, mark, after = answer.rpartition(MARK)
    found = NUMBER.findall(after)
    if not found:
        return None
    text = found[0] if mark else found[-1]
    digits = re.sub(r"[^\d.]", "", text)
    return Decimal(digits) * (-1 if text[0] in "-\u2212" else 1)
