"""A number with its noun, and a text on one line."""

from __future__ import annotations

import pytest

from nanochat.wording import one_line, plural


@pytest.mark.parametrize(("count", "said"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1200, "1,200 runs")])
def test_one_is_not_many(count: int, said: str) -> None:
    assert plural(count, "run") == said


def test_what_a_file_says_can_neither_break_a_line_nor_move_the_cursor() -> None:
    assert one_line("  bad\r\n\x1b[2Jname\t\u200b1\x00 ") == "bad [2Jname 1"
    assert one_line(12) == "12"
