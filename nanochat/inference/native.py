"""The forward pass in C++ (forward.cpp): compiled on the machine that runs it, kept in the cache, called by ctypes."""

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
from nanochat.model.layers import Block

SOURCE = Path(__file__).with_name("forward.cpp")
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-shared", "-fPIC")
ROW = np.dtype([("ids", np.uint64), ("cache", np.uint64), ("position", np.int32), ("length", np.int32)])
PIECE = 128  # rows read at once, so that the working memory stays small


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("query_key_value", "output", "expand", "contract")]


class _Model(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int32) for n in ("depth", "width", "heads", "kv_heads", "head_dim", "vocab_size")),
        *((n, ctypes.c_void_p) for n in ("embedding", "head", "cos", "sin", "layers")),
    ]


@cache
def load(build: bool = True) -> ctypes.CDLL | None:
    """The compiled forward pass; None where there is no C++ compiler that can make it.

    Args:
        build: whether to compile it (1 to 3 s, once a machine) if it is not in the cache.
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
        for threads in (["-fopenmp"], []):  # Apple's clang knows no OpenMP: one thread then
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
    """What -march=native depends on: a cache may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    except OSError:
        return [platform.platform(), platform.processor()]


def _compile(command: list[str], path: Path) -> bool:
    """Compiles into a file that only ever is whole; returns whether it worked."""
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
    """A model's weights as the C++ reads them, and the call. They are copied, but for the tables of embeddings.

    Args:
        library: from :func:`load`.
        gpt: a whole model on the CPU. Its weights are taken in float32.
    """

    @torch.inference_mode()
    def __init__(self, library: ctypes.CDLL, gpt: GPT) -> None:
        self.library, self.vocab_size, self.threads = library, gpt.vocab_size, torch.get_num_threads()
        self._kept: list[object] = []  # what the pointers point to
        block = library.nanochat_block()
        layers = (_Layer * gpt.shape.depth)()
        for layer, module in zip(layers, gpt.blocks, strict=True):
            assert isinstance(module, Block)
            attention = module.attention
            together = torch.cat([m.weight for m in (attention.query, attention.key, attention.value)])
            layer.query_key_value = self._packed(together, block)
            layer.output = self._packed(attention.output.weight, block)
            layer.expand = self._packed(module.mlp.expand.weight, block)
            layer.contract = self._packed(module.mlp.contract.weight, block)
        self._kept.append(layers)
        self.model = _Model(
            *(*gpt.shape, gpt.shape.head_dim, gpt.vocab_size),
            self._address(gpt.embedding.weight),
            self._packed(gpt.head.weight, block),
            *(self._address(gpt.cos), self._address(gpt.sin), ctypes.addressof(layers)),
        )
        self._memory = np.empty(0, np.float32)

    def _address(self, tensor: Tensor) -> int:
        tensor = tensor.detach().float().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _packed(self, weight: Tensor, block: int) -> int:
        """A matrix (outputs, inputs) in the order of its reading: (blocks of outputs, inputs, block)."""
        outputs, inputs = weight.shape
        blocks = -(-outputs // block)
        padded = torch.nn.functional.pad(weight.detach().float(), (0, 0, 0, blocks * block - outputs))
        return self._address(padded.view(blocks, block, inputs).mT)

    def read(self, streams: list[Stream], counts: list[int]) -> Tensor:
        """Reads the last so many tokens of each stream; returns (streams, vocab_size): what follows each one's last."""
        rows = np.zeros(sum(counts), ROW)
        if max(counts) == 1:
            rows["position"] = [stream.position - 1 for stream in streams]
        else:
            places = [np.arange(s.position - n, s.position) for s, n in zip(streams, counts, strict=True)]
            rows["position"] = np.concatenate(places)
        of_stream = np.repeat(np.arange(len(streams)), counts)
        rows["ids"] = np.array([s.ids_address for s in streams], np.uint64)[of_stream]
        rows["cache"] = np.array([s.cache_address for s in streams], np.uint64)[of_stream]
        rows["length"] = np.array([s.length for s in streams], np.int32)[of_stream]
        logits = torch.empty(len(streams), self.vocab_size)
        last = np.cumsum(counts) - 1
        for begin in range(0, len(rows), PIECE):  # in order, so that what a row looks back on has been read
            piece = rows[begin : begin + PIECE]
            here = (last >= begin) & (last < begin + PIECE)
            first = int(np.argmax(here))
            self._read(piece, (last[here] - begin).astype(np.int32), logits[first:] if here.any() else logits)
        return logits

    def _read(self, rows: np.ndarray, asked: np.ndarray, logits: Tensor) -> None:
        longest = int(rows["position"].max()) + 1
        needed = self.library.nanochat_memory(ctypes.byref(self.model), len(rows), longest, self.threads)
        if len(self._memory) < needed:
            self._memory = np.empty(int(1.5 * needed), np.float32)
        self.library.nanochat_read(
            *(ctypes.byref(self.model), ctypes.c_void_p(rows.ctypes.data), len(rows)),
            *(ctypes.c_void_p(asked.ctypes.data), len(asked), ctypes.c_void_p(logits.data_ptr())),
            *(ctypes.c_void_p(self._memory.ctypes.data), longest, self.threads),
        )
