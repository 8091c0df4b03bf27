"""A GPU never waits within a step: training on a device without numbers, which notes who wants to know one.

The device is torch's "meta": its tensors have shapes and dtypes alone. Where on a GPU the processor would wait for a
number, or a number for its way to the GPU, this one notes it and answers with zero.
"""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nanochat.model import GPT
from nanochat.training.budget import plan
from nanochat.training.budget.timing import StepTimes
from nanochat.training.callbacks import progress
from nanochat.training.language_model import LanguageModel
from tests.cli.tools import tiny_options, train

aten = torch.ops.aten
STEPS, LOGGED = 6, 3  # steps of the run, and log_every_n_steps: only a step that is logged may wait


class Device(TorchDispatchMode):
    """Notes in which step what was asked of it, or given to it in a way that takes waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.step: int | None = None  # in which it is
        self.waits: list[tuple[int | None, str]] = []

    def note(self, operation: Any) -> None:
        stack = [f for f in traceback.extract_stack() if "/nanochat/" in f.filename or "/lightning/" in f.filename]
        where = f"{stack[-1].filename}:{stack[-1].lineno}" if stack else "others"
        self.waits.append((self.step, f"{operation} by {where}"))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [a for a in args if isinstance(a, Tensor)]
        into = args[0] if func._schema.is_mutable else None
        # a CPU's scalar goes along with a GPU's tensors, but takes in none of them
        places = {t.device.type for t in tensors if t.ndim or t is into or t.device.type == "meta"}
        if func is aten._local_scalar_dense.default and places == {"meta"}:
            self.note(func)
            return args[0].dtype.is_floating_point * 0.0
        if func is aten._to_copy.default and "device" in kwargs and kwargs["device"] is not None:
            there = torch.device(kwargs["device"]).type
            if there != args[0].device.type:
                if there == "cpu":
                    self.note(func)
                    return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
                if not (kwargs.get("non_blocking") and args[0].is_contiguous()):  # else by the way of pinned memory
                    self.note(func)
        elif len(places) == 2:
            self.note(func)
            if func is aten.copy_.default:
                return args[0]
        return func(*args, **kwargs)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """The device that the command trains on."""
    device = Device()

    def begin(module: LanguageModel, batch: Any, *_: Any) -> Any:
        device.step = module.global_step
        return batch

    def tensor(*arguments: Any, **options: Any) -> Tensor:
        if torch.device(options.get("device") or "cpu").type == "meta":
            device.note("torch.tensor")  # plain numbers on their way to the GPU
        return make(*arguments, **options)

    make = torch.tensor
    monkeypatch.setattr(LanguageModel, "on_before_batch_transfer", begin)  # before all other hooks of a batch
    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(SingleDeviceStrategy, "root_device", torch.device("meta"))
    monkeypatch.setattr(CPUAccelerator, "setup_device", lambda self, device: None)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # knows no such device
    monkeypatch.setattr(GPT, "activation_dtype", torch.float32)  # likewise
    monkeypatch.setattr(plan, "time_step", lambda trainer, module: StepTimes(1.0, 1.0))
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)  # a line for each step
    return device


def waits(device: Device, corpus: Path, root: Path, *more: str) -> list[tuple[int | None, str]]:
    """Those between the first step and the last that are not logged."""
    options = [*tiny_options(corpus, root), "--trainer.accelerator=cpu", "--trainer.limit_val_batches=0"]
    with device:
        train([*options, f"--trainer.max_steps={STEPS}", f"--trainer.log_every_n_steps={LOGGED}", *more], root)
    assert any(step == LOGGED - 1 for step, _ in device.waits), "this device notes nothing"
    return [wait for wait in device.waits if wait[0] is not None and (wait[0] + 1) % LOGGED]


def test_no_step_waits_but_those_that_are_logged(device: Device, corpus_folder: Path, tmp_path: Path) -> None:
    assert waits(device, corpus_folder, tmp_path) == []


def test_nor_with_gradients_that_are_clipped(device: Device, corpus_folder: Path, tmp_path: Path) -> None:
    more = ["--model.kv_heads=1", "--trainer.gradient_clip_val=1"]
    assert waits(device, corpus_folder, tmp_path, *more) == []


def test_whoever_makes_it_wait_is_named(
    device: Device, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def curious(module: LanguageModel, *arguments: Any) -> Any:
        loss = step(module, *arguments)
        float(loss.detach())
        return loss + torch.ones(1).sum() + torch.tensor(0.0, device=module.device) + torch.ones(1).to(module.device)[0]

    step = LanguageModel.training_step
    monkeypatch.setattr(LanguageModel, "training_step", curious)
    found = {what.split(" by ")[0] for step, what in waits(device, corpus_folder, tmp_path) if step == 0}
    assert found == {"aten._local_scalar_dense.default", "torch.tensor", "aten._to_copy.default"}
