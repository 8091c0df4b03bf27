"""Commands that are printed run as they stand, and cli.py continues in the project's environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from nanochat import virtualenv

ROOT = Path(__file__).parent.parent
PRINT = "from nanochat.virtualenv import *; print(python_command(), tool_command('tensorboard', 'tensorboard.main'))"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fake programs are shell scripts")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of the project with an environment that lacks all packages."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "nanochat").symlink_to(ROOT / "nanochat")
    shutil.copy2(ROOT / "cli.py", folder)
    venv.create(folder / ".venv", symlinks=True)
    return folder


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PATH": "/usr/bin:/bin", **environment}
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=250, cwd=cwd, env=variables
    )


# ----------------------------------------------------------------------------------------------- printed commands


def printed(checkout: Path, cwd: Path, path: str = "/usr/bin:/bin") -> str:
    done = run(checkout / ".venv/bin/python", "-c", PRINT, cwd=cwd, PATH=path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_active_environment(checkout: Path) -> None:
    script(checkout / ".venv/bin/tensorboard", "")
    assert printed(checkout, checkout, f"{checkout}/.venv/bin:/usr/bin:/bin") == "python tensorboard"


def test_inactive_environment(checkout: Path, tmp_path: Path) -> None:
    script(checkout / ".venv/bin/tensorboard", "")
    assert printed(checkout, checkout) == ".venv/bin/python .venv/bin/tensorboard"
    assert printed(checkout, checkout / ".venv/bin") == "./python ./tensorboard"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = checkout.resolve() / ".venv/bin"
    assert printed(checkout, elsewhere) == f"{folder}/python {folder}/tensorboard"


def test_other_environment_is_active(checkout: Path) -> None:
    # its interpreter is a link to the same Python
    other = checkout / "other"
    venv.create(other, symlinks=True)
    assert printed(checkout, checkout, f"{other}/bin:/usr/bin:/bin").startswith(".venv/bin/python ")


def test_missing_tool(checkout: Path) -> None:
    assert printed(checkout, checkout).endswith("python -m tensorboard.main")


def test_spaces_are_quoted(checkout: Path) -> None:
    folder = checkout.rename(checkout.with_name("check out"))
    script(folder / ".venv/bin/tensorboard", "")
    assert printed(folder, folder.parent) == "'check out/.venv/bin/python' 'check out/.venv/bin/tensorboard'"


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        (["cli.py"], ".venv/bin/python cli.py"),
        (["-m", "nanochat"], ".venv/bin/python -m nanochat"),
        ([".venv/bin/nanochat"], ".venv/bin/nanochat"),
    ],
)
def test_usage_names_a_command_that_runs(started: list[str], shown: str, checkout: Path) -> None:
    entry_point = checkout / ".venv/bin/nanochat"
    entry_point.write_text(  # as pip writes it
        f"#!{checkout}/.venv/bin/python\nimport sys; sys.path.insert(0, '.'); from nanochat.cli import main; main()\n"
    )
    entry_point.chmod(0o755)
    program = [checkout / ".venv/bin/python", *started]
    done = run(*program, "--help", cwd=checkout)
    assert done.stdout.startswith(f"usage: {shown} COMMAND")
    again = run("sh", "-c", f"{shown} --help", cwd=checkout)
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_usage_in_an_active_environment(checkout: Path) -> None:
    path = f"{checkout}/.venv/bin:/usr/bin:/bin"
    done = run(checkout / ".venv/bin/python", "cli.py", "--help", cwd=checkout, PATH=path)
    assert done.stdout.startswith("usage: python cli.py COMMAND")


@pytest.mark.parametrize(
    ("shell", "command"),
    [
        ("/bin/bash", "source .venv/bin/activate"),
        ("/usr/bin/fish", "source .venv/bin/activate.fish"),
        ("/bin/tcsh", "source .venv/bin/activate.csh"),
    ],
)
def test_activation(shell: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHELL", shell)
    assert virtualenv.activation_command(Path.cwd() / ".venv") == command


# ------------------------------------------------------------------------------------------ continuing in .venv

ECHO = 'for word in "$@"; do echo "<$word>"; done; exit 7'  # an interpreter that prints its arguments


@pytest.mark.parametrize("environment", ["made by the installer", "made by the user"])
def test_continues_in_the_environment(environment: str, checkout: Path) -> None:
    script(checkout / ".venv/bin/python", ECHO)
    if environment == "made by the installer":
        (checkout / ".venv" / ".ready").touch()
    else:
        (packages,) = (checkout / ".venv").glob("lib/python*/site-packages")
        for name in virtualenv.REQUIRED:
            (packages / name).mkdir()
    # -S: a Python without installed packages
    done = run(sys.executable, "-S", "cli.py", "chat", "--prompt=a 'b'  c", "", cwd=checkout)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "<cli.py>\n<chat>\n<--prompt=a 'b'  c>\n<>\n"


def test_stays_where_packages_are_installed(checkout: Path) -> None:
    script(checkout / ".venv/bin/python", ECHO)
    (checkout / ".venv" / ".ready").touch()
    assert run(sys.executable, "cli.py", "--help", cwd=checkout).returncode == 0


def test_unfinished_environment_is_not_used(checkout: Path) -> None:
    done = run(sys.executable, "-S", "cli.py", "fit", cwd=checkout)
    assert done.returncode == 2
    assert f"`{sys.executable} cli.py doctor` says what to do" in done.stderr


def test_no_loop_where_packages_are_missing_too(checkout: Path) -> None:
    (checkout / ".venv" / ".ready").touch()
    done = run(sys.executable, "-S", "cli.py", "fit", cwd=checkout)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "`.venv/bin/python cli.py doctor` says what to do" in done.stderr


def test_broken_interpreter_is_not_used(checkout: Path) -> None:
    (checkout / ".venv" / ".ready").touch()
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").write_bytes(b"\x7fELF")
    assert run(sys.executable, "-S", "cli.py", "--help", cwd=checkout).returncode == 0


def test_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(virtualenv, "WINDOWS", True)
    monkeypatch.setattr(virtualenv, "FOLDER", tmp_path / ".venv")
    monkeypatch.setattr(virtualenv, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["cli.py", "runs"])
    monkeypatch.chdir(tmp_path)
    script(tmp_path / ".venv" / "Scripts" / "python.exe", ECHO)
    (tmp_path / ".venv" / ".ready").touch()
    with pytest.raises(SystemExit) as end:
        virtualenv.continue_in_project_environment()
    assert end.value.code == 7
    assert capfd.readouterr().out == "<cli.py>\n<runs>\n"
    assert virtualenv.activation_command(Path.cwd() / ".venv") == ".venv/Scripts/activate"
    assert virtualenv.python_of(Path(".venv")) == Path(".venv/Scripts/python.exe")
