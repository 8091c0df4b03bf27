"""Singular and plural, and untrusted text on one line."""

from __future__ import annotations

import pytest

from nanochat.wording import one_line, plural


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1200, "1,200 runs"), (1.0, "1 run"), (2.5, "2.5 runs")],
)
def test_plural(count: float, expected: str) -> None:
    assert plural(count, "run") == expected


def test_one_line_removes_line_breaks_and_control_characters() -> None:
    assert one_line("  bad\r\n\x1b[2Jname\t\u200b1\x00 ") == "bad [2Jname 1"
    assert one_line(12) == "12"
