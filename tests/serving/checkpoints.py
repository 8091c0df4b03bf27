"""Writes checkpoints of small random models, in the format of training."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from nanochat.serving.model import Model
from nanochat.training.checkpoint.loading import CHAT, TEXT
from nanochat.training.checkpoint.safe_io import SafeCheckpointIO
from tests.serving.tools import random_model


def attentive_model(is_chat: bool = True, context: int = 256) -> Model:
    """A random model whose output depends on its whole input. Freshly initialised it would not: some weights are 0."""
    model = random_model(is_chat, context, endless=False)
    for block in model.gpt.blocks:
        for weight in (block.attn.c_proj.weight, block.mlp.c_proj.weight):
            torch.nn.init.normal_(weight, std=weight.size(1) ** -0.5)
    return model


def write_checkpoint(path: Path, is_chat: bool = True, time: float | None = None, context: int = 256) -> Model:
    """Writes a checkpoint, with ``time`` as its modification time; returns its model."""
    model = attentive_model(is_chat, context)
    content = {
        "pytorch-lightning_version": "2.6.0",
        "epoch": 0,
        "global_step": 3,
        "state_dict": {f"gpt.{name}": tensor for name, tensor in model.gpt.state_dict().items()},
        "hyper_parameters": model.gpt.config.to_hyperparameters(),
        CHAT if is_chat else TEXT: {"tokenizer": model.tokenizer.to_dict()},
    }
    SafeCheckpointIO().save_checkpoint(content, path)
    if time is not None:
        os.utime(path, (time, time))
    return model


def run_folder(root: Path, name: str, version: int = 0) -> Path:
    return root / "lightning_logs" / name / f"version_{version}"


def write_run(root: Path, name: str, version: int = 0, is_chat: bool = False, time: float | None = None) -> Path:
    """Writes a run with one checkpoint; returns the checkpoint's path."""
    path = run_folder(root, name, version) / "checkpoints" / "last.ckpt"
    write_checkpoint(path, is_chat, time)
    return path
