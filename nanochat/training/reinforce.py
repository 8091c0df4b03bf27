"""The LightningModule of reinforcement learning: a GPT that learns from which of its own answers are right."""

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
from nanochat.training.rollouts import (
    Row,
    averages,
    number_of_sizes,
    rows_with_signal,
    tally,
    to_tensors,
    write_groups,
)
from nanochat.training.sharding import FullyShardedStrategy
from nanochat.training.trainer_state import logs_step

# Measured with the tiny shape (benchmarks/README.md); those of tables follow the width as in pretraining.
MATRIX, EMBEDDING, HEAD = 0.002, 0.02, 0.001


class Reinforce(LanguageModel):
    """A LanguageModel that learns by REINFORCE (Williams 1992), as nanochat does it.

    In each step it answers questions, several times each, as it would by its weights of now (on-policy, so there is no
    ratio to clip); a right answer has the reward 1, any other 0. The loss is, over all answers of the step,

        - sum(advantage of the answer x log-probability of the token) / number of tokens

    over the tokens that the model chose: not the question's, and not those that the calculator told it. The advantage
    is the reward minus the mean reward of the answers to the same question. A token weighs the same in whatever answer
    it stands ("token-level normalisation", as in DAPO, arXiv 2503.14476). No KL term holds it near where it began.

    The arguments are those of :class:`LanguageModel`; learning rates that are null take a rule of their own.
    """

    counts_operations = (
        False  # reading questions, writing answers and learning from some of them is work of three kinds
    )

    @property
    def data(self) -> QuestionsDataModule:
        data: QuestionsDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    def setup(self, stage: str) -> None:
        if isinstance(self.trainer.strategy, FullyShardedStrategy):
            raise ValueError(
                "--trainer.strategy: a model that is dealt out to several devices writes no answers to learn from; "
                "take ddp"
            )
        super().setup(stage)
        self.val_accuracy = MeanMetric().to(self.device)
        self._rows: list[Row] = []  # of the step
        self._tokens = (0, 1)  # that the step's answers have: on this device, on all
        self._has_signal = False  # whether any device has answers to learn from in this step
        self._sums: dict[str, float] = {}  # of this device, since they were last logged

    # --------------------------------------------------------------------------------------------- a training step

    def training_step(self, batch: MicroStep, batch_idx: int) -> Tensor:  # type: ignore[override]
        """A micro-step: the first of a step writes all answers, and each learns from some of them.

        Returns:
            The loss of its rows, times the number of micro-steps and devices, by which Lightning divides.
        """
        if batch.number == 0:
            self._write_answers(batch)
        parts = self.trainer.accumulate_grad_batches
        size = max(self.data.batch_size, -(-len(self._rows) // parts))
        rows = self._rows[batch.number * size : (batch.number + 1) * size]
        tensors = to_tensors(rows, self.data.tokenizer.bos, self.gpt.context, self.data.batch_size)
        ids, targets, weights = (part.to(self.device) for part in tensors)
        scale = parts * self.trainer.world_size / self._tokens[1]
        loss, losses = self.gpt.loss(ids, targets, weights * scale)
        self._add(loss=loss.item() / parts, nats=float(losses.sum()), learned=float((weights != 0).sum()))
        return loss

    def _write_answers(self, batch: MicroStep) -> None:
        data = self.data
        engine = Engine(self.gpt, data.tokenizer)  # anew: it is to have the weights of now
        questions, at_once = batch.questions, max(data.batch_size, data.samples)
        groups = write_groups(engine, questions, data.samples, data.max_tokens, data.seed, at_once)
        tokens = sum(answer.tokens for group in groups for answer in group)
        self._rows = rows_with_signal(groups)
        everywhere = self._over_devices({"tokens": float(tokens), "rows": float(len(self._rows))})
        self._tokens = tokens, max(1, int(everywhere["tokens"]))
        self._has_signal = everywhere["rows"] > 0
        self._add(steps=1.0, **tally(groups, data.samples))

    def _add(self, **values: float) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def _over_devices(self, values: dict[str, float]) -> dict[str, float]:
        """The sums over all devices. All have to ask."""
        if self.trainer.world_size == 1:
            return values
        summed = self.trainer.strategy.reduce(torch.tensor([*values.values()]).to(self.device), reduce_op="sum")
        return dict(zip(values, summed.tolist(), strict=True))  # type: ignore[union-attr]

    def on_train_batch_end(self, outputs: Any, batch: MicroStep, batch_idx: int) -> None:
        if batch.number == 0:
            self.data.count_tokens(self._tokens[1])

    def tokens_in(self, batch: MicroStep) -> int:  # type: ignore[override]
        """Tokens that the model has written for this step on this device, at its first micro-step."""
        return self._tokens[0] if batch.number == 0 else 0

    def training_batch_shapes(self) -> int:
        """At most; the shapes of the micro-steps depend on the lengths of the answers."""
        return number_of_sizes(self.data.batch_size, self.data.row_length)

    def example_batch(self) -> MicroStep:
        """So few questions that their answers fill one micro-step."""
        order, count = self.data.order, max(1, self.data.batch_size // self.data.samples)
        return MicroStep([order.question(index) for index in range(count)], 0)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Logs what the answers of the steps since the last time were like, and how large the gradient is."""
        if logs_step(self.trainer, self.global_step + 1):
            self._log_answers()
        if not self._has_signal:  # Muon's moves are as large whatever the gradient, even where only momentum is left
            for parameter in self.parameters():
                parameter.grad = None

    def _log_answers(self) -> None:
        self.log("train/gradient_norm", self.gradient_norm())
        sums = self._over_devices(self._sums)
        steps, nats, learned = sums.pop("steps"), sums.pop("nats"), sums.pop("learned")
        self.log("train/loss", sums.pop("loss") / steps)
        if learned:  # the mean of -log p over what was drawn from p estimates the entropy, here where answers differ
            self.log("train/entropy", nats / learned)
        for name, value in averages(sums).items():
            self.log(f"train/{name}", value)
        self.reset_training_averages()

    def training_averages(self) -> dict[str, Any]:
        return dict(self._sums)

    def take_training_averages(self, averages: dict[str, Any]) -> None:
        self._sums = dict(averages)

    def reset_training_averages(self) -> None:
        self._sums = {}

    # -------------------------------------------------------------------------------------------- held-out questions

    def on_validation_epoch_end(self) -> None:
        """Asks held-out questions, besides the bits per byte of their right answers."""
        if self.trainer.state.fn == "fit":
            self.ask()
            self.log("val/accuracy", self.val_accuracy)

    def ask(self) -> float:
        """The share of held-out questions that the model answers rightly, with the likeliest token each time."""
        data, trainer = self.data, self.trainer
        mine = data.val_items[trainer.global_rank :: trainer.world_size]
        with trainer.precision_plugin.val_step_context():
            engine = Engine(self.gpt, data.tokenizer)
            answers = generate_answers(engine, [item for _, item in mine], max(MAX_TOKENS, data.max_tokens))
        self.val_accuracy.reset()
        for (task, item), answer in zip(mine, answers, strict=True):
            self.val_accuracy.update(float(task.check(item, answer)))
        return float(self.val_accuracy.compute())

    # -------------------------------------------------------------------------------------------------- the optimizer

    def _muon_every(self) -> int:
        return self.muon_every or 1

    def _learning_rates(self) -> LearningRates:
        by_width = (self.gpt.config.n_embd / WIDTH) ** WIDTH_EXPONENT
        rule = LearningRates(MATRIX, EMBEDDING * by_width, HEAD * by_width)
        return self.learning_rates.or_else(rule)
