"""torch.compile: when it is worth its time, and how to continue without it if it fails."""

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

MIN_MINUTES = 3.0  # shortest run on a CPU that gains from compiling (benchmarks/README.md, "Compilation")
MAX_THREADS = 4  # that compile at the same time, each with a C++ compiler process of some 300 MB
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def should_compile(accelerator: str, minutes: float | None) -> bool:
    """Whether to compile a model where the user has not decided.

    Args:
        accelerator: "cpu", "cuda", ...
        minutes: planned duration of the run; None if unknown.
    """
    is_long = accelerator != "cpu" or (minutes is not None and minutes >= MIN_MINUTES)
    return is_long and can_compile(accelerator)


def can_compile(accelerator: str) -> bool:
    """Whether torch has a compiler: Triton, which is part of torch for NVIDIA GPUs, or a C++ compiler for a CPU.

    On other systems than Linux a C++ compiler alone may not be enough, so the result is False.
    """
    if sys.platform != "linux" or accelerator not in ("cpu", "cuda", "gpu"):
        return False
    return accelerator != "cpu" or shutil.which(os.environ.get("CXX", "g++")) is not None


def compile_model(module: LanguageModel, micro_step: Callable[[], object]) -> None:
    """Compiles the model by running a first micro-step; if that fails, the model stays uncompiled.

    The compiled code goes to this project's cache: torch's default folder is below /tmp and does not last.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(CACHE_VARIABLE) in (None, default_cache_dir()):  # importing torch has set the default
        os.environ[CACHE_VARIABLE] = str(cache_root() / "compiled")
    if module.device.type == "cpu":
        _speed_up_compilation()
    say("Compiling the model, which takes a while the first time; later runs use the cache.")
    try:
        micro_step()
        gc.collect()  # compiling leaves reference cycles that hold much memory
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        say(f"It could not be compiled and runs uncompiled (--model.compile=false skips the attempt): {reason}")
        module.gpt.compiled_block = None
        module.hparams["compile"] = False


def _speed_up_compilation() -> None:
    """Skips unneeded work of the first compilation on a CPU, and distributes the rest over the cores.

    With one thread, torch runs the C++ compiler for one kernel after the other. With several, it also starts worker
    processes for Triton kernels, which a CPU does not use. And it compiles three programs to test the vector
    instructions that the processor reports.
    """
    from torch._inductor import config  # takes a while to import

    os.environ.setdefault("TORCH_WARM_POOL", "0")
    config.compile_threads = min(MAX_THREADS, torch.get_num_threads())
    config.cpp.vec_isa_ok = True
