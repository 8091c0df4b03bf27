"""Checkpoints of earlier versions: converted on loading where the model is still the same, refused where it is not."""

from __future__ import annotations

import re
from typing import Any

# Version 0.1.0 could add n-gram vectors to the embedding and counted n-grams to the logits. These hyperparameters, at
# values above the given ones, made a model that is no longer nanochat's; at or below them they changed nothing.
REMOVED_PARTS = {"ngrams": 1, "counted": 0}
REMOVED = (*REMOVED_PARTS, "ngram_slots", "predecessors", "repeats", "ngram_lr", "shallow")
LAST_VERSION_WITH_THEM = "0.1.0 (git checkout e8a05da)"

# Parameters were renamed to nanochat's own names after version 0.1.0.
RENAMED = {
    "embedding": "transformer.wte",
    "head": "lm_head",
    "attention.query": "attn.c_q",
    "attention.key": "attn.c_k",
    "attention.value": "attn.c_v",
    "attention.output": "attn.c_proj",
    "mlp.expand": "mlp.c_fc",
    "mlp.contract": "mlp.c_proj",
}
OLD_NAME = re.compile(r"gpt\.(?:blocks\.(?P<layer>\d+)\.)?(?P<part>[a-z_.]+)\.weight")


def upgrade(checkpoint: dict[str, Any], path: object) -> None:
    """Converts a checkpoint of an earlier version in place; one of this version stays as it is.

    Optimizer states need no conversion: they are numbered by the order of the parameters, which has not changed.

    Args:
        checkpoint: a loaded checkpoint of Lightning's.
        path: its file, for the error.

    Raises:
        ValueError: if the model has parts that this version does not have, with the version that runs it.
    """
    saved, weights = checkpoint.get("hyper_parameters"), checkpoint["state_dict"]
    if not isinstance(saved, dict) or not isinstance(weights, dict):
        return  # reading the model from it raises
    given = {name: saved[name] for name in REMOVED_PARTS if isinstance(saved.get(name), int)}
    found = [name for name, value in given.items() if value > REMOVED_PARTS[name]]
    if found:
        raise ValueError(
            f"{path} is a model with n-grams ({', '.join(f'{name}={saved[name]}' for name in found)}), which this "
            f"version does not run: version {LAST_VERSION_WITH_THEM} does"
        )
    checkpoint["hyper_parameters"] = {name: value for name, value in saved.items() if name not in REMOVED}
    checkpoint["state_dict"] = {current_name(str(name)): tensor for name, tensor in weights.items()}


def current_name(name: str) -> str:
    """The name of a parameter in this version, given its name in this or an earlier one."""
    match = OLD_NAME.fullmatch(name)
    if match is None or match["part"] not in RENAMED:
        return name
    prefix = "gpt." if match["layer"] is None else f"gpt.transformer.h.{match['layer']}."
    return f"{prefix}{RENAMED[match['part']]}.weight"
