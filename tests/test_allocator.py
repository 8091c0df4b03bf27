"""What the C library does with memory that was freed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nanochat import allocator

BLOCK, BLOCKS = 2**20, 64

# A step that takes a lot and frees all of it, twice; how many pages the second one had to be given.
STEPS = f"""
import ctypes, resource
from nanochat.allocator import keep_memory
{{before}}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def step():
    taken = [libc.malloc({BLOCK}) for _ in range({BLOCKS})]
    for block in taken:
        ctypes.memset(block, 1, {BLOCK})
    for block in reversed(taken):
        libc.free(block)

step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def faults_of_a_second_step(before: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", STEPS.format(before=before)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(allocator._glibc() is None, reason="another C library")
def test_a_step_takes_what_the_one_before_has_freed() -> None:
    # how large a page is, is the system's affair
    assert faults_of_a_second_step(before="keep_memory(0)") < faults_of_a_second_step(before="") / 4
