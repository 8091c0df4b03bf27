"""The ``plan`` command, and ``fit`` with the configuration that it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nanochat.cli import main
from tests.cli.tools import command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes=0"], "--minutes must be above 0, not 0"),
        (["--minutes=-1"], "--minutes must be above 0"),
        (["--write=mine.txt"], "must end with .yaml"),
        (["--write=configs/tiny.yaml"], "there is already configs/tiny.yaml"),
        (["--minute=1"], "did you mean --minutes?"),
    ],
)
def test_errors_are_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_planned_run_takes_the_planned_time(corpus_folder: Path, tmp_path: Path) -> None:
    """Steps and seconds are as planned; the forecast of the score does not apply to this corpus.

    Up to four tries: the load of the machine may change between planning and training.
    """
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        if 0.5 < seconds_of_a_planned_run(corpus_folder, tmp_path / str(number)) / 24 < 1.5:
            return
    pytest.fail("the run never took the planned time")


def seconds_of_a_planned_run(corpus_folder: Path, root: Path) -> float:
    path = root / "mine.yaml"
    planned = command("plan", "--minutes=0.4", f"--write={path}", f"--corpus={corpus_folder}", f"--root={root}")
    assert planned.returncode == 0, planned.stderr
    lines = [line for line in planned.stdout.splitlines() if str(path) not in line]
    assert max(map(len, lines)) <= 80
    steps = re.search(r"--trainer\.max_steps=(\d+)", path.read_text())
    assert steps is not None
    fitted = command("fit", f"--config={path}", f"--trainer.default_root_dir={root}", steps[0])
    assert fitted.returncode == 0, fitted.stderr
    (summary,) = root.glob("lightning_logs/mine/version_0/summary.json")
    facts = json.loads(summary.read_text())
    assert facts["steps"] == int(steps[1])
    return float(facts["seconds"])
