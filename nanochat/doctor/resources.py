"""The machine: memory, disks, threads, what a container leaves of them."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from nanochat.cgroups import cpu_limit, memory_limit
from nanochat.doctor.check import NOTE, OK, PROBLEM, Check, Status, format_bytes

LEAST_MEMORY, GOOD_MEMORY = 1.0e9, 4.0e9  # free bytes: tiny takes 0.9 GB, the machine recommended has 4 to 8
LEAST_DISK, GOOD_DISK = 1.0e9, 10.0e9  # free bytes: a run of tiny keeps 0.2 to 0.3 GB, and the cache 0.1


def memory() -> Check:
    """What may still be taken."""
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
    if free < LEAST_MEMORY:
        return Check("memory", PROBLEM, found, "tiny takes 0.9 GB: close other programs", facts)
    if free < GOOD_MEMORY:
        return Check(
            "memory", NOTE, found, "tiny and small fit; larger ones may want a smaller --data.batch_size", facts
        )
    return Check("memory", OK, found, facts=facts)


def _memory() -> tuple[float | None, float | None]:
    """The whole and the free memory of the machine, in bytes."""
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
    """Cores of the machine without the second threads of each; None if nobody knows."""
    with suppress(ImportError):
        import psutil

        return psutil.cpu_count(logical=False)
    return None


def threads(torch_threads: int | None) -> Check:
    """How many threads torch computes with, against the cores that this process may use.

    Args:
        torch_threads: what torch says; None if it cannot be asked.
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
        return Check("threads", NOTE, found, f"they take turns: set OMP_NUM_THREADS={whole}", facts)
    if torch_threads is not None and physical and torch_threads < min(whole, physical):
        given = f" (it is {facts['OMP_NUM_THREADS']})" if facts["OMP_NUM_THREADS"] else ""
        advice = f"cores stay idle: set OMP_NUM_THREADS={min(whole, physical)}{given}"
        return Check("threads", NOTE, found, advice, facts)
    return Check("threads", OK, found, facts=facts)


def disk(name: str, folder: Path, elsewhere: str) -> Check:
    """The room below a folder, and whether it can be written to.

    Args:
        name: of the check.
        folder: where something is to be kept; it need not be there yet.
        elsewhere: how one says another folder.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))
    facts: dict[str, object] = {"folder": str(folder)}
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Check(name, PROBLEM, f"{folder}: {error.strerror}", elsewhere, facts)
    facts["free_bytes"] = free
    found = f"{format_bytes(free)} free for {folder}"
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Check(name, PROBLEM, f"{folder} cannot be written to", elsewhere, facts)
    if free < LEAST_DISK:
        return Check(name, PROBLEM, found, f"that is little: free some space, or {elsewhere}", facts)
    status: Status = OK if free >= GOOD_DISK else NOTE
    return Check(name, status, found, "" if status == OK else "`runs` and `runs --caches` list what takes it", facts)
