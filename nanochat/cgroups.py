"""Memory and CPU limits of containers and cluster jobs, read from Linux control groups (cgroups), versions 1 and 2.

Groups are nested, and each level may have a limit: the smallest limit of all levels applies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNLIMITED = 2**60  # version 1 writes a larger number where there is no limit


def memory_limit(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> tuple[int, int] | None:
    """The memory limit and the memory still available under it, in bytes; None without a limit.

    The kernel counts cached files as used memory but drops them when memory is needed; the inactive ones are counted
    as available here.
    """
    limits = []
    for folder in _groups("memory", cgroups, membership):
        for names in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with suppress(OSError, ValueError):  # "max" where there is no limit
                limit, used = (int((folder / name).read_text()) for name in names)
                if limit < UNLIMITED:
                    limits.append((limit, min(limit, max(0, limit - used + _reclaimable_cache(folder)))))
    return min(limits, key=lambda limit: limit[1]) if limits else None


def cpu_limit(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """The CPU limit in cores (CPU seconds per second); None without a limit."""
    limits = []
    for folder in _groups("cpu", cgroups, membership):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()[:2]
            limits.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:
                limits.append(int(quota) / int(period))
    return min(limits, default=None)


def _groups(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's group and of all groups that contain it; in a container, some may not exist."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)  # "4:memory:/docker/1f" in version 1, "0::/docker/1f" in version 2
        if controllers and controller not in controllers.split(","):
            continue
        for root in (cgroups / controllers, cgroups / controller) if controllers else (cgroups, cgroups / "unified"):
            folder = root / path.lstrip("/")
            yield from (folder, *(parent for parent in folder.parents if parent.is_relative_to(root)))


def _reclaimable_cache(folder: Path) -> int:
    """Bytes of the inactive file cache, which the kernel reclaims first."""
    names = ("inactive_file", "total_inactive_file")  # version 1: of this group alone, and with its subgroups
    with suppress(OSError, ValueError):
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max((int(value) for name, value in lines if name in names), default=0)
    return 0
