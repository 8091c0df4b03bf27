"""The C++ forward pass (forward.cpp): compiled on the user's machine, kept in the cache, called through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nanochat.cache import cache_root
from nanochat.inference.stream import Stream
from nanochat.model import GPT

SOURCE = Path(__file__).with_name("forward.cpp")
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-shared", "-fPIC")
ROW = np.dtype([("ids", np.uint64), ("cache", np.uint64), ("position", np.int32), ("length", np.int32)])
MAX_ROWS = 128  # read in one call, so that the working memory stays small


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("c_qkv", "c_proj", "mlp_c_fc", "mlp_c_proj")]


class _Model(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int32) for n in ("n_layer", "n_embd", "n_head", "n_kv_head", "head_dim", "vocab_size")),
        *((n, ctypes.c_void_p) for n in ("wte", "lm_head", "cos", "sin", "layers")),
    ]


@cache
def load(build: bool = True) -> ctypes.CDLL | None:
    """The compiled library; None if no C++ compiler on this machine can build it.

    Args:
        build: whether to compile it (1 to 3 s, once per machine) if it is not in the cache.
    """
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if sys.platform == "win32" or compiler is None:
        return None
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    facts = [SOURCE.read_text(encoding="utf-8"), compiler, *FLAGS, native, *_processor()]
    path = cache_root() / "native" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.so"
    if not path.exists():
        if not build:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        for threads in (["-fopenmp"], []):  # Apple's clang lacks OpenMP: one thread then
            if _compile([compiler, *FLAGS, native, *threads, str(SOURCE)], path):
                break
        else:
            return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    library.nanochat_memory.restype = ctypes.c_int64
    return library


def _processor() -> list[str]:
    """The processor's model and features, on which -march=native depends: machines may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    except OSError:
        return [platform.platform(), platform.processor()]


def _compile(command: list[str], path: Path) -> bool:
    """Compiles into a temporary file and renames it, so that the target is never incomplete; returns success."""
    handle, name = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    work = Path(name)
    try:
        done = subprocess.run([*command, "-o", name], capture_output=True, check=False)
        if done.returncode == 0:
            work.replace(path)
        return done.returncode == 0
    except OSError:
        return False
    finally:
        work.unlink(missing_ok=True)


class NativeForward:
    """Calls the C++ forward pass. Matrices are copied into the layout that it reads; the embedding is shared.

    Args:
        library: from :func:`load`.
        gpt: a whole model on the CPU. Its weights are converted to float32.
    """

    @torch.inference_mode()
    def __init__(self, library: ctypes.CDLL, gpt: GPT) -> None:
        self.library, self.vocab_size, self.threads = library, gpt.vocab_size, torch.get_num_threads()
        self._kept: list[object] = []  # owns the memory that the structs point to
        block = library.nanochat_block()
        layers = (_Layer * gpt.config.n_layer)()
        for layer, module in zip(layers, gpt.blocks, strict=True):
            attn, mlp = module.attn, module.mlp
            layer.c_qkv = self._packed(torch.cat([attn.c_q.weight, attn.c_k.weight, attn.c_v.weight]), block)
            layer.c_proj = self._packed(attn.c_proj.weight, block)
            layer.mlp_c_fc = self._packed(mlp.c_fc.weight, block)
            layer.mlp_c_proj = self._packed(mlp.c_proj.weight, block)
        self._kept.append(layers)
        config = gpt.config
        self.model = _Model(
            n_layer=config.n_layer,
            n_embd=config.n_embd,
            n_head=config.n_head,
            n_kv_head=config.n_kv_head,
            head_dim=config.head_dim,
            vocab_size=config.vocab_size,
            wte=self._address(gpt.wte.weight),
            lm_head=self._packed(gpt.lm_head.weight, block),
            cos=self._address(gpt.cos),
            sin=self._address(gpt.sin),
            layers=ctypes.addressof(layers),
        )
        self._memory = np.empty(0, np.float32)

    def _address(self, tensor: Tensor) -> int:
        tensor = tensor.detach().float().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _packed(self, weight: Tensor, block: int) -> int:
        """A matrix (outputs, inputs) in the order in which it is read: (blocks of outputs, inputs, block)."""
        outputs, inputs = weight.shape
        blocks = -(-outputs // block)
        padded = torch.nn.functional.pad(weight.detach().float(), (0, 0, 0, blocks * block - outputs))
        return self._address(padded.view(blocks, block, inputs).mT)

    def read(self, streams: list[Stream], counts: list[int]) -> Tensor:
        """Reads each stream's last ``counts[i]`` tokens.

        Args:
            streams: with their new tokens.
            counts: number of new tokens of each.

        Returns:
            The logits after each stream's last token, (streams, vocab_size), float32.
        """
        rows = np.zeros(sum(counts), ROW)
        if max(counts) == 1:
            rows["position"] = [stream.position - 1 for stream in streams]
        else:
            spans = [np.arange(s.position - n, s.position) for s, n in zip(streams, counts, strict=True)]
            rows["position"] = np.concatenate(spans)
        owner = np.repeat(np.arange(len(streams)), counts)  # each row's stream
        rows["ids"] = np.array([s.ids_address for s in streams], np.uint64)[owner]
        rows["cache"] = np.array([s.cache_address for s in streams], np.uint64)[owner]
        rows["length"] = np.array([s.length for s in streams], np.int32)[owner]
        logits = torch.empty(len(streams), self.vocab_size)
        last = np.cumsum(counts) - 1
        for begin in range(0, len(rows), MAX_ROWS):  # in order: a row attends to the rows before it
            here = (last >= begin) & (last < begin + MAX_ROWS)
            first = int(np.argmax(here))
            indices = (last[here] - begin).astype(np.int32)
            self._read(rows[begin : begin + MAX_ROWS], indices, logits[first:] if here.any() else logits)
        return logits

    def _read(self, rows: np.ndarray, indices: np.ndarray, logits: Tensor) -> None:
        """One call: reads rows, and writes the logits of those at the indices into the first rows of ``logits``."""
        longest = int(rows["position"].max()) + 1
        needed = self.library.nanochat_memory(ctypes.byref(self.model), len(rows), longest, self.threads)
        if len(self._memory) < needed:
            self._memory = np.empty(int(1.5 * needed), np.float32)
        self.library.nanochat_read(
            ctypes.byref(self.model),
            ctypes.c_void_p(rows.ctypes.data),
            len(rows),
            ctypes.c_void_p(indices.ctypes.data),
            len(indices),
            ctypes.c_void_p(logits.data_ptr()),
            ctypes.c_void_p(self._memory.ctypes.data),
            longest,
            self.threads,
        )
