"""Our parameters as the ``model.safetensors`` of transformers' model type "nanochat", and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nanochat.model import GPT

NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"  # of weights that are divided among several files
IN_A_BLOCK = {
    "attn.c_q": "self_attn.q_proj",
    "attn.c_k": "self_attn.k_proj",
    "attn.c_v": "self_attn.v_proj",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def their_names(gpt: GPT) -> dict[str, str]:
    """The name there of each of our parameters. None is turned or cut: the names are all that differs."""
    names = {"transformer.wte.weight": "model.embed_tokens.weight"}
    for layer in range(gpt.config.n_layer):
        for ours, theirs in IN_A_BLOCK.items():
            names[f"transformer.h.{layer}.{ours}.weight"] = f"model.layers.{layer}.{theirs}.weight"
    return {**names, "lm_head.weight": "lm_head.weight"}


def write_weights(folder: Path, gpt: GPT, weights: Mapping[str, Tensor]) -> None:
    """Writes ``model.safetensors``.

    Args:
        folder: where.
        gpt: the model, possibly on the meta device.
        weights: its parameters by our names, in the dtype to write.

    Raises:
        OSError: if they cannot be written.
    """
    tensors = {theirs: weights[ours].contiguous() for ours, theirs in their_names(gpt).items()}
    try:
        save_file(tensors, folder / NAME, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"cannot write {folder / NAME}: {error}") from error


def read_weights(folder: Path, gpt: GPT) -> dict[str, Tensor]:
    """Our parameters in float32, by our names, out of one file or several.

    Args:
        folder: where they are.
        gpt: a model of the sizes to expect, possibly on the meta device.

    Raises:
        ValueError: if a file is missing or damaged, or if the tensors are not those of such a model.
    """
    files = weight_files(folder)
    wanted = {theirs: ours for ours, theirs in their_names(gpt).items()}
    shapes = {ours: list(parameter.shape) for ours, parameter in gpt.named_parameters()}
    weights: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    if name not in wanted:
                        raise ValueError(f"{path} has a tensor that this model does not have: {name}")
                    ours = wanted[name]
                    shape = file.get_slice(name).get_shape()
                    if shape != shapes[ours]:
                        raise ValueError(f"{path}: {name} has the shape {shape}, but config.json says {shapes[ours]}")
                    tensor = file.get_tensor(name)
                    if not tensor.is_floating_point():
                        raise ValueError(f"{path}: {name} is of {tensor.dtype}; quantized weights cannot be read")
                    weights[ours] = tensor.to(torch.float32)
        except FileNotFoundError as error:
            raise ValueError(f"there is no {path}") from error
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a whole safetensors file: it is damaged or cut short") from error
    missing = [theirs for theirs, ours in wanted.items() if ours not in weights]
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} of {len(wanted)} tensors, the first of them {missing[0]}")
    return weights


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights.

    Raises:
        ValueError: if there are none, or only pickled ones.
    """
    if (folder / NAME).is_file():
        return [folder / NAME]
    index = folder / INDEX_NAME
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} is not the index of divided weights: {error!r}") from error
        if not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError(f"{index} names files outside its folder")
        return [folder / name for name in names]
    refuse_pickles(folder, NAME)
    raise ValueError(f"there is no {NAME} in {folder}")


def refuse_pickles(folder: Path, wanted: str) -> None:
    """Says so where the folder has what is wanted only as a pickle, which could run any code when it is read."""
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"))
    if pickles:
        raise ValueError(f"{folder} has no {wanted}, and its {pickles[0]} is a pickle, which is never read here")
