"""The checks that need torch: the processor, its speed, and GPUs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from nanochat.doctor.check import NOTE, OK, Check, format_bytes
from nanochat.virtualenv import python_command

PROBE_SECONDS = 120
SLOW_GFLOPS = 20.0  # float32; two cores of the year 2020 reach 100


def probe_torch() -> dict[str, Any]:
    """Runs :mod:`nanochat.doctor.torch_probe`; returns its facts, empty if torch cannot be imported."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nanochat.doctor.torch_probe"],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            cwd=Path(__file__).parents[2],
        )
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return {}


def processor(facts: dict[str, Any]) -> Check:
    """The processor's vector instructions, which make training fast."""
    if not facts:
        return _unknown("processor")
    features = facts["features"]
    found = f"{', '.join(features) or 'no vector instructions known'} (torch uses {facts['capability']})"
    if facts["machine"] in ("x86_64", "AMD64") and "AVX2" not in features:
        return Check("processor", NOTE, found, "without AVX2, training is several times slower", facts)
    return Check("processor", OK, found, facts={"features": features, "capability": facts["capability"]})


def speed(facts: dict[str, Any]) -> Check:
    """The speed of matrix products, which dominate training."""
    if not facts:
        return _unknown("speed")
    single, half = facts["float32_gflops"], facts["bfloat16_gflops"]
    found = f"{single:,.0f} GFLOP/s in float32, {half:,.0f} in bfloat16 (matrix products)"
    values = {"float32_gflops": single, "bfloat16_gflops": half}
    if single < SLOW_GFLOPS:
        return Check("speed", NOTE, found, "slow: is the machine busy, on battery, or limited by a container?", values)
    return Check("speed", OK, found, facts=values)


def gpu(facts: dict[str, Any]) -> Check:
    """GPUs that torch can use, or could use if it were another build."""
    if not facts:
        return _unknown("GPU")
    driver = nvidia_driver()
    values = {"gpus": facts["gpus"], "mps": facts["mps"], "cuda_build": facts["cuda_build"], "driver": driver}
    if facts["gpus"]:
        names = ", ".join(f"{gpu['name']} ({format_bytes(gpu['free_bytes'])} free)" for gpu in facts["gpus"])
        return Check("GPU", OK, f"{names}, CUDA {facts['cuda_build']}, driver {driver or 'unknown'}", facts=values)
    if facts["mps"]:
        return Check("GPU", OK, "Apple's; --trainer.accelerator=mps trains on it", facts=values)
    if driver and not facts["cuda_build"]:
        install = f"{python_command()} -m pip install --force-reinstall torch=={facts['version'].split('+')[0]}"
        advice = f"this torch is the build for CPUs; `{install}` installs the one with CUDA"
        return Check("GPU", NOTE, f"NVIDIA's, driver {driver}, but torch cannot use it", advice, values)
    if driver:
        advice = facts["cuda_says"] or f"is driver {driver} new enough for CUDA {facts['cuda_build']}?"
        return Check("GPU", NOTE, f"NVIDIA's, driver {driver}, but torch cannot use it", advice, values)
    return Check("GPU", OK, "none; all tiers except full are made for a CPU", facts=values)


def _unknown(name: str) -> Check:
    advice = "see the packages above; if torch is fine there, this machine is too busy: try again later"
    return Check(name, NOTE, "unknown, as torch does not answer", advice)


def nvidia_driver() -> str | None:
    """The version of NVIDIA's driver; None without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None
