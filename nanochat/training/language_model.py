"""The LightningModule of pretraining: a GPT that learns to predict the next token."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from nanochat.model import GPT, IGNORE
from nanochat.optim import MuonAdamW
from nanochat.optim.learning_rates import LearningRates, default_learning_rates
from nanochat.optim.schedule import learning_rate_factor
from nanochat.training.metrics import BitsPerByte
from nanochat.training.run_logger import RunLogger
from nanochat.training.steps import ends_step, logs_step

Batch = tuple[Tensor, Tensor]  # ids and targets, both (rows, time), int64


class LanguageModel(LightningModule):
    """nanochat's GPT with its loss, its optimizer and its metric.

    The depth is the one dial: width, heads and learning rates follow from it unless they are set.

    Args:
        depth: number of transformer blocks.
        width: size of the residual stream; null takes 64 x depth.
        heads: number of attention heads; null takes heads of 64 (of 128 above width 768).
        kv_heads: number of key and value heads, fewer than heads for grouped-query attention; null takes heads.
        vocab_size: number of tokens in the vocabulary.
        context: the longest row of tokens that the model reads.
        matrix_lr: learning rate of the matrices in the blocks (Muon); null takes the rule.
        embedding_lr: learning rate of the token embedding (AdamW); null takes the rule.
        head_lr: learning rate of the output head (AdamW); null takes the rule.
        weight_decay: of the matrices in the blocks, per unit of learning rate.
        warmup_steps: steps over which the learning rates rise from zero.
        warmdown: the last share of the run, from 0 to 1, over which the learning rates fall in a straight line.
        final_lr: what they fall to, as a share of their full value.
        compile: whether to compile the model with torch.compile: faster steps after a slow start.

    Raises:
        ValueError: if the sizes do not fit each other or a number is out of range.
    """

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
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        warmdown: float = 0.4,
        final_lr: float = 0.0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("matrix_lr", matrix_lr), ("embedding_lr", embedding_lr), ("head_lr", head_lr)):
            if value is not None and value < 0:
                raise ValueError(f"--model.{name} must not be negative, but is {value}")
        for name, value in (("warmdown", warmdown), ("final_lr", final_lr)):
            if not 0 <= value <= 1:
                raise ValueError(f"--model.{name} is a share from 0 to 1, not {value}")
        self.save_hyperparameters()
        self.learning_rates = LearningRates(matrix_lr, embedding_lr, head_lr)
        self.weight_decay = weight_decay
        self.warmup_steps, self.warmdown, self.final_lr = warmup_steps, warmdown, final_lr
        self.compile_model = compile
        self.gpt = GPT(depth, vocab_size, context, width, heads, kv_heads)
        self._losses = self.gpt.losses
        self.val_bpb: BitsPerByte | None = None  # made in setup, when the tokenizer is known
        self.train_bpb: BitsPerByte | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next token at each place: (batch, time) ids to (batch, time, vocab_size)."""
        return self.gpt(ids)

    def setup(self, stage: str) -> None:
        token_bytes = self.trainer.datamodule.tokenizer.token_bytes  # type: ignore[attr-defined]
        self.val_bpb = BitsPerByte(token_bytes).to(self.device)
        self.train_bpb = BitsPerByte(token_bytes).to(self.device)
        self._loss_sum = torch.zeros((), device=self.device)  # since the last time it was logged
        self._loss_count = 0
        if self.compile_model and stage == "fit":
            self._losses = torch.compile(self.gpt.losses)

    def on_fit_start(self) -> None:
        if isinstance(self.logger, RunLogger):
            self.logger.tokens_per_step = self.trainer.datamodule.tokens_per_step(self.trainer.world_size)  # type: ignore

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a micro-step, in nats per token."""
        ids, targets = batch
        losses = self._losses(ids, targets)
        loss = losses.sum() / (targets != IGNORE).sum()
        assert self.train_bpb is not None
        self.train_bpb.update(losses.detach(), targets)
        self._loss_sum += loss.detach()
        self._loss_count += 1
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if logs_step(self.trainer, self.global_step + 1):
            gradients = [p.grad for p in self.gpt.parameters() if p.grad is not None]
            self.log("train/gradient_norm", torch.nn.utils.get_total_norm(gradients))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Logs the mean loss and the bits per byte of the steps since the last time."""
        if ends_step(self.trainer, batch_idx) and logs_step(self.trainer, self.global_step):
            assert self.train_bpb is not None
            self.log("train/loss", self._loss_sum / self._loss_count)
            self.log("train/bpb", self.train_bpb.compute().float())
            self.reset_training_averages()

    def reset_training_averages(self) -> None:
        """Forgets the losses gathered so far."""
        assert self.train_bpb is not None
        self.train_bpb.reset()
        self._loss_sum.zero_()
        self._loss_count = 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        ids, targets = batch
        assert self.val_bpb is not None
        self.val_bpb.update(self.gpt.losses(ids, targets), targets)
        # a fixed part during a run, all of the held-out text otherwise: two curves that are not to be mixed
        name = "val/bpb" if self.trainer.state.fn == "fit" else "val/bpb_all"
        self.log(name, self.val_bpb, on_step=False, on_epoch=True, batch_size=1)

    def configure_optimizers(self) -> Any:
        width, world_size = self.gpt.shape.width, self.trainer.world_size
        tokens_per_step = self.trainer.datamodule.tokens_per_step(world_size)  # type: ignore[attr-defined]
        total_steps = self.trainer.estimated_stepping_batches  # infinite where a clock ends the run
        rates = self.learning_rates.or_else(default_learning_rates(width, tokens_per_step, total_steps))
        on_bf16 = self.trainer.precision in ("bf16-mixed", "bf16-true")
        matrices = list(self.gpt.blocks.parameters())
        optimizer = MuonAdamW(
            [
                dict(
                    name="matrices",
                    params=matrices,
                    algorithm="muon",
                    lr=rates.matrix,
                    weight_decay=self.weight_decay,
                ),
                dict(name="embedding", params=[self.gpt.embedding.weight], algorithm="adamw", lr=rates.embedding),
                dict(name="head", params=[self.gpt.head.weight], algorithm="adamw", lr=rates.head),
            ],
            muon_dtype=torch.bfloat16 if on_bf16 else torch.float32,
        )

        def factor(step: int) -> float:
            return learning_rate_factor(step, total_steps, self.warmup_steps, self.warmdown, self.final_lr)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
