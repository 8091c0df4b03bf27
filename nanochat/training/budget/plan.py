"""Before the first step: what is going to be trained, how long it takes, and whether it fits."""

from __future__ import annotations

import time
from typing import Any

import psutil
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from nanochat.data.chat_data import ChatDataModule
from nanochat.data.data_module import RowsDataModule
from nanochat.training.budget.memory import check_memory, expected_memory, fit_batch
from nanochat.training.budget.timing import StepTimes, time_step
from nanochat.training.callbacks.task_scores import TaskScores
from nanochat.training.callbacks.throughput import Throughput
from nanochat.training.console import count, duration, say, size, table
from nanochat.training.hardware import describe_device
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of, ends_step, find_callback, validations_left
from nanochat.wording import plural

AROUND_A_STEP = 1.03  # a real step, with its batch, its logs and its checkpoints, takes so much of a timed one's time
ENDING_SECONDS = 2.5  # after the last step, besides the scores: the checkpoint, the samples, what Python clears away
AROUND_A_SCORE = 1.25  # real scores, of rows of all lengths, take so much of a timed one's time
TOKENS_PER_ANSWER = 150  # to answer a held-out question takes about as long as to score so many tokens
VALIDATING = 0.04  # of the time given may be spent in validations on the way; but one there is always
SCORING = 0.1  # of the time given is kept for the scores at the end; where they take more, so does the run
LEAST_STEPS = 10  # of a run that a clock ends
LOOK_AGAIN = (0.15, 0.3, 0.45, 0.58, 0.8, 0.93)  # after these shares of the steps, those since the last look are timed
LATE = 0.2  # once the learning rates fall, the steps that are left become fewer or more by at most this share
WORTH_SAYING = 0.1  # a plan that changes by more than this


