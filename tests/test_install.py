"""scripts/install.py: with uv where it is installed, else with pip; and the errors before anything is downloaded."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INSTALL = ROOT / "scripts" / "install.py"
# Programs that write down how they were called. uv creates the environment's interpreter, whose `-m pip` does the same.
UV = """#!/bin/sh
echo "uv $*" >> calls.txt
[ "$1" = "$FAILS" ] && exit 3
if [ "$1" = venv ]; then
    for target; do :; done
    mkdir -p "$target/bin"
    printf '#!/bin/sh\\necho "python $*" >> calls.txt\\n' > "$target/bin/python"
    chmod +x "$target/bin/python"
fi
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Installs into ./env with fake programs; returns how they were called."""

    def install(uv: bool = True, fails: str = "nothing", index: bool = False) -> list[str]:
        programs = tmp_path / "programs"
        programs.mkdir()
        if uv:
            (programs / "uv").write_text(UV)
            (programs / "uv").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        monkeypatch.setenv("FAILS", fails)
        monkeypatch.chdir(tmp_path)
        module = runpy.run_path(str(INSTALL))
        names = module["install"].__globals__
        names["is_reachable"], names["has_nvidia_gpu"] = lambda url: index, lambda: False
        import venv

        def create(target: Path, with_pip: bool) -> None:
            assert with_pip
            subprocess.run(["sh", "-c", UV, "uv", "venv", str(target)], check=True, env={"PATH": "/usr/bin:/bin"})

        monkeypatch.setattr(venv, "create", create)
        module["install"](Path("env"))
        return (tmp_path / "calls.txt").read_text().splitlines()

    return install


PINNED = f"-c {ROOT / 'constraints.txt'}"
PROJECT = f"-e {ROOT}[dev] {PINNED}"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake programs are shell scripts")


def test_uv(calls: Callable[..., list[str]], tmp_path: Path) -> None:
    assert calls() == [
        f"uv venv --quiet --seed --allow-existing --python {sys.executable} env",
        f"uv pip install --quiet --python env/bin/python {PROJECT}",
    ]
    assert (tmp_path / "env" / ".ready").is_file()


@pytest.mark.skipif(sys.platform == "darwin", reason="there are no CUDA builds")
def test_torch_without_cuda(calls: Callable[..., list[str]]) -> None:
    index = "--index-url https://download.pytorch.org/whl/cpu"
    assert calls(index=True)[1:] == [
        f"uv pip install --quiet --python env/bin/python --no-deps torch {PINNED} {index}",
        f"uv pip install --quiet --python env/bin/python {PROJECT}",
    ]


def test_pip(calls: Callable[..., list[str]], tmp_path: Path) -> None:
    assert calls(uv=False)[1:] == [f"python -m pip install --quiet --disable-pip-version-check {PROJECT}"]
    assert (tmp_path / "env" / ".ready").is_file()


@pytest.mark.parametrize("step", ["venv", "pip"])
def test_pip_where_uv_fails(step: str, calls: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]) -> None:
    assert calls(fails=step)[-1] == f"python -m pip install --quiet --disable-pip-version-check {PROJECT}"
    assert "uv ended with 3" in capfd.readouterr().out


def test_python_without_venv(tmp_path: Path) -> None:
    # as Debian's without python3-venv
    start = f"import runpy, sys; sys.modules['ensurepip'] = None; runpy.run_path({str(INSTALL)!r}, run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path / "new")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
    )
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "this Python has no `venv` module: `sudo apt install python3-venv` installs it"
    ]
    assert not any(tmp_path.iterdir())
