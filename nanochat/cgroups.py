"""What a container or a cluster's job leaves of a machine: the limits of Linux's control groups, versions 1 and 2.

A process is in a group, and that in others; each may have a limit, and the least of them holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNLIMITED = 2**60  # version 1 writes a number above it where there is no limit


def memory_limit(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> tuple[int, int] | None:
    """The limit, and what is left of it, in bytes; None where there is no limit.

    Files that were read and are kept in memory count as used, but give way: those not lately in use count as left here.
    """
    limits = []
    for folder in _groups("memory", cgroups, membership):
        for names in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with suppress(OSError, ValueError):  # "max" where there is no limit
                limit, used = (int((folder / name).read_text()) for name in names)
                if limit < UNLIMITED:
                    limits.append((limit, min(limit, max(0, limit - used + _kept_files(folder)))))
    return min(limits, key=lambda each: each[1]) if limits else None


def cores_limit(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """How many cores' time may be taken; None where there is no limit."""
    limits = []
    for folder in _groups("cpu", cgroups, membership):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()[:2]
            limits.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
            if int(quota) > 0:
                limits.append(int(quota) / int(period))
    return min(limits, default=None)


def _groups(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's group and of all around it. Some may not be there, as within a container."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system than Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)  # "4:memory:/docker/1f", or "0::/docker/1f" of version 2
        if controllers and controller not in controllers.split(","):
            continue
        for top in (cgroups / controllers, cgroups / controller) if controllers else (cgroups, cgroups / "unified"):
            folder = top / path.lstrip("/")
            yield from (folder, *(above for above in folder.parents if above.is_relative_to(top)))


def _kept_files(folder: Path) -> int:
    """Bytes of files in memory that the system gives up first where it is short of room."""
    names = ("inactive_file", "total_inactive_file")  # version 1 has both: of the group alone, and with those within
    with suppress(OSError, ValueError):
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max((int(value) for name, value in lines if name in names), default=0)
    return 0
