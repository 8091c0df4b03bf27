"""The provenance of a result: the machine, the versions of libraries, and the state of the code."""

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

GIT_TIMEOUT = 10.0  # seconds; the repository may be on a slow disk
PACKAGE = Path(__file__).resolve().parent.parent
TRACKED = ("nanochat", "configs", "cli.py")  # paths that can change a result
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
    """The versions of Python and of the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code(folder: Path = PACKAGE) -> dict[str, Any]:
    """The state of this project's code in git.

    Args:
        folder: of the package.

    Returns:
        "version" of the package; "commit", None if unknown; "dirty", whether any file that can change a result differs
        from that commit; and "reason", why the commit is unknown.
    """
    try:
        version = importlib.metadata.version("nanochat")
    except importlib.metadata.PackageNotFoundError:
        version = None
    facts = {"version": version, "commit": None, "dirty": None, "reason": None}
    try:
        # raises if the package is not tracked: an installed one may be in the folder of another project's repository
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        top = Path(_git(folder, "rev-parse", "--show-toplevel").strip())
        commit = _git(folder, "rev-parse", "HEAD").strip()
        dirty = bool(_git(top, "status", "--porcelain", "--", *(name for name in TRACKED if (top / name).exists())))
    except FileNotFoundError:
        return {**facts, "reason": "git is not installed"}
    except subprocess.TimeoutExpired:
        return {**facts, "reason": "git did not answer"}
    except subprocess.CalledProcessError as error:
        return {**facts, "reason": _reason(error.stderr or "")}
    return {**facts, "commit": commit, "dirty": dirty}


def _git(folder: Path, *arguments: str) -> str:
    # GIT_OPTIONAL_LOCKS=0: reading the status must not block a commit
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT, check=True, env=environment)
    return done.stdout


def _reason(message: str) -> str:
    """A short reason, given git's error message."""
    if "dubious ownership" in message:
        return "the folder belongs to another user, so git refuses to read it"
    if "ambiguous argument 'HEAD'" in message:
        return "the repository has no commit yet"
    return "the code is not in a git repository"
