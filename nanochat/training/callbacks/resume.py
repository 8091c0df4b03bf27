"""Going on from a checkpoint elsewhere or otherwise: what is adapted, and what the user is told."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from nanochat.training.console import say
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of

# What the machine may have chosen, with the name under which the user knows it.
WORDS = {
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
    """Writes into each checkpoint under which conditions it was made, and compares them when a run goes on from it."""

    def __init__(self) -> None:
        self._before: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["conditions"] = conditions(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._before = checkpoint.get("conditions")
        if trainer.state.fn == "fit" and "loops" in checkpoint:
            count_batches_anew(checkpoint, trainer.accumulate_grad_batches)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        if self._before is None:
            return
        now, data = conditions(trainer), data_of(trainer)
        before: dict[str, Any] = {name: self._before.get(name) for name in now}
        if before["tokens_per_step"] != now["tokens_per_step"]:
            say(
                f"A step now learns from {now['tokens_per_step']:,} tokens instead of {before['tokens_per_step']:,}: "
                f"this is another run than it was ({data.step_size_option(before['tokens_per_step'])} keeps the step)."
            )
        different = [f"{WORDS[k]} {now[k]} instead of {before[k]}" for k in WORDS if before[k] != now[k]]
        if different:
            say(f"Going on with {', '.join(different)}: the losses agree with an uninterrupted run's to rounding only.")
        for line in take_learning_rates(trainer, pl_module):
            say(line)
        if before["max_steps"] != trainer.max_steps:
            say(about_schedule(pl_module, trainer.global_step, before["max_steps"], trainer.max_steps))


def conditions(trainer: Trainer) -> dict[str, Any]:
    """What was chosen for this run by hardware or by hand, and has no effect but on speed and rounding."""
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
        "torch": str(torch.__version__),  # a subclass of str, which would have to be unpickled
        "max_steps": trainer.max_steps,
        "tokens_per_step": data.tokens_per_step(trainer.world_size),
    }


def count_batches_anew(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Lets the loops believe that every step so far had as many micro-steps as they have now.

    Lightning takes a step whenever the number of batches since the start divides by that number: with another one it
    would take the first step too early or too late.
    """
    steps = checkpoint["global_step"]
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        last = counts["ready"] - counts["completed"]  # 1 if the last batch had not been counted as completed
        for name in ("ready", "started", "processed"):
            counts[name] = steps * accumulate
        counts["completed"] = steps * accumulate - last


def take_learning_rates(trainer: Trainer, module: LanguageModel) -> list[str]:
    """Rates that the user has set take the place of the checkpoint's; returns what to say of it.

    The next step's rates are reckoned anew: a checkpoint at the end of a shorter plan says zero.
    """
    said = []
    (config,) = trainer.lr_scheduler_configs
    scheduler = config.scheduler
    assert isinstance(scheduler, LambdaLR)
    rates = module.learning_rates._asdict()  # None where the rule is to decide
    for index, group in enumerate(trainer.optimizers[0].param_groups):
        wanted = rates[group["name"]]
        if wanted is not None and wanted != group["initial_lr"]:
            said.append(f"The learning rate of {group['name']} was {group['initial_lr']:.3g} and is now {wanted:.3g}.")
            group["initial_lr"] = scheduler.base_lrs[index] = wanted
        group["lr"] = scheduler.base_lrs[index] * scheduler.lr_lambdas[index](scheduler.last_epoch)
    return said


def about_schedule(module: LanguageModel, step: int, before: int, now: int) -> str:
    """What another number of steps does to the learning rate."""

    def planned(steps: int) -> str:
        return f"{steps:,} steps" if steps > 0 else "as many steps as the clock allows"

    def share(total: int) -> float:
        return module.learning_rate_factor(step, total if total > 0 else float("inf"))

    return (
        f"The run was planned for {planned(before)} and is now for {planned(now)}: its learning rates follow the new "
        f"plan from here on, {share(now):.0%} of their full values now ({share(before):.0%} in the old one), and fall "
        f"over the last {module.warmdown:.0%} of it. The full values stay what they were."
    )
