"""The LightningModule of pretraining and fine-tuning: a GPT that learns to predict the next token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from nanochat.allocator import keep_freed_memory, release_freed_memory
from nanochat.data.data_module import RowsDataModule
from nanochat.data.prompt_data import Prompt
from nanochat.data.synthetic import random_batch
from nanochat.data.tokens.batches import Batch
from nanochat.inference.generation import Generation
from nanochat.model import GPT, IGNORE, GPTConfig
from nanochat.optim import MuonAdamW
from nanochat.optim.learning_rates import LearningRates, default_learning_rates, default_muon_every
from nanochat.options import at_least
from nanochat.training.learning_rate_plan import LearningRatePlan
from nanochat.training.loss_averages import LossAverages
from nanochat.training.metrics import BitsPerByte, gradient_norm
from nanochat.training.run_logger import RunLogger
from nanochat.training.sharding import shard
from nanochat.training.trainer_state import data_of, logs_step


class LanguageModel(LightningModule):
    """nanochat's GPT with its loss, optimizer and metric.

    The depth sets the scale: width, heads and learning rates follow from it unless they are given.

    Args:
        depth: number of transformer blocks.
        width: size of the residual stream; null takes 64 x depth.
        heads: number of attention heads; null takes heads of size 64 (of 128 above width 768).
        kv_heads: number of key and value heads, fewer than heads for grouped-query attention; null takes heads.
        vocab_size: number of tokens in the vocabulary.
        context: longest sequence that the model can read, in tokens.
        matrix_lr: learning rate of the matrices in the blocks (Muon); null takes the default for the width, the batch
            size and the number of steps.
        embedding_lr: learning rate of the token embedding (AdamW); null takes the default.
        head_lr: learning rate of the output head (AdamW); null takes the default.
        muon_every: steps between two updates of the matrices in the blocks, each with the gradients of all steps since
            the last one; null takes as many as process 4,096 tokens, at least 1.
        muon_band: rows of a matrix that Muon orthogonalizes together, which takes a fraction of the operations of a
            whole matrix; null takes whole matrices.
        weight_decay: of the matrices in the blocks, per unit of learning rate.
        warmup_steps: steps over which the learning rates rise from zero.
        warmdown: last fraction of the run, from 0 to 1, over which the learning rates fall linearly.
        final_lr: what they fall to, as a fraction of their full value.
        compile: whether to compile the model with torch.compile, for faster steps after a slow start; null compiles on
            a GPU, and on a CPU in runs of three minutes or more, if there is a compiler.

    Raises:
        ValueError: if the sizes do not fit each other or a number is out of range.
    """

    flops_follow_tokens = True  # whether training takes gpt.flops_per_token operations for each token

    def __init__(
        self,
        depth: int = 4,
        width: int | None = None,
        heads: int | None = None,
        kv_heads: int | None = None,
        vocab_size: int = 512,
        context: int = 512,
        matrix_lr: float | None = None,
        embedding_lr: float | None = None,
        head_lr: float | None = None,
        muon_every: int | None = None,
        muon_band: int | None = 32,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        warmdown: float = 0.4,
        final_lr: float = 0.0,
        compile: bool | None = None,
    ) -> None:
        super().__init__()
        at_least(0, "model.", matrix_lr=matrix_lr, embedding_lr=embedding_lr, head_lr=head_lr)
        at_least(1, "model.", muon_every=muon_every, muon_band=muon_band)
        for name, value in (("warmdown", warmdown), ("final_lr", final_lr)):
            if not 0 <= value <= 1:
                raise ValueError(f"--model.{name} must be from 0 to 1, not {value}")
        self.save_hyperparameters()
        self.weight_decay, self.muon_every, self.muon_band = weight_decay, muon_every, muon_band
        chosen = LearningRates(matrix_lr, embedding_lr, head_lr)
        self.learning_rates = LearningRatePlan(chosen, warmup_steps, warmdown, final_lr)
        self.compile_model = bool(compile)  # the command line has replaced null
        self.gpt = GPT(GPTConfig.from_options(depth, vocab_size, context, width, heads, kv_heads))
        self.val_bpb: BitsPerByte | None = None  # created in setup, when the tokenizer is known
        self.averages: LossAverages | None = None  # likewise
        self.complete: Callable[[Sequence[Prompt]], list[Generation]] | None = None  # set by the Completions callback

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next token at each position: (batch, time) ids to (batch, time, vocab_size)."""
        return self.gpt(ids)

    @property
    def data(self) -> RowsDataModule:
        """The run's data module."""
        return data_of(self.trainer)

    # ------------------------------------------------------------------------------------------- configure

    def setup(self, stage: str) -> None:
        data, device = self.data, self.trainer.strategy.root_device
        if stage == "fit":  # the largest block is the logits of a micro-step in float32; twice that, to be safe
            keep_freed_memory(2 * 4 * data.batch_size * data.row_length * data.vocab_size)
        # Lightning moves the module to the device after this hook
        self.val_bpb = BitsPerByte(data.tokenizer.token_bytes).to(device)
        self.averages = LossAverages(data.tokenizer.token_bytes, device)

    def configure_model(self) -> None:
        """Shards the model for FSDP, and compiles it. Lightning calls this after :meth:`setup`, every time."""
        if self.device_mesh is not None:
            shard(self.gpt, self.device_mesh["data_parallel"], str(self.trainer.precision))
        if self.compile_model and self.trainer.state.fn == "fit":
            self.gpt.compile_for_training()

    def configure_optimizers(self) -> Any:
        """Muon for the matrices in the blocks, AdamW for embedding and head, and the learning-rate schedule."""
        plan = self.learning_rates
        plan.total_steps = self.trainer.estimated_stepping_batches  # infinite where a time limit ends the run
        rates = plan.full(self.default_learning_rates(plan.total_steps))
        # In the order of the model's parameters: a checkpoint numbers the optimizer's states in the order of these
        # groups, and Lightning's ModelParallelStrategy takes the numbers for positions in the model.
        embedding, head = [self.gpt.wte.weight], [self.gpt.lm_head.weight]
        matrices, decay = list(self.gpt.transformer["h"].parameters()), self.weight_decay
        optimizer = MuonAdamW(
            [
                dict(name="embedding", params=embedding, algorithm="adamw", lr=rates["embedding"]),
                dict(name="matrices", params=matrices, algorithm="muon", lr=rates["matrices"], weight_decay=decay),
                dict(name="head", params=head, algorithm="adamw", lr=rates["head"]),
            ],
            every=self.muon_every or self.default_muon_every(),
            band=self.muon_band,
            muon_dtype=torch.bfloat16 if self.trainer.precision in ("bf16-mixed", "bf16-true") else torch.float32,
            processes=dist.group.WORLD,  # None in a single process
        )
        scheduler = LambdaLR(optimizer, lambda step: plan.factor(step))  # state_dict() skips plain functions
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def default_muon_every(self) -> int:
        """Steps between two Muon updates where the user has not set them."""
        return default_muon_every(self._tokens_per_step)

    def default_learning_rates(self, total_steps: float) -> LearningRates:
        """Full learning rates for a run of that length where the user has not set them."""
        every = self.muon_every or self.default_muon_every()
        return default_learning_rates(self.gpt.config.n_embd, self._tokens_per_step, total_steps, every)

    @property
    def _tokens_per_step(self) -> int:
        return self.data.tokens_per_step(self.trainer.world_size)

    def set_total_steps(self, steps: int, done: int = 0) -> None:
        """Adapts the learning rates to a run of another length, of which ``done`` steps are taken."""
        (config,) = self.trainer.lr_scheduler_configs
        rule = self.default_learning_rates(steps)
        self.learning_rates.change_length(steps, done, rule, self.trainer.optimizers[0], config.scheduler)

    # ------------------------------------------------------------------------------------------- step

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a micro-step, in nats per target.

        Fine-tuning has targets at a fraction of the positions, which differs from row to row. The loss is normalised by
        the expected number of targets, so every target has the same weight in any micro-step and on any device.
        """
        ids, targets = batch
        is_target = targets != IGNORE
        loss, losses = self.gpt.loss(ids, targets, is_target / (is_target.numel() * self.data.target_share))
        assert self.averages is not None
        self.averages.update(loss, losses, targets)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Bits per byte of held-out text, logged as the mean over the whole validation."""
        ids, targets = batch
        assert self.val_bpb is not None
        self.val_bpb.update(self.gpt.losses(ids, targets), targets)
        # a fixed subset of the held-out text during a run, all of it otherwise: the two scores are not comparable
        fitting = self.trainer.state.fn == "fit"
        name = "val/bpb" if fitting else "val/bpb_all"
        self.log(name, self.val_bpb, on_step=False, on_epoch=True, batch_size=1, logger=fitting)

    def predict_step(self, batch: Sequence[Prompt], batch_idx: int) -> list[Generation]:
        """Completions of a batch of prompts."""
        assert self.complete is not None
        return self.complete(batch)

    # ------------------------------------------------------------------------------------------- log

    def on_fit_start(self) -> None:
        if isinstance(self.logger, RunLogger):
            self.logger.tokens_after = self.data.tokens_seen

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs the gradient norm, and the mean loss and bits per byte of the steps since they were last logged."""
        if logs_step(self.trainer, self.global_step + 1):
            assert self.averages is not None
            self.log("train/gradient_norm", gradient_norm(self.gpt.parameters()))
            self.log("train/loss", self.averages.loss(), sync_dist=True)  # the mean over all devices
            self.log("train/bpb", self.averages.bits_per_byte())
            self.averages.reset()

    def on_validation_start(self) -> None:
        release_freed_memory()  # validation allocates blocks of other sizes than training

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the losses that are not logged yet: a resumed run logs the same averages."""
        if self.averages is not None:
            checkpoint["training_averages"] = self.averages.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "training_averages" in checkpoint and self.averages is not None:
            self.averages.load_state_dict(checkpoint["training_averages"])

    # ------------------------------------------------------------------------------------------- for the callbacks

    @staticmethod
    def tokens_in(batch: Any) -> int:
        """Tokens that a micro-step trains on."""
        return int(batch[1].numel())

    def example_batch(self) -> Any:
        """A micro-step for timing: random tokens take the same compute as text."""
        return random_batch(self.data.vocab_size, self.data.batch_size, self.data.row_length, self.device)

    def training_batch_shapes(self) -> int:
        """Number of different shapes of micro-steps in training; 0 if it is always the same one."""
        return 0
