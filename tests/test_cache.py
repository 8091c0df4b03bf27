"""Files that are written atomically."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nanochat.cache import write_atomically


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_written_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "page.html", "x")
        assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o644
        os.umask(0o077)
        write_atomically(tmp_path / "page.html", "y")
        assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "page.html", "x")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "page.html", "\ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("page.html", "x")]
