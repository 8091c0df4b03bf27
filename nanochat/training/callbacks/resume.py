"""Resuming a run under other conditions than its checkpoint's: adapts the state, and prints the differences."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from nanochat.training.console import say
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of

# Conditions that depend on the machine and affect only speed and rounding, with their names for messages.
TITLES = {
    "accelerator": "accelerator",
    "precision": "precision",
    "compile": "compiled model",
    "devices": "devices",
    "accumulate": "micro-steps per step",
    "batch_size": "rows per micro-step",
    "threads": "CPU threads",
    "torch": "torch",
}


class Resume(Callback):
    """Saves the conditions of the run in each checkpoint, and compares them when the run is resumed."""

    def __init__(self) -> None:
        self._saved: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["conditions"] = conditions(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved = checkpoint.get("conditions")
        if trainer.state.fn == "fit" and "loops" in checkpoint:
            rescale_batch_counts(checkpoint, trainer.accumulate_grad_batches)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        if self._saved is None:
            return
        now, data = conditions(trainer), data_of(trainer)
        saved: dict[str, Any] = {name: self._saved.get(name) for name in now}
        if saved["tokens_per_step"] != now["tokens_per_step"]:
            say(
                f"A step now has {now['tokens_per_step']:,} tokens instead of {saved['tokens_per_step']:,}, so the run "
                f"differs from an uninterrupted one ({data.step_size_option(saved['tokens_per_step'])} prevents that)."
            )
        different = [f"{TITLES[k]} {now[k]} instead of {saved[k]}" for k in TITLES if saved[k] != now[k]]
        if different:
            say(f"Resuming with {', '.join(different)}: the losses equal an uninterrupted run's up to rounding.")
        for line in override_learning_rates(trainer, pl_module):
            say(line)
        if saved["max_steps"] != trainer.max_steps:
            say(describe_new_length(pl_module, trainer.global_step, saved["max_steps"], trainer.max_steps))


def conditions(trainer: Trainer) -> dict[str, Any]:
    """The conditions of this run that a resumed run may change, as plain values."""
    module, data = trainer.lightning_module, data_of(trainer)
    device = trainer.strategy.root_device.type
    return {
        "accelerator": device,
        "precision": str(trainer.precision),
        "compile": bool(module.hparams["compile"]),
        "devices": trainer.world_size,
        "accumulate": trainer.accumulate_grad_batches,
        "batch_size": data.batch_size,
        "threads": torch.get_num_threads() if device == "cpu" else 0,
        "torch": str(torch.__version__),  # a subclass of str, which weights_only=True refuses
        "max_steps": trainer.max_steps,
        "tokens_per_step": data.tokens_per_step(trainer.world_size),
    }


def rescale_batch_counts(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Sets Lightning's batch counts as if every step so far had had ``accumulate`` micro-steps.

    Lightning takes an optimizer step whenever the number of batches since the start is divisible by
    ``accumulate_grad_batches``: with the old counts, the first step could have too few or too many micro-steps.
    """
    steps = checkpoint["global_step"]
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        last = counts["ready"] - counts["completed"]  # 1 if the last batch is not counted as completed yet
        for name in ("ready", "started", "processed"):
            counts[name] = steps * accumulate
        counts["completed"] = steps * accumulate - last


def override_learning_rates(trainer: Trainer, module: LanguageModel) -> list[str]:
    """Replaces the checkpoint's learning rates by those that the user has set; returns messages about it.

    The rates of the next step are computed anew, because they are 0 in a checkpoint at the end of a shorter run.
    """
    messages = []
    (config,) = trainer.lr_scheduler_configs
    scheduler = config.scheduler
    assert isinstance(scheduler, LambdaLR)
    chosen = module.learning_rates.chosen._asdict()
    for index, group in enumerate(trainer.optimizers[0].param_groups):
        rate = chosen[group["name"]]
        if rate is not None and rate != group["initial_lr"]:
            messages.append(
                f"The learning rate of {group['name']} was {group['initial_lr']:.3g} and is now {rate:.3g}."
            )
            group["initial_lr"] = scheduler.base_lrs[index] = rate
        group["lr"] = scheduler.base_lrs[index] * scheduler.lr_lambdas[index](scheduler.last_epoch)
    return messages


def describe_new_length(module: LanguageModel, step: int, before: int, now: int) -> str:
    """The effect of another number of steps on the learning rates, as a message.

    Args:
        module: the model.
        step: steps taken.
        before: total steps of the checkpoint's run; -1 if a time limit ended it.
        now: total steps of this run; -1 likewise.
    """

    def length(steps: int) -> str:
        return f"{steps:,} steps" if steps > 0 else "as many steps as fit into the time"

    def factor(steps: int) -> float:
        return module.learning_rates.factor(step, steps if steps > 0 else math.inf)

    return (
        f"The run was planned for {length(before)} and is now planned for {length(now)}. From here on the learning "
        f"rates follow the new plan: they are {factor(now):.0%} of their full values now ({factor(before):.0%} in the "
        f"old plan), and fall over the last {module.learning_rates.warmdown:.0%} of the run. The full values are the "
        "checkpoint's."
    )
