"""``plan`` on the command line: what it proposes, and that ``fit`` takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from nanochat.cli import main
from tests.cli.tools import command


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


@pytest.mark.slow
def test_a_planned_run_takes_the_time_and_comes_to_the_score(corpus_folder: Path, tmp_path: Path) -> None:
    """On text that the forecast does not know the score may be anything; steps and seconds must be as planned."""
    path = tmp_path / "mine.yaml"
    options = ["--minutes=0.7", f"--write={path}", f"--corpus={corpus_folder}", f"--root={tmp_path}"]
    planned = command("plan", *options)
    assert planned.returncode == 0, planned.stderr
    assert max(map(len, planned.stdout.splitlines())) <= 80 or str(path) in planned.stdout
    content = yaml.safe_load(path.read_text())
    steps = int(path.read_text().split("--trainer.max_steps=")[1].split()[0])
    fitted = command(
        "fit", f"--config={path}", f"--trainer.default_root_dir={tmp_path}", f"--trainer.max_steps={steps}"
    )
    assert fitted.returncode == 0, fitted.stderr
    (summary,) = tmp_path.glob("lightning_logs/mine/version_0/summary.json")
    facts = json.loads(summary.read_text())
    assert facts["steps"] == steps
    assert facts["seconds"] == pytest.approx(60 * content["plan"]["minutes"], rel=0.3)  # two runs on a busy machine
