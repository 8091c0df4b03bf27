"""Memory, disk space and threads, within the limits of a container."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from nanochat.cgroups import cpu_limit, memory_limit
from nanochat.doctor.check import NOTE, OK, PROBLEM, Check, Status, format_bytes

MIN_MEMORY, GOOD_MEMORY = 1.0e9, 4.0e9  # free bytes: tiny takes 0.9 GB; 4 to 8 GB are recommended
MIN_DISK, GOOD_DISK = 1.0e9, 10.0e9  # free bytes: a run of tiny takes 0.2 to 0.3 GB, and the cache 0.1 GB


def memory() -> Check:
    """The free memory."""
    total, free = _memory()
    limit = memory_limit()
    if limit is not None:
        total, free = (min(part, of) if part is not None else of for part, of in zip((total, free), limit, strict=True))
    if free is None:
        return Check("memory", NOTE, "cannot be measured here", "install psutil")
    facts = {"free_bytes": int(free), "total_bytes": int(total or 0), "cgroup": limit is not None}
    found = (
        f"{format_bytes(free)} free"
        + (f" of {format_bytes(total)}" if total else "")
        + (" (container)" if limit else "")
    )
    if free < MIN_MEMORY:
        return Check("memory", PROBLEM, found, "tiny takes 0.9 GB: close other programs", facts)
    if free < GOOD_MEMORY:
        return Check(
            "memory", NOTE, found, "enough for tiny and small; larger tiers may need a smaller --data.batch_size", facts
        )
    return Check("memory", OK, found, facts=facts)


def _memory() -> tuple[float | None, float | None]:
    """The total and the available memory of the machine, in bytes; None if unknown."""
    with suppress(ImportError):
        import psutil

        values = psutil.virtual_memory()
        return float(values.total), float(values.available)
    with suppress(OSError, ValueError, KeyError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (float(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        return total, free
    return None, None


def physical_cores() -> int | None:
    """The number of physical cores, without hyper-threads; None if unknown."""
    with suppress(ImportError):
        import psutil

        return psutil.cpu_count(logical=False)
    return None


def threads(torch_threads: int | None) -> Check:
    """The number of torch's threads, compared with the cores that this process may use.

    Args:
        torch_threads: ``torch.get_num_threads()``; None if torch cannot be imported.
    """
    logical = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    quota, physical = cpu_limit(), physical_cores()
    usable = min(allowed, quota) if quota else allowed
    facts = {
        "torch_threads": torch_threads,
        "physical_cores": physical,
        "logical_cores": logical,
        "allowed_cores": allowed,
        "cgroup_cores": quota,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }
    cores = f"{physical} cores" if physical else f"{logical} processors"
    found = f"{'unknown' if torch_threads is None else torch_threads} thread{'s' * (torch_threads != 1)} on {cores}"
    if usable < logical:
        found += f", {usable:g} of {logical} processors allowed"
    whole = max(1, int(usable))
    if torch_threads is not None and torch_threads > usable:
        return Check("threads", NOTE, found, f"more threads than cores: set OMP_NUM_THREADS={whole}", facts)
    if torch_threads is not None and physical and torch_threads < min(whole, physical):
        given = f" (now {facts['OMP_NUM_THREADS']})" if facts["OMP_NUM_THREADS"] else ""
        advice = f"some cores are idle: set OMP_NUM_THREADS={min(whole, physical)}{given}"
        return Check("threads", NOTE, found, advice, facts)
    return Check("threads", OK, found, facts=facts)


def disk(name: str, folder: Path, elsewhere: str) -> Check:
    """The free space of a folder's disk, and whether the folder is writable.

    Args:
        name: of the check.
        folder: it need not exist yet.
        elsewhere: the advice that tells how to choose another folder.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))
    facts: dict[str, object] = {"folder": str(folder)}
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Check(name, PROBLEM, f"{folder}: {error.strerror}", elsewhere, facts)
    facts["free_bytes"] = free
    found = f"{format_bytes(free)} free for {folder}"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Check(name, PROBLEM, f"{folder} is not writable", elsewhere, facts)
    if free < MIN_DISK:
        return Check(name, PROBLEM, found, f"too little: free some space, or {elsewhere}", facts)
    status: Status = OK if free >= GOOD_DISK else NOTE
    return Check(name, status, found, "" if status == OK else "`runs` and `runs --caches` list what takes space", facts)
