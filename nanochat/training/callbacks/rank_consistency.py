"""Before a run on several machines begins: whether all of its processes mean the same."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.training.trainer_state import data_of


class RankConsistency(Callback):
    """Refuses a run whose processes have different text, or go on from different steps.

    Each process finds its text and its checkpoint on its own machine. Where folders that should be shared are not,
    the processes would train something that none of them means, or wait for each other for ever.

    Args:
        step: of the checkpoint that this process goes on from; 0 if it begins.
    """

    def __init__(self, step: int = 0) -> None:
        self.step = step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The processes have found each other, the text is prepared, and no checkpoint has been read."""
        if trainer.world_size == 1 or stage != "fit":
            return
        data = data_of(trainer)
        if not same_everywhere(trainer, self.step):
            raise ValueError(
                "the processes of this run go on from different checkpoints, or some of them begin: all nodes must see "
                "the same lightning_logs; give --trainer.default_root_dir a folder on a file system that they share"
            )
        if not same_everywhere(trainer, [data.fingerprint, data.tokenizer.fingerprint]):
            raise ValueError(
                "the processes of this run have different text: all nodes must have the same --data.corpus (embedded "
                "is made from the packages of each node's Python environment); set NANOCHAT_CACHE to a shared folder"
            )


def same_everywhere(trainer: Trainer, value: object) -> bool:
    """Whether all processes have the first one's value. All must ask."""
    return trainer.strategy.reduce_boolean_decision(trainer.strategy.broadcast(value) == value)
