"""The machine: devices, precision, peak speed, memory."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from pathlib import Path

import psutil
import torch

from nanochat.cgroups import memory_limit
from nanochat.training.gpu_peaks import rated_flops
from nanochat.wording import plural

MEASURE_SECONDS = 0.3


def usable_device(name: str) -> torch.device:
    """The device with that name, such as "cpu" or "cuda:1".

    Raises:
        ValueError: if torch cannot use it.
    """
    try:
        tried = torch.zeros(1, device=name)
        tried.item()  # fails on "meta"
    except Exception as error:  # torch raises many types, also for devices that it was built without
        raise ValueError(f"there is no device {name} here that torch can use; cpu always works") from error
    return tried.device


def default_accelerator() -> str:
    """ "cuda" if there is an NVIDIA GPU, else "cpu". MPS is used only if the user chooses it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_precision(accelerator: str) -> str:
    """The fastest precision that trains reliably: bfloat16 if the hardware multiplies it natively, else float32."""
    if accelerator in ("cuda", "gpu"):
        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu":
        fast = cpu_multiplies_bf16()
    else:
        fast = False
    return "bf16-mixed" if fast else "32-true"


def cpu_multiplies_bf16() -> bool:
    """Whether the processor has AVX512-BF16 or AMX instructions; without them bfloat16 is emulated and slow."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private functions, since torch 2.5
    return platform.machine() in ("x86_64", "AMD64") and any(
        getattr(torch.cpu, check, lambda: False)() for check in checks
    )


def matmul_dtype(precision: str) -> torch.dtype:
    """The dtype of matrix products, given the precision of the Trainer."""
    return {"bf16": torch.bfloat16, "16": torch.float16}.get(precision.split("-")[0], torch.float32)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Peak FLOP/s of one device, the reference for MFU; None if unknown.

    For a GPU it is the figure of its data sheet. The data sheets of CPUs have no sustained rate, so a large matrix
    product is timed here.
    """
    if device.type == "cuda":
        return rated_flops(torch.cuda.get_device_name(device), dtype)
    if device.type != "cpu":
        return None
    size = 1024
    a, b = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    best = 0.0
    deadline = time.perf_counter() + MEASURE_SECONDS
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still allocate on the device.

    On a CPU it is the least of the free memory and what is left of a container's limit and of ``ulimit``.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [psutil.virtual_memory().available]
    if (container := memory_limit()) is not None:
        limits.append(container[1])
    if sys.platform != "win32":
        import resource

        process = psutil.Process().memory_info()
        for kind, used in ((resource.RLIMIT_AS, process.vms), (resource.RLIMIT_DATA, process.rss)):
            soft, _ = resource.getrlimit(kind)
            if soft != resource.RLIM_INFINITY:
                limits.append(soft - used)
    return max(0, min(limits))


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe_device(device: torch.device) -> str:
    """The device as a text, for the plan and the summary."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU ({plural(threads, 'thread')} of {os.cpu_count()})"
    return device.type.upper()


def processor_name() -> str:
    """The name of the processor, or its architecture if the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished its queue, before a time is measured."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
