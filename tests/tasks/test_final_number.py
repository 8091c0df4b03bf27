"""Extraction and comparison of the final number of an answer."""

from __future__ import annotations

from decimal import Decimal

import pytest

from nanochat.tasks import records
from nanochat.tasks.final_number import final_number


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("She makes 9 * 2 = 18 dollars. #### 18", "18"),
        ("#### 1,234,567", "1234567"),
        ("####-5", "-5"),
        ("#### \u22125", "-5"),
        ("#### $ 72", "72"),
        ("#### $-3", "-3"),
        ("#### -$3.50", "-3.50"),
        ("#### .5", ".5"),
        ("#### 20%", "20"),
        ("#### 18 apples, not 20", "18"),  # the first number after the mark
        ("#### 3 and then #### 4", "4"),
        ("It is 1,050.", "1050"),  # without the mark, the last number
        ("It is -7.", "-7"),
        ("10-5 is 5", "5"),
        ("so 10-5", "5"),  # a subtraction, not a sign
        ("first 3, then 4.25 kilometres", "4.25"),
    ],
)
def test_final_number(answer: str, number: str) -> None:
    assert final_number(answer) == Decimal(number)


@pytest.mark.parametrize("answer", ["", "I do not know.", "5 and then #### nothing", "#### ,", "...", "-"])
def test_no_final_number(answer: str) -> None:
    assert final_number(answer) is None


def test_check_number_compares_values() -> None:
    item = records.gsm8k({"question": "?", "answer": "<<1000+80=1080>>1080\n#### 1,080"})
    for correct in ("#### 1080", "#### 1,080.00", "It is $1,080.", "2080-1080"):
        assert records.check_number(item, correct)
    for wrong in ("#### 108", "1080 #### 1", "", "#### 1080.5"):
        assert not records.check_number(item, wrong)
