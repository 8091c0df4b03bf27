"""The C library's memory allocator, where it is glibc's."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>
USUAL_BLOCK = 2**25  # bytes: up to so many, glibc comes to keep blocks by itself
MOST = 2**30  # bytes: as good as no limit, and what it takes as one, an int of C, holds it


def return_memory() -> None:
    """Gives what has been freed back to the system: glibc would keep it, 140 MB after counting 10M tokens."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def keep_memory(block: int) -> None:
    """From now on keeps what is freed, for what is asked for next, until :func:`return_memory`.

    By itself glibc gives the system back what lies free at the end of its memory once that is more than twice the
    largest block so far, and large blocks at once. A step of training frees all that it took, so the next one would
    ask for it again, and each page has to be mapped and cleared anew: up to 12,000 of them in a step of tiny, 50,000 a
    second in medium. benchmarks/README.md has what it takes.

    Args:
        block: bytes that a step may ask for at once. Larger blocks, such as counting asks for, are still given back as
            soon as they are freed: to keep them, too, took tiny 50 MB at its peak.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(M_MMAP_THRESHOLD, min(max(block, USUAL_BLOCK), MOST))
        libc.mallopt(M_TRIM_THRESHOLD, MOST)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
