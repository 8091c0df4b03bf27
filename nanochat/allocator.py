"""The C library's memory allocator."""

from __future__ import annotations

import ctypes
import sys


def return_memory() -> None:
    """Gives what has been freed back to the system: glibc would keep it, 140 MB after counting 10M tokens."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
