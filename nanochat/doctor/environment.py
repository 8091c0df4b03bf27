"""The virtual environment: whether the project has one, whether it is used, and how to use or create it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from nanochat.doctor.check import NOTE, OK, Check
from nanochat.virtualenv import (
    FOLDER,
    PROJECT,
    activation_command,
    is_current,
    is_ready,
    python_command,
    python_of,
    shell_path,
)


def environment() -> Check:
    """The environment that this Python belongs to, and the project's own if that is another one."""
    facts = {"prefix": sys.prefix, "project": str(FOLDER), "is_current": is_current(FOLDER)}
    name = shell_path(FOLDER)
    if not is_current(FOLDER):
        if is_ready(FOLDER):
            found = f"{name} is ready but not used: this is {sys.executable}"
            return Check("environment", NOTE, found, _how_to_use(), facts)
        return Check("environment", OK, sys.prefix if is_virtual() else f"none: this is {sys.executable}", facts=facts)
    if os.sep not in python_command():
        return Check("environment", OK, f"{name}, active", facts=facts)
    advice = f"`{activation_command(FOLDER)}` makes `python` and `tensorboard` those of this environment"
    return Check("environment", OK, f"{name}, not active in this shell", advice, facts)


def is_virtual() -> bool:
    """Whether this Python has an environment of its own, made by venv or conda, to install packages into."""
    return sys.prefix != sys.base_prefix or os.environ.get("CONDA_PREFIX") == sys.prefix


def installation_advice() -> str:
    """How to come by an environment with all packages."""
    if is_ready(FOLDER) and not is_current(FOLDER):
        return _how_to_use()
    if not (PROJECT / "pyproject.toml").is_file():  # installed without its folder
        return f"{python_command()} -m pip install -e . -c constraints.txt (in the project's folder)"
    is_here = Path.cwd() == PROJECT
    if is_virtual() and not is_current(FOLDER):
        project = "." if is_here else shell_path(PROJECT)
        return f"{python_command()} -m pip install -e {project} -c {shell_path(PROJECT / 'constraints.txt')}"
    if shutil.which("make"):
        targets = "clean setup" if FOLDER.exists() else "setup"
        return f"make {targets}" if is_here else f"make -C {shell_path(PROJECT)} {targets}"
    base = "python3" if is_current(FOLDER) else python_command()
    return f"{base} {shell_path(PROJECT / 'scripts' / 'install.py')} {shell_path(FOLDER)}"


def _how_to_use() -> str:
    """How to use the project's environment in place of this Python."""
    python, program = shell_path(python_of(FOLDER)), shell_path(PROJECT / "cli.py")
    return f"activate it with `{activation_command(FOLDER)}`, or run `{python} {program}`"
