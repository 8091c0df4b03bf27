"""What holds for every command, whatever the terminal and the folder that it is started in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.cli import main
from nanochat.cli.errors import report_errors
from tests.cli.tools import ROOT, command


def test_a_letter_that_the_terminal_lacks_is_no_error(tmp_path: Path) -> None:
    result = command("runs", "--caches", NANOCHAT_CACHE=str(tmp_path / "küche"), PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{tmp_path}/k?che" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="there a folder that is in use stays")
def test_a_folder_that_was_removed_meanwhile_is_an_error_in_a_line(tmp_path: Path) -> None:
    line = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} {ROOT / 'cli.py'} runs"
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert result.returncode == 2
    assert "nanochat: error: the folder that this was started in is there no more" in result.stderr
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
def test_what_is_wrong_with_the_words_is_said_by_their_options(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"nanochat: error: {said}\n"


def test_a_file_that_cannot_be_had_is_named_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none" / "a.json"
    assert report_errors(path.read_text) == 2
    assert capsys.readouterr().err == f"nanochat: error: {path}: No such file or directory\n"
