"""Checkpoints of earlier versions: converted on loading where the model is still the same, refused where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Version 0.1.0 could add n-gram vectors to the embedding and counted n-grams to the logits. These hyperparameters, at
# values above the given ones, made a model that is no longer nanochat's; at or below them they changed nothing.
REMOVED_PARTS = {"ngrams": 1, "counted": 0}
LAST_VERSION_WITH_THEM = "0.1.0 (git checkout e8a05da)"


def check_supported(checkpoint: Mapping[str, Any], path: object) -> None:
    """Refuses a checkpoint whose model has parts that this version does not have.

    Raises:
        ValueError: with the version that runs it.
    """
    saved = checkpoint.get("hyper_parameters") or {}
    found = [name for name, default in REMOVED_PARTS.items() if (saved.get(name) or 0) > default]
    if found:
        raise ValueError(
            f"{path} is a model with n-grams ({', '.join(f'{name}={saved[name]}' for name in found)}), which this "
            f"version does not run: version {LAST_VERSION_WITH_THEM} does"
        )
