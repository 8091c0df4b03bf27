"""Collects facts from torch in a process of its own, as importing a broken torch may end the process.

Run as ``python -m nanochat.doctor.torch_probe``, it prints one line of JSON.
"""

from __future__ import annotations

import json
import platform
import time
import warnings
from pathlib import Path
from typing import Any

SIZE = 1024  # rows and columns of the multiplied matrices
SECONDS = 0.4  # for each dtype
FLAGS = {  # names of Linux
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "bf16": ("avx512_bf16", "bf16"),
    "AMX": ("amx_bf16", "amx_tile"),
}


def gflops(dtype: Any) -> float:
    """The GFLOP/s of a matrix product, the best one of those that fit into the time."""
    import torch

    a, b = torch.ones(SIZE, SIZE, dtype=dtype), torch.ones(SIZE, SIZE, dtype=dtype)
    best, deadline = 0.0, time.perf_counter() + SECONDS
    while True:
        start = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * SIZE**3 / (time.perf_counter() - start) / 1e9)
        if time.perf_counter() > deadline:
            return round(best, 1)


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The processor's features according to Linux; empty on other systems."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()}


def features() -> list[str]:
    """The features of :data:`FLAGS` that torch or Linux reports."""
    import torch

    flags = processor_flags()
    found = [name for name, of in FLAGS.items() if flags.intersection(of)]
    asked = {"AVX2": "_is_avx2_supported", "AVX-512": "_is_avx512_supported", "bf16": "_is_avx512_bf16_supported"}
    asked["AMX"] = "_is_amx_tile_supported"
    for name, question in asked.items():
        if name not in found and getattr(torch.cpu, question, lambda: False)():
            found.append(name)
    return [name for name in FLAGS if name in found]


def facts() -> dict[str, Any]:
    """The machine as torch reports it."""
    import torch

    found: dict[str, Any] = {
        "version": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "features": features(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "float32_gflops": gflops(torch.float32),
        "bfloat16_gflops": gflops(torch.bfloat16),
        "cuda_build": torch.version.cuda,
        "mps": torch.backends.mps.is_available(),
    }
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found["gpus"] = [_gpu(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    found["cuda_says"] = " ".join(str(said[0].message).split())[:200] if said else ""
    return found


def _gpu(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    return {"name": properties.name, "free_bytes": free, "total_bytes": total}


if __name__ == "__main__":
    print(json.dumps(facts()))