class Plan(Callback):
    """Refuses what cannot fit into memory, times a few steps, and tells the user what is to come.

    Args:
        minutes: the time that the run is to take, from the command to its end, the scores at the end included: where
            --trainer.max_steps does not say how many steps to take, it takes as many as fit on this machine. null:
            as many as serve a model of this size best.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and minutes <= 0:
            raise ValueError(f"--plan.minutes must be above 0, not {minutes:g}")
        self.minutes = minutes
        self.expected_seconds: float | None = None  # from the first step to the final score
        self._times = StepTimes(0.0, 0.0)
        self._chosen = False  # whether the number of steps comes from here
        self._looked = 0.0  # when training began, or its speed was looked at
        self._timed = 0.0  # seconds that the steps since then should have taken
        self._validating = 0.0  # seconds spent in validations since then
        self._validations = 0  # that have been taken
        self._looks = list(LOOK_AGAIN)  # still to come

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The data are there, and Lightning has not counted micro-steps yet."""
        assert isinstance(pl_module, LanguageModel)
        if stage == "fit":
            fit_batch(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is on its device, and nothing else has been allocated yet."""
        assert isinstance(pl_module, LanguageModel)
        check_memory(trainer, pl_module)
        self._times = time_step(trainer, pl_module)
        if self.minutes is not None and trainer.max_steps == -1 and find_callback(trainer, Timer) is None:
            self._chosen = True
            data = data_of(trainer)
            self._afford_validations(trainer)
            steps = max(LEAST_STEPS, self._fitting(trainer, pl_module, AROUND_A_STEP, data.validations))
            trainer.fit_loop.epoch_loop.max_steps = steps
            pl_module.plan_for(steps)
            data.space_validations(steps)

    def _afford_validations(self, trainer: Trainer) -> None:
        """Fewer of them in a short run."""
        assert self.minutes is not None
        data = data_of(trainer)
        each = trainer.strategy.broadcast(self._seconds_to_validate(data))
        data.validations = max(1, min(data.validations, int(VALIDATING * 60 * self.minutes / each)))

    def _fitting(self, trainer: Trainer, module: LanguageModel, slower: float, validations: int) -> int:
        """How many steps a run may have, of which those to come fit into what is left of the time.

        Args:
            trainer: where the run stands.
            module: what is trained.
            slower: times their timed seconds is what steps take.
            validations: that are still to come.

        Returns:
            The first rank's word.
        """
        assert self.minutes is not None
        data, done = data_of(trainer), trainer.global_step
        scoring = validations * self._seconds_to_validate(data) if trainer.enable_validation else 0.0
        elapsed = time.time() - psutil.Process().create_time()
        ending = ENDING_SECONDS + kept_for_scores(self._seconds_to_score(trainer), self.minutes)
        left = (60 * self.minutes - elapsed - scoring - ending) / slower
        return int(trainer.strategy.broadcast(done + int(left / self._times.step)))

    def _seconds_to_score(self, trainer: Trainer) -> float:
        """That the scores after the last step take: all of the held-out text, and questions to an assistant."""
        data, scores = data_of(trainer), find_callback(trainer, TaskScores)
        tokens = data.held_out.predictions if data.validate_all and trainer.enable_validation else 0
        if scores is not None and isinstance(data, ChatDataModule):
            tokens += TOKENS_PER_ANSWER * scores.count(data)
        return seconds_to_score(tokens, self._times.token)

    def _seconds_to_validate(self, data: RowsDataModule) -> float:
        """That each validation during the run takes."""
        return data.val_predictions * self._times.token

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Now and then a better plan, by the real speed.

        Until the learning rates begin to fall, they become those of the better plan, as the rule has other ones for a
        run of other steps; from then on they only fall a little faster or slower.
        """
        assert isinstance(pl_module, LanguageModel)
        if not ends_step(trainer, batch_idx):
            return
        done = trainer.global_step
        self._timed += self._times.step
        due = self._chosen and self._looks and done >= max(1, int(self._looks[0] * trainer.max_steps))
        if not due or done >= trainer.max_steps:
            return
        self._looks.pop(0)
        slower = (time.monotonic() - self._looked - self._validating) / self._timed
        self._looked, self._timed, self._validating = time.monotonic(), 0.0, 0.0
        data = data_of(trainer)
        left = max(1, data.validations - self._validations)
        fitting = self._fitting(trainer, pl_module, slower, left)
        total = self._better_plan(done, trainer.max_steps, fitting, pl_module.warmdown)
        if abs(total - trainer.max_steps) > WORTH_SAYING * trainer.max_steps:
            took = f"{1000 * slower * self._times.step:.0f} ms"
            say(f"A step takes {took}, other than planned: {total:,} steps fit into the time.")
        if self._rates_are_full(done, trainer.max_steps, pl_module.warmdown):
            pl_module.plan_for(total, done)
        trainer.fit_loop.epoch_loop.max_steps = pl_module.total_steps = total
        data.space_validations(total, done, left)

    @staticmethod
    def _rates_are_full(done: int, planned: int, warmdown: float) -> bool:
        """Whether the learning rates of a run have not begun to fall."""
        return done <= (1 - warmdown) * planned

    @staticmethod
    def _better_plan(done: int, planned: int, fitting: int, warmdown: float) -> int:
        """As many steps as fit into the time, as far as the learning rates allow it after those that are done."""
        if Plan._rates_are_full(done, planned, warmdown):
            return max(fitting, int(done / (1 - warmdown)) + 1)  # or else the rates would have to fall by now
        left = planned - done
        return done + max(1, min(max(fitting - done, round((1 - LATE) * left)), round((1 + LATE) * left)))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validating -= time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validating += time.monotonic()
        self._validations += 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        data = data_of(trainer)
        rows = self._describe(trainer, pl_module, data)
        if trainer.max_steps > 0:
            training = (trainer.max_steps - trainer.global_step) * self._times.step * AROUND_A_STEP
            validating = validations_left(trainer) * self._seconds_to_validate(data)
            self.expected_seconds = training + validating + self._seconds_to_score(trainer)
            rows["time"] = f"about {duration(self.expected_seconds)} at {self._pace(trainer, pl_module, data)}"
        if self._chosen:
            assert self.minutes is not None
            rows["steps"] = f"as many as fit into {plural(self.minutes, 'minute')} here (or give --trainer.max_steps)"
        rows["written to"] = str(trainer.log_dir)
        say(table("Plan", rows))
        say()
        self._looked, self._timed, self._validating = time.monotonic(), 0.0, 0.0

    def _pace(self, trainer: Trainer, module: LanguageModel, data: RowsDataModule) -> str:
        """How fast it trains, in words."""
        tokens_per_second = data.tokens_per_step(trainer.world_size) / self._times.step
        throughput = find_callback(trainer, Throughput)
        mfu = None
        if throughput is not None:
            mfu = throughput.mfu(module, tokens_per_second, module.gpt.flops_per_token(data.row_length))
        return f"{count(tokens_per_second)} tokens/s" + (
            f", {mfu:.0%} of the machine's peak" if mfu is not None else ""
        )

    def _describe(self, trainer: Trainer, module: LanguageModel, data: RowsDataModule) -> dict[str, str]:
        gpt, shape = module.gpt, module.gpt.config
        rows = {
            "model": f"{gpt.num_parameters:,} parameters: depth {shape.n_layer}, width {shape.n_embd}, "
            f"{shape.n_head} heads, vocabulary {shape.vocab_size:,}",
            **self._describe_work(trainer, module, data),
        }
        rates = [f"{group['name']} {group['initial_lr']:.2g}" for group in trainer.optimizers[0].param_groups]
        rows["learning"] = f"rates: {', '.join(rates)}"
        device = trainer.strategy.root_device
        rows["machine"] = f"{describe_device(device)}, {trainer.precision}"
        rows["machine"] += ", compiled" if gpt.compiled_block is not None else ""
        rows["machine"] += f", {trainer.world_size} devices" if trainer.world_size > 1 else ""
        rows["memory"] = f"about {size(expected_memory(trainer, module))}"
        return rows

    def _describe_work(self, trainer: Trainer, module: LanguageModel, data: RowsDataModule) -> dict[str, str]:
        """What is learned from, and how much of it."""
        gpt, tokens_per_step = module.gpt, data.tokens_per_step(trainer.world_size)
        rows = {"text": f"{data.source}: {data.extent} ({data.fingerprint})"}
        if trainer.max_steps > 0:
            tokens = trainer.max_steps * tokens_per_step
            rows["training"] = (
                f"{trainer.max_steps:,} steps of {count(tokens_per_step)} tokens: {count(tokens)} tokens, "
                f"{tokens / gpt.num_parameters:.2g} per parameter"
            )
            rows["compute"] = f"{tokens * gpt.flops_per_token(data.row_length):.2g} FLOPs"
            if data.all_tokens is not None:
                rows["compute"] += f", {tokens / data.all_tokens:.2g} times through the text"
        return rows


def seconds_to_score(tokens: float, token_seconds: float) -> float:
    """That real scores take of so many tokens, where a timed one takes so many seconds for each."""
    return tokens * token_seconds * AROUND_A_SCORE


def kept_for_scores(seconds: float, minutes: float) -> float:
    """Seconds of a run's time that no step may take, if the scores at its end take so many."""
    return min(seconds, SCORING * 60 * minutes)
