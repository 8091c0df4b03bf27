"""The compiler, the Hugging Face hub, the terminal, git and the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from nanochat.cache import cache_root, file_sizes
from nanochat.doctor.check import NOTE, OK, PROBLEM, Check, format_bytes

HUB = "https://huggingface.co"
HUB_SECONDS = 4.0
YES = ("1", "ON", "YES", "TRUE")  # values that huggingface_hub takes for true
PRINTED = "é✓█—"  # characters that the program may print


def compiler() -> Check:
    """A C++ compiler: for torch.compile on Linux, and for fast generation on a CPU."""
    given = os.environ.get("CXX")
    path = shutil.which(given) if given else next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    facts = {"path": path, "CXX": given}
    if path is None:
        what = f"CXX={given} does not exist" if given else "no C++ compiler"
        where = {"darwin": "xcode-select --install", "win32": "none is needed"}.get(sys.platform, "install g++")
        return Check("compiler", NOTE, f"{what}: training and chatting are slower without one", where, facts)
    version = _first_line([path, "--version"])
    if version is None:
        return Check("compiler", NOTE, f"{path} does not run", "reinstall g++", facts)
    if sys.platform == "linux" and shutil.which(given or "g++") is None:
        return Check("compiler", NOTE, f"{version}, but no g++, which torch.compile uses", "set CXX", facts)
    return Check("compiler", OK, f"{version} ({path})", facts={**facts, "version": version})


def hub(seconds: float = HUB_SECONDS) -> Check:
    """Whether the Hugging Face hub answers. Training on local text does not need it."""
    address = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    facts: dict[str, object] = {"endpoint": address}
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in YES:
            return Check("hub", OK, f"not checked, as {variable} is set", facts={**facts, "offline": True})
    without = "local text can be trained on without it"
    try:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "nanochat"})
        with urllib.request.urlopen(request, timeout=seconds):
            pass
    except urllib.error.HTTPError as error:  # the server did answer
        if error.code >= 500:
            return Check("hub", NOTE, f"{address} answers {error.code}", f"try again later; {without}", facts)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = " ".join(str(getattr(reason, "strerror", None) or reason).split())[:60]
        advice = f"{without}; `download` needs a network"
        return Check("hub", NOTE, f"{address} cannot be reached ({why})", advice, {**facts, "reachable": False})
    return Check("hub", OK, f"{address} answers", facts={**facts, "reachable": True})


def terminal() -> Check:
    """Whether the terminal can show everything that is printed."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    columns = shutil.get_terminal_size((80, 24)).columns
    facts = {"encoding": encoding, "columns": columns, "is_terminal": sys.stdout.isatty()}
    found = f"{encoding}, {columns} columns" + ("" if sys.stdout.isatty() else ", written to a file")
    try:
        PRINTED.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return Check("terminal", NOTE, f"{found}: some characters cannot be shown", "set PYTHONUTF8=1", facts)
    if columns < 80:
        return Check("terminal", NOTE, found, "make it 80 columns wide, which all tables fit", facts)
    return Check("terminal", OK, found, facts=facts)


def git(folder: Path | None = None) -> Check:
    """git: a run's summary records the commit of the code."""
    folder = folder or Path(__file__).parents[2]
    version = _first_line(["git", "--version"]) if shutil.which("git") else None
    if version is None:
        return Check(
            "git", NOTE, "not installed", "without it, runs do not record the commit of the code", {"version": None}
        )
    commit = _first_line(["git", "-C", str(folder), "describe", "--always", "--dirty"])
    where = f", code at {commit}" if commit else ", not a checkout"
    return Check("git", OK, version.removeprefix("git version ") + where, facts={"version": version, "commit": commit})


def cache() -> Check:
    """Whether the cache is writable, and its size."""
    elsewhere = "set NANOCHAT_CACHE to a folder of your own"
    try:
        folder = cache_root()
    except ValueError as error:
        return Check("cache", PROBLEM, str(error).partition(":")[0], elsewhere)
    facts: dict[str, object] = {"folder": str(folder)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(b"ok")
    except OSError as error:
        return Check("cache", PROBLEM, f"{folder} is not writable ({error.strerror})", elsewhere, facts)
    size = sum(file_sizes(folder))
    facts["size_bytes"] = size
    return Check("cache", OK, f"{format_bytes(size)} in {folder} (`runs --caches` lists it)", facts=facts)


def _first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None
