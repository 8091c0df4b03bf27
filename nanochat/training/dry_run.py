"""A few steps of the real loop that leave nothing behind: to time them, or to look at one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

LOGGERS = ("lightning.pytorch", "lightning.fabric")


def dry_run(module: LightningModule, data: LightningDataModule, **options: Any) -> None:
    """Trains on one device without logs, files, scores and words.

    Args:
        module: what is trained.
        data: what it learns from.
        options: of the Trainer, such as its callbacks.
    """
    with _quietly():
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
def _quietly() -> Iterator[None]:
    """Keeps back what Lightning says about such a Trainer: that its steps are few, and that nothing is logged."""
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
