"""Checks before a distributed run that all ranks (processes) have the same data and the same checkpoint."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.training.trainer_state import data_of


class RankConsistency(Callback):
    """Refuses a run whose ranks have different data or resume from different steps.

    Each rank finds its data and its checkpoint on its own machine. If folders that should be shared are not, the ranks
    would train on different data, or wait for each other forever.

    Args:
        step: of the checkpoint that this rank resumes from; 0 for a new run.
    """

    def __init__(self, step: int = 0) -> None:
        self.step = step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The ranks are connected and the data is prepared; no checkpoint has been loaded yet."""
        if trainer.world_size == 1 or stage != "fit":
            return
        data = data_of(trainer)
        if not is_equal_on_all_ranks(trainer, self.step):
            raise ValueError(
                "the processes of this run resume from different checkpoints, or some of them start anew: all nodes "
                "need the same lightning_logs; set --trainer.default_root_dir to a folder on a shared file system"
            )
        if not is_equal_on_all_ranks(trainer, [data.fingerprint, data.tokenizer.fingerprint]):
            raise ValueError(
                "the processes of this run have different text: all nodes need the same --data.corpus (embedded is "
                "built from the Python packages of each node); set NANOCHAT_CACHE to a shared folder"
            )


def is_equal_on_all_ranks(trainer: Trainer, value: object) -> bool:
    """Whether all ranks have the same value as the first. All of them have to call it."""
    return trainer.strategy.reduce_boolean_decision(trainer.strategy.broadcast(value) == value)
