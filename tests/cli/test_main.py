"""Behaviour that all commands share, in any terminal and any folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.cli import main
from nanochat.cli.errors import report_errors
from tests.cli.tools import ROOT, command


def test_unencodable_output(tmp_path: Path) -> None:
    result = command("runs", "--caches", NANOCHAT_CACHE=str(tmp_path / "küche"), PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{tmp_path}/k?che" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be deleted")
def test_deleted_current_folder(tmp_path: Path) -> None:
    line = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} {ROOT / 'cli.py'} runs"
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert result.returncode == 2
    assert "nanochat: error: the current folder has been deleted: change to another one" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chat", "What is a list?"], "What belongs to no option: they are written --name=value (all of them: --help)"),
        (["chat", "--prompt"], "--prompt needs a value (--help says more)"),
        (["runs", "--remove"], "--remove needs a value (--help says more)"),
        (["analyze", "--quick=1"], "--quick takes no value (--help says more)"),
        (["fit", "--config"], "--config needs a value (--help says more)"),
        (["download"], "--corpus must be given (what it takes: --help)"),
        (["export"], "--ckpt_path and --out must be given (what it takes: --help)"),
    ],
)
def test_bad_arguments(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"nanochat: error: {said}\n"


def test_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none" / "a.json"
    assert report_errors(path.read_text) == 2
    assert capsys.readouterr().err == f"nanochat: error: {path}: No such file or directory\n"
