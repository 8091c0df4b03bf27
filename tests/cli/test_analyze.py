"""``analyze`` on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanochat.cli import main
from tests.analysis.run_folders import write_run
from tests.cli.tools import command, tiny_options, train


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three runs of two names; the newest is b/version_0."""
    for age, (name, version) in enumerate([("b", 0), ("a", 1), ("a", 0)]):
        folder = write_run(tmp_path, name, version, seed_everything=version, data__seed=version)
        for file in folder.iterdir():
            os.utime(file, (1e9 - 100 * age, 1e9 - 100 * age))
    return tmp_path


def analyze(root: Path, *words: str) -> int:
    return main(["analyze", *words, "--quick", f"--root={root}"])


def test_default_is_newest_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(root, "--figures=loss,parameters") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("b/version_0")
    page = root / "lightning_logs" / "b" / "version_0" / "analysis.html"
    assert shown.rstrip().endswith(str(page))
    text = page.read_text()
    assert 'id="loss"' in text
    assert 'id="rates"' not in text
    assert not (page.parent / "analysis" / "bpb.png").exists()
    assert all(len(line) <= 80 for line in shown.splitlines() if str(root) not in line)


@pytest.mark.parametrize("words", [["a"], ["a/version_1"], ["FOLDER/a"], ["FOLDER/a/version_1"]])
def test_run_by_name_label_and_folder(root: Path, words: list[str]) -> None:
    words = [word.replace("FOLDER", str(root / "lightning_logs")) for word in words]
    assert analyze(root, *words, "--figures=parameters") == 0
    assert (root / "lightning_logs" / "a" / "version_1" / "analysis.html").is_file()


def test_all_compares_every_version(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(root, "a", "--all", "--figures=runs,scores") == 0
    assert "2 runs that differ only in their seed" in capsys.readouterr().out
    assert (root / "lightning_logs" / "analysis-a" / "analysis.html").is_file()


def test_out_folder_of_comparison(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "here"
    assert analyze(root, "a", "b", f"--out={out}", "--figures=runs") == 0
    assert "a/version_1" in (out / "analysis.html").read_text()
    assert (out / "analysis" / "runs.md").is_file()


def test_other_versions_have_another_folder(root: Path) -> None:
    for words in (["a", "b"], ["a/version_0", "b"]):
        assert analyze(root, *words, "--figures=runs") == 0
    assert len(list((root / "lightning_logs").glob("analysis-a-b*/analysis.html"))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bb"], "there is no run bb below"),
        (["a/version_7"], "did you mean a/version_"),
        (["--figures=los"], "there is no figure los, did you mean loss?"),
        (["--figures="], "--figures: give at least one name"),
        (["--device=tpu"], "there is no device tpu here that torch can use"),
        (["--passage= "], "--passage is empty: give a text"),
        ([f"--out={__file__}"], "test_analyze.py is a file: give a folder"),
        ([f"--out={__file__}/below"], "test_analyze.py/below cannot be created: Not a directory"),
        (["--quik"], "there is no option --quik, did you mean --quick?"),
    ],
)
def test_usage_errors_are_one_line(
    root: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze(root, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_error_without_runs_suggests_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(tmp_path) == 2
    assert "train one with" in capsys.readouterr().err


def test_real_run_with_step_time(corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tiny_options(corpus_folder, tmp_path), tmp_path)
    assert main(["analyze", f"--root={tmp_path}", "--figures=loss,bpb,rates,speed,run_time,step_time,memory"]) == 0
    shown = capsys.readouterr().out
    assert "not shown" not in shown
    lines = (run / "analysis" / "step_time.csv").read_text().splitlines()[1:]
    phases = {line.split(",")[0]: float(line.split(",")[1]) for line in lines}
    assert set(phases) >= {"forward", "backward", "optimizer", "everything else"}
    assert all(milliseconds > 0 for milliseconds in phases.values())


def test_help() -> None:
    done = command("analyze", "--help")
    assert done.returncode == 0
    assert "--figures" in done.stdout
