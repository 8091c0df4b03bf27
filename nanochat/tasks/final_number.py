"""The number that an answer to a sum in words ends with."""

from __future__ import annotations

import re
from decimal import Decimal

MARK = "####"  # what GSM8K's own answers have before the number
# A minus belongs to the number unless something stands before it that it takes away from.
NUMBER = re.compile(r"(?:(?<![\w)%])[-\u2212]\s?)?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


def final_number(answer: str) -> Decimal | None:
    """The number after the last ``####``; in an answer without, the last number; None if there is none.

    Commas between digits, a currency's sign and white space do not matter.

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
