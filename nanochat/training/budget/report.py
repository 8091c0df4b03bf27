"""The plan that is printed before the first step: model, data, compute, time and memory."""

from __future__ import annotations

from lightning.pytorch import Trainer

from nanochat.training.budget.memory import expected_memory
from nanochat.training.callbacks.throughput import Throughput
from nanochat.training.console import count, size
from nanochat.training.hardware import describe_device
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of, find_callback


class PlanReport:
    """Describes a run.

    Args:
        trainer: of the run.
        module: its model.
    """

    def __init__(self, trainer: Trainer, module: LanguageModel) -> None:
        self.trainer, self.module, self.data = trainer, module, data_of(trainer)

    def rows(self) -> dict[str, str]:
        """The lines of the plan, by name."""
        trainer, gpt, config = self.trainer, self.module.gpt, self.module.gpt.config
        rates = [f"{group['name']} {group['initial_lr']:.2g}" for group in trainer.optimizers[0].param_groups]
        machine = f"{describe_device(trainer.strategy.root_device)}, {trainer.precision}"
        machine += ", compiled" if gpt.compiled_block is not None else ""
        machine += f", {trainer.world_size} devices" if trainer.world_size > 1 else ""
        return {
            "model": f"{gpt.num_parameters:,} parameters: depth {config.n_layer}, width {config.n_embd}, "
            f"{config.n_head} heads, vocabulary {config.vocab_size:,}",
            **self.work_rows(),
            "learning": f"rates: {', '.join(rates)}",
            "machine": machine,
            "memory": f"about {size(expected_memory(trainer, self.module))}",
        }

    def work_rows(self) -> dict[str, str]:
        """The lines about the data and the amount of training."""
        trainer, data, gpt = self.trainer, self.data, self.module.gpt
        rows = {"text": f"{data.source}: {data.extent} ({data.fingerprint})"}
        if trainer.max_steps > 0:
            tokens_per_step = data.tokens_per_step(trainer.world_size)
            tokens = trainer.max_steps * tokens_per_step
            rows["training"] = (
                f"{trainer.max_steps:,} steps of {count(tokens_per_step)} tokens: {count(tokens)} tokens, "
                f"{tokens / gpt.num_parameters:.2g} per parameter"
            )
            rows["compute"] = f"{tokens * gpt.flops_per_token(data.row_length):.2g} FLOPs"
            if data.all_tokens is not None:
                rows["compute"] += f", {tokens / data.all_tokens:.2g} epochs"
        return rows

    def speed(self, step_seconds: float) -> str:
        """The speed, given the time of a step."""
        tokens_per_second = self.data.tokens_per_step(self.trainer.world_size) / step_seconds
        throughput = find_callback(self.trainer, Throughput)
        mfu = None
        if throughput is not None:
            flops_per_token = self.module.gpt.flops_per_token(self.data.row_length)
            mfu = throughput.mfu(self.module, tokens_per_second, flops_per_token)
        of_peak = f", {mfu:.0%} of the machine's peak" if mfu is not None else ""
        return f"{count(tokens_per_second)} tokens/s{of_peak}"
