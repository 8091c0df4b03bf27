"""Where a result comes from: the machine, and the state of the code."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch

from nanochat.training.hardware import processor_name

PATIENCE = 10.0  # seconds for git, which may sit on a slow disk
PACKAGE = Path(__file__).resolve().parent.parent
TRACKED = ("nanochat", "configs", "cli.py")  # what can change a result
LIBRARIES = ("torch", "lightning", "numpy", "tiktoken")


def machine() -> dict[str, Any]:
    """Processor, cores, memory in bytes, system, and the GPUs by name."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "gpus": gpus,
    }


def versions() -> dict[str, str]:
    """Of Python and of the libraries that the results depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code(folder: Path = PACKAGE) -> dict[str, Any]:
    """The state of this project's code, as git knows it.

    Args:
        folder: of the package.

    Returns:
        "version" of the package; "commit", or None where git does not know; "dirty", whether anything that can change a
        result differs from that commit; and "reason", why git does not know.
    """
    try:
        version = importlib.metadata.version("nanochat")
    except importlib.metadata.PackageNotFoundError:
        version = None
    facts = {"version": version, "commit": None, "dirty": None, "reason": None}
    try:
        # a package that was installed may lie within the folder of another project, whose commits say nothing of it
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        top = Path(_git(folder, "rev-parse", "--show-toplevel").strip())
        commit = _git(folder, "rev-parse", "HEAD").strip()
        dirty = bool(_git(top, "status", "--porcelain", "--", *(name for name in TRACKED if (top / name).exists())))
    except FileNotFoundError:
        return {**facts, "reason": "git is not installed"}
    except subprocess.TimeoutExpired:
        return {**facts, "reason": "git did not answer"}
    except subprocess.CalledProcessError as error:
        return {**facts, "reason": _why(error.stderr or "")}
    return {**facts, "commit": commit, "dirty": dirty}


def _git(folder: Path, *words: str) -> str:
    # GIT_OPTIONAL_LOCKS: a look at the state must not get into the way of a commit
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment)
    return done.stdout


def _why(message: str) -> str:
    if "dubious ownership" in message:
        return "the folder belongs to another user, so git does not look into it"
    if "ambiguous argument 'HEAD'" in message:
        return "git has no commit yet"
    return "the code is in no git repository"
