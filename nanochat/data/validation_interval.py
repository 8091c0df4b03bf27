"""The interval between validations that spreads a number of them evenly over the rest of a run."""

from __future__ import annotations

from lightning.pytorch import Trainer


def validation_interval(steps: int, done: int, left: int) -> int:
    """Steps between validations, so that ``left`` of them are still to come, the last one at the end of the run.

    Lightning validates after every multiple of the interval. Candidates are ``steps // count``, which have a multiple
    at the end of the run, except for a remainder. Of those with exactly ``left`` multiples in (done, steps], the
    smallest is taken: its next validation is the furthest away.

    Args:
        steps: optimizer steps of the whole run.
        done: steps already taken, fewer than ``steps``.
        left: validations still to come, at most ``steps - done``.

    Returns:
        At least 1. If no candidate fits exactly, the nearest one.
    """

    def fits(interval: int) -> bool:
        # Lightning also checks the step just done: a multiple there would validate at once
        return steps // interval - done // interval == left and (not done or done % interval > 0)

    most = min(steps, left * steps // (steps - done) + 1)
    fitting = [steps // count for count in range(1, most + 1) if fits(steps // count)]
    return min(fitting, default=max(1, steps // most))


def set_validation_interval(trainer: Trainer, steps: int) -> None:
    """Lets Lightning validate every ``steps`` optimizer steps, also while it is training."""
    trainer.val_check_interval = trainer.val_check_batch = steps * trainer.accumulate_grad_batches  # in micro-steps
    trainer.check_val_every_n_epoch = None  # the stream has no end, so there are no epochs
