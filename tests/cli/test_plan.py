"""``plan`` on the command line: what it proposes, and that ``fit`` takes it."""

from __future__ import annotations

import pytest

from nanochat.cli import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes=0"], "--minutes must be above 0, not 0"),
        (["--minutes=-1"], "--minutes must be above 0"),
        (["--write=mine.txt"], "ends with .yaml"),
        (["--write=configs/tiny.yaml"], "there is already configs/tiny.yaml"),
        (["--minute=1"], "did you mean --minutes?"),
    ],
)
def test_errors_are_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
