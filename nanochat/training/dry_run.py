"""Runs Lightning's training loop without logs, files, validation and output: for timing, and for recording a step."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

LOGGERS = ("lightning.pytorch", "lightning.fabric")


def dry_run(module: LightningModule, data: LightningDataModule, **options: Any) -> None:
    """Trains on one device; only the module changes.

    Args:
        module: the model.
        data: the data module.
        options: of the Trainer, such as ``max_steps`` and ``callbacks``.
    """
    with _silence_lightning():
        trainer = Trainer(
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            **options,
        )
        trainer.fit(module, datamodule=data)


@contextmanager
def _silence_lightning() -> Iterator[None]:
    """Silences Lightning's messages about such a Trainer: that it has few steps and no logger."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
