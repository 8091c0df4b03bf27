"""glibc keeps the memory that a training step frees."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nanochat import allocator

BLOCK, BLOCKS = 2**20, 64

# Two steps, each of which allocates blocks, writes to them and frees them. Prints the page faults of the second step.
STEPS = f"""
import ctypes, resource
from nanochat.allocator import keep_freed_memory
{{before}}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def step():
    blocks = [libc.malloc({BLOCK}) for _ in range({BLOCKS})]
    for block in blocks:
        ctypes.memset(block, 1, {BLOCK})
    for block in reversed(blocks):
        libc.free(block)

step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def faults_of_second_step(before: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", STEPS.format(before=before)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(allocator._glibc() is None, reason="another C library")
def test_a_step_reuses_freed_memory() -> None:
    # a ratio, because the page size depends on the system
    assert faults_of_second_step(before="keep_freed_memory(0)") < faults_of_second_step(before="") / 4
