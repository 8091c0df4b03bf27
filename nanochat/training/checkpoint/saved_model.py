"""Reads the model of any checkpoint, and writes a model as a checkpoint to start training from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nanochat.model import GPT, GPTConfig
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint.loading import TEXT, data_state, load_whole_checkpoint

PREFIX = "gpt."  # of the GPT's parameters in the LightningModule


class SavedModel(NamedTuple):
    """The model of a checkpoint.

    Attributes:
        gpt: a model of its sizes on the meta device: shapes without memory.
        weights: the parameters by their names in :class:`GPT`, mapped from the file until they are used.
        tokenizer: of its vocabulary.
        step: number of steps it was trained for; 0 if it was imported.
    """

    gpt: GPT
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    step: int


class _NoInitialization(TorchFunctionMode):
    """Skips the random initialization of weights.

    On the meta device it computes nothing, but torch imports its compiler for it, which takes 0.75 s.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def read_model(path: str | Path) -> SavedModel:
    """The model of a checkpoint.

    Raises:
        ValueError: if the file is missing or damaged, or not a checkpoint of this project.
    """
    checkpoint = load_whole_checkpoint(path)
    try:
        config = GPTConfig.from_hyperparameters(checkpoint["hyper_parameters"])
        with torch.device("meta"), _NoInitialization():
            gpt = GPT(config)
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in checkpoint["state_dict"].items()}
        tokenizer = Tokenizer.from_dict(data_state(checkpoint)["tokenizer"])
        step = int(checkpoint["global_step"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a checkpoint of this project: {error}") from error
    shapes = {name: parameter.shape for name, parameter in gpt.named_parameters()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError(f"{path} is not a checkpoint of this project: its weights do not fit its sizes")
    return SavedModel(gpt, weights, tokenizer, step)


def write_model(path: Path, gpt: GPT, weights: Mapping[str, Tensor], tokenizer: Tokenizer) -> None:
    """Writes a checkpoint that ``fit`` can start from and ``validate`` can score: step 0, without optimizer state.

    Args:
        path: the file.
        gpt: a model of the sizes, possibly on the meta device.
        weights: its parameters by their names in :class:`GPT`.
        tokenizer: its tokenizer.

    Raises:
        OSError: if it cannot be written; an existing file stays.
    """
    import lightning  # not above: reading does not need it, and it takes two seconds

    from nanochat.training.checkpoint.safe_io import SafeCheckpointIO

    checkpoint = {
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "global_step": 0,
        "state_dict": {PREFIX + name: tensor for name, tensor in weights.items()},
        "hyper_parameters": gpt.config.to_hyperparameters(),
        TEXT: {"tokenizer": tokenizer.to_dict()},
    }
    SafeCheckpointIO().save_checkpoint(checkpoint, path)
