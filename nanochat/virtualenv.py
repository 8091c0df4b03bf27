"""The project's virtual environment, and how its programs are called from the user's shell.

``cli.py`` imports this module before anything else, with any Python that the user starts it with. So it imports the
standard library alone, and runs on Python versions that the project itself no longer supports.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

WINDOWS = sys.platform == "win32"
PROJECT = Path(__file__).absolute().parents[1]  # the folder of cli.py, in a checkout
FOLDER = PROJECT / ".venv"
READY = ".ready"  # the file that scripts/install.py creates in the environment after everything else
# If these are installed, so are the others: few machines have rustbpe for another reason.
REQUIRED = ("torch", "lightning", "jsonargparse", "rustbpe")
CONTINUED = "NANOCHAT_CONTINUED"  # set in the process that continues a command, so that it does not start another


def python_of(environment: Path) -> Path:
    """The path of an environment's interpreter."""
    return environment / ("Scripts/python.exe" if WINDOWS else "bin/python")


def is_ready(environment: Path) -> bool:
    """Whether an environment has an interpreter and the packages that the project needs."""
    if not python_of(environment).is_file():
        return False
    if (environment / READY).is_file():
        return True
    folders = [*environment.glob("lib/python*/site-packages"), environment / "Lib" / "site-packages"]
    return any(all((folder / name).exists() for name in REQUIRED) for folder in folders)  # one the user made


def is_current(environment: Path) -> bool:
    """Whether this process runs in the environment."""
    try:
        return environment.samefile(sys.prefix)
    except OSError:
        return False


def continue_in_project_environment() -> None:
    """Continues the command in the project's environment if this Python lacks the packages, as the system's does.

    Returns only if there is nothing to continue: the packages are installed, or there is no environment that has them.
    """
    if os.environ.pop(CONTINUED, None) or all(map(find_spec, REQUIRED)) or not is_ready(FOLDER):
        return
    command = [str(python_of(FOLDER)), *sys.argv]
    variables = {**os.environ, CONTINUED: "1"}
    with suppress(OSError):  # an interpreter that does not start: `doctor` tells what to do
        if not WINDOWS:
            os.execve(command[0], command, variables)
        sys.exit(_wait(subprocess.Popen(command, env=variables)))


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Waits for the process, which handles Ctrl-C itself; returns its exit status."""
    while True:
        with suppress(KeyboardInterrupt):
            return process.wait()


def python_command() -> str:
    """The command that starts this interpreter in the user's shell: "python" if PATH leads to it, else its path."""
    this = Path(sys.executable)
    for name in ("python", "python3"):
        if _leads_into(name, this.parent) and this.samefile(this.with_name(f"{name}.exe" if WINDOWS else name)):
            return name
    return _program(this)


def tool_command(name: str, module: str) -> str:
    """The command that starts a program installed beside this interpreter, such as "tensorboard".

    Args:
        name: of the program.
        module: that ``python -m`` starts in its place where it has no file.
    """
    path = Path(sysconfig.get_path("scripts"), f"{name}.exe" if WINDOWS else name)
    if _leads_into(name, path.parent):
        return name
    return _program(path) if path.is_file() else f"{python_command()} -m {module}"


def activation_command(environment: Path) -> str:
    """The command that activates an environment in the user's shell."""
    if WINDOWS:
        return _program(environment / "Scripts" / "activate")
    endings = {"fish": ".fish", "csh": ".csh", "tcsh": ".csh"}
    ending = endings.get(os.path.basename(os.environ.get("SHELL", "")), "")
    return "source " + shell_path(environment / "bin" / f"activate{ending}")


def shell_path(path: Path) -> str:
    """A path as one types it: relative to the current folder if it lies below that, and quoted if it has to be."""
    with suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return subprocess.list2cmdline([str(path)]) if WINDOWS else shlex.quote(str(path))


def _program(path: Path) -> str:
    """A program's path as one types it; a shell looks for a bare name in PATH, so "./" precedes that."""
    typed = shell_path(path)
    return typed if os.sep in typed else f"{os.curdir}{os.sep}{typed}"


def _leads_into(name: str, folder: Path) -> bool:
    """Whether PATH finds a program in a folder. Links to files are not followed: environments share one Python."""
    found = shutil.which(name)
    try:
        return found is not None and Path(found).parent.samefile(folder)
    except OSError:
        return False
