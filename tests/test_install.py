"""Setting up: what stops it before anything is fetched is said in a line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

INSTALL = Path(__file__).parent.parent / "scripts" / "install.py"


def test_a_python_that_cannot_make_environments_says_what_to_install(tmp_path: Path) -> None:
    # as Debian's without python3-venv
    start = f"import runpy, sys; sys.modules['ensurepip'] = None; runpy.run_path({str(INSTALL)!r}, run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path / "new")], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "this Python lacks what makes environments: `sudo apt install python3-venv` brings it"
    ]
    assert not any(tmp_path.iterdir())
