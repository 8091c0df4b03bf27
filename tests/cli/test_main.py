"""What holds for every command, whatever the terminal and the folder that it is started in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
