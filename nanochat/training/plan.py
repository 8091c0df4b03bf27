"""Before the first step: what is going to be trained, how long it takes, and whether it fits."""

from __future__ import annotations

import time
from collections import defaultdict

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.data.text import VAL_BATCH_TOKENS, Batch, TextDataModule
from nanochat.training.console import count, duration, say, size, table
from nanochat.training.hardware import available_memory, describe, synchronize
from nanochat.training.language_model import LanguageModel
from nanochat.training.memory import PROCESS, WORKSPACE, training_memory
from nanochat.training.steps import find_callback, validations_left
from nanochat.training.throughput import Throughput

TIMED_SECONDS = 2.0  # micro-steps are timed for about this long


class Plan(Callback):
    """Refuses what cannot fit into memory, times a few steps, and tells the user what is to come.

    Args:
        minutes: the time that the tier is meant to take, on the machine it was made for. The plan says which
            --trainer.max_steps would take that time here. null says nothing of it.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.minutes = minutes
        self.expected_seconds: float | None = None  # from the first step to the final score

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is on its device, and nothing else has been allocated yet."""
        assert isinstance(pl_module, LanguageModel)
        check_memory(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        data: TextDataModule = trainer.datamodule  # type: ignore[attr-defined]
        step, scored_token = time_step(trainer, pl_module)
        tokens_per_second = data.tokens_per_step(trainer.world_size) / step
        rows = self._describe(trainer, pl_module, data)
        if trainer.max_steps > 0:
            scored = validations_left(trainer) * data.val_predictions
            scored += data.held_out.predictions if data.validate_all and trainer.enable_validation else 0
            scoring = scored * scored_token
            self.expected_seconds = (trainer.max_steps - trainer.global_step) * step + scoring
            mfu = self._mfu(trainer, tokens_per_second)
            rows["time"] = f"about {duration(self.expected_seconds)} at {count(tokens_per_second)} tokens/s" + (
                f", {mfu:.0%} of the machine's peak" if mfu is not None else ""
            )
            if self.minutes is not None and not trainer.global_step:
                started = time.time() - psutil.Process().create_time()
                fitting = self._fitting_steps(step, scoring + started)
                if not 0.8 * fitting <= trainer.max_steps <= fitting:
                    rows[f"{self.minutes:g} minutes"] = f"--trainer.max_steps={fitting} would take that long here"
        rows["written to"] = str(trainer.log_dir)
        say(table("Plan", rows))
        say()

    def _describe(self, trainer: Trainer, module: LanguageModel, data: TextDataModule) -> dict[str, str]:
        gpt, shape = module.gpt, module.gpt.shape
        survey = data.prepared.corpus.survey
        tokens_per_step = data.tokens_per_step(trainer.world_size)
        rows = {
            "model": f"{gpt.num_parameters:,} parameters: depth {shape.depth}, width {shape.width}, "
            f"{shape.heads} heads, vocabulary {gpt.vocab_size:,}",
            "text": f"{data.source}: {survey.documents:,} documents, {size(survey.bytes)} ({survey.fingerprint})",
        }
        if trainer.max_steps > 0:
            tokens = trainer.max_steps * tokens_per_step
            passes = tokens / len(data.prepared.train.tokens)
            rows["training"] = (
                f"{trainer.max_steps:,} steps of {count(tokens_per_step)} tokens: {count(tokens)} tokens, "
                f"{tokens / gpt.num_parameters:.2g} per parameter"
            )
            rows["compute"] = (
                f"{tokens * gpt.flops_per_token(data.row_length):.2g} FLOPs, {passes:.2g} times through the text"
            )
        rates = [f"{group['name']} {group['initial_lr']:.2g}" for group in trainer.optimizers[0].param_groups]
        rows["learning"] = f"rates: {', '.join(rates)}"
        device = trainer.strategy.root_device
        rows["machine"] = f"{describe(device)}, {trainer.precision}" + (
            f", {trainer.world_size} devices" if trainer.world_size > 1 else ""
        )
        rows["memory"] = f"about {size(expected_memory(trainer, module))}"
        return rows

    def _mfu(self, trainer: Trainer, tokens_per_second: float) -> float | None:
        throughput = find_callback(trainer, Throughput)
        return throughput.mfu(trainer, tokens_per_second) if throughput is not None else None

    def _fitting_steps(self, step_seconds: float, other_seconds: float) -> int:
        """How many steps take the tier's time on this machine, all else included."""
        assert self.minutes is not None
        fitting = int((60 * self.minutes - other_seconds) / step_seconds)
        return max(10, fitting - fitting % 10)


def expected_memory(trainer: Trainer, module: LanguageModel) -> int:
    """Bytes that the run will take at its peak, all in all."""
    data: TextDataModule = trainer.datamodule  # type: ignore[attr-defined]
    activation_bytes = 2 if "bf16" in str(trainer.precision) or "16-" in str(trainer.precision) else 4
    needed = training_memory(module.gpt, data.batch_size, data.row_length, activation_bytes) * WORKSPACE
    return int(needed + (PROCESS if trainer.strategy.root_device.type == "cpu" else 0))


def check_memory(trainer: Trainer, module: LanguageModel) -> None:
    """Refuses a run that cannot fit: on a CPU there would be no error later, only a process that is killed.

    Raises:
        ValueError: if memory will not do, naming the options to lower.
    """
    device = trainer.strategy.root_device
    if device.type not in ("cpu", "cuda"):
        return  # an integrated GPU shares the machine's memory and pages it; it says so itself when it is full
    available = available_memory(device)
    already = psutil.Process().memory_info().rss if device.type == "cpu" else torch.cuda.memory_allocated(device)
    needed = expected_memory(trainer, module)
    if needed - already > available:
        raise ValueError(
            f"this run needs about {size(needed)} of memory and {size(already + available)} are available: "
            "lower --data.batch_size (the result stays the same) or --model.depth"
        )


def time_step(trainer: Trainer, module: LanguageModel) -> tuple[float, float]:
    """Seconds to train one step and to score one held-out token, from a few real steps that leave no trace.

    The optimizer runs with a learning rate of zero and a state of its own, so weights and state stay what they are.
    Random tokens are as much work as real ones.
    """
    data: TextDataModule = trainer.datamodule  # type: ignore[attr-defined]
    device = trainer.strategy.root_device
    optimizer = trainer.strategy.optimizers[0]
    generator = torch.Generator().manual_seed(0)

    def random_batch(rows: int, row_length: int) -> Batch:
        tokens = torch.randint(data.vocab_size, (rows, row_length + 1), generator=generator).to(device)
        return tokens[:, :-1], tokens[:, 1:]

    batch = random_batch(data.batch_size, data.row_length)
    held_out = random_batch(max(1, VAL_BATCH_TOKENS // data.held_out.length), data.held_out.length)

    def micro_step() -> None:
        with trainer.precision_plugin.train_step_context():
            loss = module.training_step(batch, 0)
        loss.backward()

    def seconds(work: object, least: float) -> float:
        assert callable(work)
        work()  # the first time is slow: memory is taken, kernels are chosen, the model is compiled
        synchronize(device)
        start, times = time.perf_counter(), 0
        while not times or time.perf_counter() - start < least:
            work()
            synchronize(device)
            times += 1
        return (time.perf_counter() - start) / times

    micro = seconds(micro_step, TIMED_SECONDS)

    state, rates = optimizer.state, [group["lr"] for group in optimizer.param_groups]
    optimizer.state = defaultdict(dict)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    update = seconds(optimizer.step, 0.1)
    optimizer.state = state
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.zero_grad()

    def validate() -> None:
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            module.gpt.losses(*held_out)

    forward = seconds(validate, 0.1)
    module.reset_training_averages()
    scored_token = forward / held_out[0].numel() / trainer.world_size
    return micro * trainer.accumulate_grad_batches + update, scored_token
