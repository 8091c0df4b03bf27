"""The LightningModule of reinforcement learning: a GPT that learns from rewards for its own answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from nanochat.data.conversations.question_order import MicroStep
from nanochat.data.question_data import QuestionsDataModule
from nanochat.evaluation.task_accuracy import MAX_TOKENS, generate_answers
from nanochat.inference.engine import Engine
from nanochat.optim.learning_rates import WIDTH, WIDTH_EXPONENT, LearningRates
from nanochat.training.language_model import LanguageModel
from nanochat.training.metrics import gradient_norm
from nanochat.training.rollout_statistics import RolloutSums, average_over_groups, sum_over_groups
from nanochat.training.rollouts import Row, generate_groups, number_of_shapes, rows_with_signal, to_tensors
from nanochat.training.sharding import FullyShardedStrategy
from nanochat.training.trainer_state import logs_step

# Measured with the tiny shape (benchmarks/README.md); those of the tables depend on the width as in pretraining.
MATRIX, EMBEDDING, HEAD = 0.002, 0.02, 0.001


class Reinforce(LanguageModel):
    """A LanguageModel that is trained with REINFORCE (Williams 1992), as in nanochat.

    In each step the model samples several answers to each question with its current weights (on-policy, so there is no
    ratio to clip). A correct answer has the reward 1, any other 0. The loss over all answers of the step is

        - sum(advantage of the answer x log-probability of the token) / number of tokens

    over the tokens that the model sampled, without the question and the calculator's output. The advantage is the
    reward minus the mean reward of the answers to the same question. A token has the same weight in a long and in a
    short answer ("token-level normalisation", as in DAPO, arXiv 2503.14476). There is no KL penalty.

    The arguments are those of :class:`LanguageModel`; the default learning rates are others.
    """

    flops_follow_tokens = False  # reading questions, sampling answers and training on some of them cost differently
    averages: RolloutSums | None  # type: ignore[assignment]

    @property
    def data(self) -> QuestionsDataModule:
        data: QuestionsDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    # ------------------------------------------------------------------------------------------- configure

    def setup(self, stage: str) -> None:
        if isinstance(self.trainer.strategy, FullyShardedStrategy):
            raise ValueError(
                "--trainer.strategy: a model that is sharded over several devices cannot generate answers; use ddp"
            )
        super().setup(stage)
        self.averages = RolloutSums()
        self.val_accuracy = MeanMetric().to(self.device)
        self._rows: list[Row] = []  # of this step on this device
        self._tokens = (0, 1)  # sampled in this step on this device, and on all devices
        self._has_signal = False  # whether any device has rows to train on in this step

    def default_muon_every(self) -> int:
        return 1

    def default_learning_rates(self, total_steps: float) -> LearningRates:
        by_width = (self.gpt.config.n_embd / WIDTH) ** WIDTH_EXPONENT
        return LearningRates(MATRIX, EMBEDDING * by_width, HEAD * by_width)

    # ------------------------------------------------------------------------------------------- step

    def training_step(self, batch: MicroStep, batch_idx: int) -> Tensor:  # type: ignore[override]
        """A micro-step. The first one of a step generates all answers; each trains on its share of them.

        Returns:
            The loss of its rows, times the number of micro-steps and of devices, by which Lightning divides.
        """
        if batch.number == 0:
            self._generate(batch)
        micro_steps = self.trainer.accumulate_grad_batches
        size = max(self.data.batch_size, -(-len(self._rows) // micro_steps))
        rows = self._rows[batch.number * size : (batch.number + 1) * size]
        tensors = to_tensors(rows, self.data.tokenizer.bos, self.gpt.context, self.data.batch_size)
        ids, targets, weights = (tensor.to(self.device) for tensor in tensors)
        scale = micro_steps * self.trainer.world_size / self._tokens[1]
        loss, losses = self.gpt.loss(ids, targets, weights * scale)
        assert self.averages is not None
        learned = float((weights != 0).sum())
        self.averages.add(loss=loss.item() / micro_steps, nats=float(losses.sum()), learned=learned)
        return loss

    def _generate(self, batch: MicroStep) -> None:
        """Generates the answers of a step with the current weights."""
        data, engine = self.data, Engine(self.gpt, self.data.tokenizer)  # a new one: engines prepare the weights
        at_once = max(data.batch_size, data.samples)
        groups = generate_groups(engine, batch.questions, data.samples, data.max_tokens, data.seed, at_once)
        tokens = sum(answer.tokens for group in groups for answer in group)
        self._rows = rows_with_signal(groups)
        totals = self._sum_over_devices({"tokens": float(tokens), "rows": float(len(self._rows))})
        self._tokens = tokens, max(1, int(totals["tokens"]))
        self._has_signal = totals["rows"] > 0
        assert self.averages is not None
        self.averages.add(steps=1.0, **sum_over_groups(groups, data.samples))

    def _sum_over_devices(self, values: dict[str, float]) -> dict[str, float]:
        """The sums over all devices. Every process has to call it."""
        if self.trainer.world_size == 1:
            return values
        summed = self.trainer.strategy.reduce(torch.tensor([*values.values()]).to(self.device), reduce_op="sum")
        return dict(zip(values, summed.tolist(), strict=True))  # type: ignore[union-attr]

    def on_train_batch_end(self, outputs: Any, batch: MicroStep, batch_idx: int) -> None:
        if batch.number == 0:
            self.data.count_tokens(self._tokens[1])

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy on held-out questions, beside the bits per byte of their reference answers."""
        if self.trainer.state.fn == "fit":
            self.measure_accuracy()
            self.log("val/accuracy", self.val_accuracy)

    def measure_accuracy(self) -> float:
        """The fraction of held-out questions that the model answers correctly with greedy decoding."""
        data, trainer = self.data, self.trainer
        own_items = data.val_items[trainer.global_rank :: trainer.world_size]
        with trainer.precision_plugin.val_step_context():
            engine = Engine(self.gpt, data.tokenizer)
            answers = generate_answers(engine, [item for _, item in own_items], max(MAX_TOKENS, data.max_tokens))
        self.val_accuracy.reset()
        for (task, item), answer in zip(own_items, answers, strict=True):
            self.val_accuracy.update(float(task.check(item, answer)))
        return float(self.val_accuracy.compute())

    # ------------------------------------------------------------------------------------------- log

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs the averages since they were last logged; leaves the weights unchanged in a step without a signal."""
        if logs_step(self.trainer, self.global_step + 1):
            self._log_averages()
        if not self._has_signal:  # Muon's update has the same size for any gradient, even for momentum alone
            for parameter in self.parameters():
                parameter.grad = None

    def _log_averages(self) -> None:
        assert self.averages is not None
        self.log("train/gradient_norm", gradient_norm(self.gpt.parameters()))
        sums = self._sum_over_devices(self.averages.values)
        steps, nats, learned = sums.pop("steps"), sums.pop("nats"), sums.pop("learned")
        self.log("train/loss", sums.pop("loss") / steps)
        if learned:  # the mean of -log p over samples of p estimates the entropy; here over the rows with a signal
            self.log("train/entropy", nats / learned)
        for name, value in average_over_groups(sums).items():
            self.log(f"train/{name}", value)
        self.averages.reset()

    # ------------------------------------------------------------------------------------------- for the callbacks

    def tokens_in(self, batch: MicroStep) -> int:  # type: ignore[override]
        """Tokens that this device has sampled for the step, at its first micro-step; 0 at the others."""
        return self._tokens[0] if batch.number == 0 else 0

    def example_batch(self) -> MicroStep:
        """As many questions as give one micro-step of answers."""
        order, count = self.data.order, max(1, self.data.batch_size // self.data.samples)
        return MicroStep([order.question(index) for index in range(count)], 0)

    def training_batch_shapes(self) -> int:
        """At most; the shapes of the micro-steps depend on the lengths of the answers."""
        return number_of_shapes(self.data.batch_size, self.data.row_length)
