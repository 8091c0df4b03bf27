"""Settings of glibc's memory allocator; no effect with another C library."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>
DYNAMIC_MMAP_LIMIT = 2**25  # bytes: up to this size, glibc's dynamic threshold comes to keep freed blocks anyway
MAX_THRESHOLD = 2**30  # bytes: in effect no limit, and it fits the C int that mallopt takes


def release_freed_memory() -> None:
    """Returns freed memory to the system, which glibc would keep for later allocations."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def keep_freed_memory(block: int) -> None:
    """Keeps freed memory for later allocations, until :func:`release_freed_memory`.

    By default glibc returns large blocks to the system at once, and the free end of its heap once that exceeds twice
    the largest block so far. A training step frees all that it allocated, so the next step would request it again, and
    the system maps and clears every page anew (benchmarks/README.md, "Memory allocator").

    Args:
        block: size in bytes up to which freed blocks are kept, that of the largest block in a step. Larger blocks are
            still returned when they are freed.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, min(max(block, DYNAMIC_MMAP_LIMIT), MAX_THRESHOLD))
        libc.mallopt(M_TRIM_THRESHOLD, MAX_THRESHOLD)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
