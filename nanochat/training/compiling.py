"""torch.compile: where it should_compile, and how a run goes on where it fails."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable

import torch
from torch._dynamo.exc import TorchDynamoException

from nanochat.cache import cache_root
from nanochat.training.console import say
from nanochat.training.language_model import LanguageModel

# On two cores with AVX-512 (torch 2.13, November 2026) compiling takes 14 s the first time and 4 s once it is in the
# cache, at any depth; steps then take 12 % less time, those of half of tiny's blocks 23 %. So within three minutes it
# costs at worst what it brings.
PAYS_FROM_MINUTES = 3.0
MOST_THREADS = 4  # that compile: each has a C++ compiler of some 300 MB at work
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def should_compile(accelerator: str, minutes: float | None) -> bool:
    """Whether to compile a model, if nobody says so.

    Args:
        accelerator: "cpu", "cuda", ...
        minutes: that the run is to take; None if nobody knows.
    """
    long = accelerator != "cpu" or (minutes is not None and minutes >= PAYS_FROM_MINUTES)
    return long and can_compile(accelerator)


def can_compile(accelerator: str) -> bool:
    """Whether torch finds a compiler: Triton, which it brings along for NVIDIA GPUs, or the system's own for C++.

    Elsewhere than on Linux it may find one as well, but needs more than that.
    """
    if sys.platform != "linux" or accelerator not in ("cpu", "cuda", "gpu"):
        return False
    return accelerator != "cpu" or shutil.which(os.environ.get("CXX", "g++")) is not None


def compile_model(module: LanguageModel, micro_step: Callable[[], object]) -> None:
    """Compiles the model by training a first micro-step; where that fails, the model goes on uncompiled.

    torch keeps what it has compiled. Its own place for that, below /tmp, does not last: the project's cache does.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE_VARIABLE) in (None, default_cache_dir()):  # importing torch has already set it
        os.environ[CACHE_VARIABLE] = str(cache_root() / "compiled")
    if module.device.type == "cpu":
        _speed_up_compilation()
    say("Compiling the model: that takes a while the first time, and is kept for later runs.")
    try:
        micro_step()
        gc.collect()  # compiling leaves much behind that refers to itself
    except TorchDynamoException as error:
        why = str(error).strip().splitlines()[0]
        say(f"It could not be compiled, and runs as it is (--model.compile=false does not try): {why}")
        module.gpt.compiled_block = None
        module.hparams["compile"] = False


def _speed_up_compilation() -> None:
    """Takes from the first compilation on a CPU what it need not do, and spreads the rest over the cores.

    With one thread, torch lets the C++ compiler work on one kernel after the other; with more, it also starts processes
    for kernels of another kind, which there are none of here. And with three programs it tries whether vectors work
    that the processor says it has.
    """
    from torch._inductor import config  # takes a while: only who compiles waits for it

    os.environ.setdefault("TORCH_WARM_POOL", "0")
    config.compile_threads = min(MOST_THREADS, torch.get_num_threads())
    config.cpp.vec_isa_ok = True
