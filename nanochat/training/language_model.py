"""The LightningModule of all stages: a GPT that learns to predict the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.distributed.tensor import DTensor

from nanochat.allocator import keep_memory, return_memory
from nanochat.data.data_module import RowsDataModule
from nanochat.data.prompt_data import Prompt
from nanochat.data.synthetic import random_batch
from nanochat.data.tokens.batches import Batch
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.model import GPT, IGNORE, GPTConfig
from nanochat.optim import MuonAdamW
from nanochat.optim.learning_rates import LearningRates, default_learning_rates, default_muon_every
from nanochat.optim.schedule import learning_rate_factor
from nanochat.options import at_least
from nanochat.training.metrics import BitsPerByte
from nanochat.training.run_logger import RunLogger
from nanochat.training.sharding import shard
from nanochat.training.trainer_state import data_of, logs_step


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
        muon_every: steps after which the matrices in the blocks move, each time by what all of these steps have taught;
            null takes so many that Muon's work stays small beside the model's (1 where steps are large).
        muon_band: rows of a matrix that Muon orthogonalizes together: a fraction of the work that a whole matrix takes,
            which null stands for.
        weight_decay: of the matrices in the blocks, per unit of learning rate.
        warmup_steps: steps over which the learning rates rise from zero.
        warmdown: the last share of the run, from 0 to 1, over which the learning rates fall in a straight line.
        final_lr: what they fall to, as a share of their full value.
        compile: whether to compile the model with torch.compile: faster steps after a slow start. null does so where it
            pays: on a GPU, and on a CPU in runs of three minutes or more if there is a C++ compiler.

    Raises:
        ValueError: if the sizes do not fit each other or a number is out of range.
    """

    counts_operations = True  # whether its tokens say how many operations it took to learn from them

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
        self.learning_rates = LearningRates(matrix_lr, embedding_lr, head_lr)
        at_least(0, "model.", matrix_lr=matrix_lr, embedding_lr=embedding_lr, head_lr=head_lr)
        at_least(1, "model.", muon_every=muon_every, muon_band=muon_band)
        for name, value in (("warmdown", warmdown), ("final_lr", final_lr)):
            if not 0 <= value <= 1:
                raise ValueError(f"--model.{name} is a share from 0 to 1, not {value}")
        self.save_hyperparameters()
        self.weight_decay, self.muon_every, self.muon_band = weight_decay, muon_every, muon_band
        self.warmup_steps, self.warmdown, self.final_lr = warmup_steps, warmdown, final_lr
        self.compile_model = bool(compile)  # the command line decides what null stands for
        self.gpt = GPT(GPTConfig.from_options(depth, vocab_size, context, width, heads, kv_heads))
        self._writing: tuple[Engine, Sampling, int | None, int]  # there after write_as
        self.val_bpb: BitsPerByte | None = None  # made in setup, when the tokenizer is known
        self.train_bpb: BitsPerByte | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of the next token at each place: (batch, time) ids to (batch, time, vocab_size)."""
        return self.gpt(ids)

    @property
    def data(self) -> RowsDataModule:
        """What it learns from."""
        return data_of(self.trainer)

    def setup(self, stage: str) -> None:
        data = self.data
        if stage == "fit":  # the largest block of a step holds a micro-step's logits in float32; with room to spare
            keep_memory(2 * 4 * data.batch_size * data.row_length * data.vocab_size)
        token_bytes = data.tokenizer.token_bytes
        device = self.trainer.strategy.root_device  # where Lightning is going to bring the module, after this
        self.val_bpb = BitsPerByte(token_bytes).to(device)
        self.train_bpb = BitsPerByte(token_bytes).to(device)
        self._loss_sum = torch.zeros((), device=device)  # since the last time it was logged
        self._loss_count = 0

    def configure_model(self) -> None:
        """Shards the model where the strategy asks for it. Lightning calls this after :meth:`setup`, each time."""
        if self.device_mesh is not None:
            shard(self.gpt, self.device_mesh["data_parallel"], str(self.trainer.precision))
        if self.compile_model and self.trainer.state.fn == "fit":
            self.gpt.compile_for_training()

    def _tokens_per_step(self) -> int:
        return self.data.tokens_per_step(self.trainer.world_size)

    def on_fit_start(self) -> None:
        if isinstance(self.logger, RunLogger):
            self.logger.tokens_after = self.data.tokens_seen

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of a micro-step, in nats per token that is to be learned.

        Where only a share of the tokens is, their number differs from row to row. It is not what the sum is divided
        by, but what it is on average: so a token weighs the same, whichever micro-step or device it comes to.
        """
        ids, targets = batch
        counts = targets != IGNORE
        loss, losses = self.gpt.loss(ids, targets, counts / (counts.numel() * self.data.target_share))
        assert self.train_bpb is not None
        self.train_bpb.update(losses, targets)
        self._loss_sum += loss.detach()
        self._loss_count += 1
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs the mean loss and the bits per byte of the steps since the last time, and how large the gradient is."""
        if logs_step(self.trainer, self.global_step + 1):
            self.log("train/gradient_norm", self.gradient_norm())
            assert self.train_bpb is not None
            self.log("train/loss", self._loss_sum / self._loss_count, sync_dist=True)  # the mean over all devices
            self.log("train/bpb", self.train_bpb.compute().float())
            self.reset_training_averages()

    def gradient_norm(self) -> Tensor:
        """How large the gradient of all parameters together is."""
        gradients = [p.grad for p in self.gpt.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def training_batch_shapes(self) -> int:
        """Number of different shapes of micro-steps in training; 0 if it is always the same one."""
        return 0

    def example_batch(self) -> Any:
        """A micro-step that takes as long as a real one: random tokens are as much work."""
        return random_batch(self.data.vocab_size, self.data.batch_size, self.data.row_length, self.device)

    @staticmethod
    def tokens_in(batch: Any) -> int:
        """Tokens that a micro-step learns from."""
        return int(batch[1].numel())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Losses that are not logged yet belong to the next line of the log, whichever process writes it."""
        if self.train_bpb is not None:
            checkpoint["training_averages"] = self.training_averages()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "training_averages" in checkpoint and self.train_bpb is not None:
            self.take_training_averages(checkpoint["training_averages"])

    def training_averages(self) -> dict[str, Any]:
        """The losses gathered since they were last logged, as plain values."""
        assert self.train_bpb is not None
        sums = (self._loss_sum, self.train_bpb.nats, self.train_bpb.bytes)
        return {"sums": [value.clone().cpu() for value in sums], "count": self._loss_count}

    def take_training_averages(self, averages: dict[str, Any]) -> None:
        """Goes on from what :meth:`training_averages` returned."""
        assert self.train_bpb is not None
        sums = (self._loss_sum, self.train_bpb.nats, self.train_bpb.bytes)
        for mine, its in zip(sums, averages["sums"], strict=True):
            mine.copy_(its)
        self._loss_count = averages["count"]

    def reset_training_averages(self) -> None:
        """Forgets the losses gathered so far."""
        assert self.train_bpb is not None
        self.train_bpb.reset()
        self._loss_sum.zero_()
        self._loss_count = 0

    def on_validation_start(self) -> None:
        return_memory()  # scores are taken of larger batches than training's: they need other room

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        ids, targets = batch
        assert self.val_bpb is not None
        self.val_bpb.update(self.gpt.losses(ids, targets), targets)
        # a fixed part during a run, all of the held-out text otherwise: two scores that are not to be mixed
        fitting = self.trainer.state.fn == "fit"
        name = "val/bpb" if fitting else "val/bpb_all"
        self.log(name, self.val_bpb, on_step=False, on_epoch=True, batch_size=1, logger=fitting)

    def write_as(self, settings: Sampling, max_tokens: int | None, seed: int) -> None:
        """Takes note of how :meth:`predict_step` is to write: the n-th text with the seed plus n."""
        self._writing = Engine(self.gpt, self.data.tokenizer), settings, max_tokens, seed

    def predict_step(self, batch: Sequence[Prompt], batch_idx: int) -> list[Generation]:
        """The completions of prompts, all of them written together."""
        engine, settings, max_tokens, seed = self._writing
        started = [engine.start(p.ids, settings, max_tokens, seed + p.number)[0] for p in batch]
        engine.run(started)
        return started

    def configure_optimizers(self) -> Any:
        self.total_steps = self.trainer.estimated_stepping_batches  # infinite where a clock ends the run
        rates = self._learning_rates()._asdict()
        on_bf16 = self.trainer.precision in ("bf16-mixed", "bf16-true")
        # In the order of the model's parameters: a checkpoint numbers the optimizer's states in the order of these
        # groups, and Lightning's ModelParallelStrategy takes the numbers for places in the model.
        embedding, head, matrices = (
            [self.gpt.wte.weight],
            [self.gpt.lm_head.weight],
            list(self.gpt.transformer["h"].parameters()),
        )
        decay = self.weight_decay
        optimizer = MuonAdamW(
            [
                dict(name="embedding", params=embedding, algorithm="adamw", lr=rates["embedding"]),
                dict(name="matrices", params=matrices, algorithm="muon", lr=rates["matrices"], weight_decay=decay),
                dict(name="head", params=head, algorithm="adamw", lr=rates["head"]),
            ],
            every=self._muon_every(),
            band=self.muon_band,
            muon_dtype=torch.bfloat16 if on_bf16 else torch.float32,
            processes=dist.group.WORLD,  # None where this is the only one
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.learning_rate_factor(step, self.total_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _muon_every(self) -> int:
        return self.muon_every or default_muon_every(self._tokens_per_step())

    def _learning_rates(self) -> LearningRates:
        """What the user has set, and what the rule says for a run of so many steps."""
        width, every = self.gpt.config.n_embd, self._muon_every()
        rule = default_learning_rates(width, self._tokens_per_step(), self.total_steps, every)
        return self.learning_rates.or_else(rule)

    def plan_for(self, steps: int, done: int = 0) -> None:
        """Takes note of how many steps there are going to be, and how many are done: learning rates depend on it."""
        self.total_steps = steps
        rates = self._learning_rates()._asdict()
        (config,) = self.trainer.lr_scheduler_configs
        for index, group in enumerate(self.trainer.optimizers[0].param_groups):
            group["initial_lr"] = config.scheduler.base_lrs[index] = rates[group["name"]]
            group["lr"] = group["initial_lr"] * self.learning_rate_factor(done, steps)

    def learning_rate_factor(self, step: int, total_steps: float) -> float:
        """What the learning rates are multiplied by after so many steps of a run of ``total_steps``."""
        return learning_rate_factor(step, total_steps, self.warmup_steps, self.warmdown, self.final_lr)
