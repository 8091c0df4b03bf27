"""Estimates of the time of a run, from benchmarked times of its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil
from lightning.pytorch import Trainer

from nanochat.data.chat_data import ChatDataModule
from nanochat.data.data_module import RowsDataModule
from nanochat.training.budget.timing import StepTimes
from nanochat.training.callbacks.task_scores import TaskScores
from nanochat.training.trainer_state import data_of, find_callback, validations_left

STEP_OVERHEAD = 1.03  # time of a real step, with its batch, logs and checkpoints, relative to a benchmarked one
SCORE_OVERHEAD = 1.25  # time of a real validation token, in rows of all lengths, relative to a benchmarked one
TOKENS_PER_ANSWER = 150  # answering a held-out question takes about as long as this many validation tokens
ENDING_SECONDS = 2.5  # after the last step, besides the scores: the checkpoint, a sample, the exit of Python
VALIDATION_SHARE = 0.04  # largest fraction of --plan.minutes for validations during training; there is at least one
SCORING_SHARE = 0.1  # largest fraction of --plan.minutes for the final scores; longer scores prolong the run
MIN_STEPS = 10  # in a run with --plan.minutes


@dataclass
class TimeEstimate:
    """Estimated seconds of the parts of a run.

    Attributes:
        times: benchmarked.
        questions: seconds in each validation for answering held-out questions (reinforcement learning).
    """

    times: StepTimes
    questions: float = 0.0

    def validation(self, data: RowsDataModule) -> float:
        """Seconds of a validation during training."""
        return data.val_predictions * self.times.token + self.questions

    def final_scores(self, trainer: Trainer) -> float:
        """Seconds of the scores after the last step: all held-out text, and in fine-tuning held-out questions."""
        data, scores = data_of(trainer), find_callback(trainer, TaskScores)
        tokens = data.held_out.predictions if data.validate_all and trainer.enable_validation else 0
        if scores is not None and isinstance(data, ChatDataModule):
            tokens += TOKENS_PER_ANSWER * scores.count(data)
        return final_score_seconds(tokens, self.times.token)

    def remaining(self, trainer: Trainer) -> float:
        """Seconds from the current step to the end of the run, with the final scores."""
        training = (trainer.max_steps - trainer.global_step) * self.times.step * STEP_OVERHEAD
        validations = validations_left(trainer) * self.validation(data_of(trainer))
        return training + validations + self.final_scores(trainer)

    def steps_in(self, trainer: Trainer, minutes: float, slowdown: float, validations: int) -> int:
        """Total number of steps of a run that ends ``minutes`` after its process started; the same on all ranks.

        Args:
            trainer: of the run; the steps it has taken are included.
            minutes: for everything, from the start of the process to its end.
            slowdown: measured / benchmarked step time.
            validations: still to come.
        """
        validating = validations * self.validation(data_of(trainer)) if trainer.enable_validation else 0.0
        elapsed = time.time() - psutil.Process().create_time()
        ending = ENDING_SECONDS + reserved_score_seconds(self.final_scores(trainer), minutes)
        left = (60 * minutes - elapsed - validating - ending) / slowdown
        return int(trainer.strategy.broadcast(trainer.global_step + int(left / self.times.step)))


def affordable_validations(wanted: int, seconds: float, minutes: float) -> int:
    """Number of validations in a run of ``minutes``, from 1 to ``wanted``, if each takes ``seconds``."""
    return max(1, min(wanted, int(VALIDATION_SHARE * 60 * minutes / seconds)))


def final_score_seconds(tokens: float, token_seconds: float) -> float:
    """Seconds of the final scores of this number of tokens, given the benchmarked time of a token."""
    return tokens * token_seconds * SCORE_OVERHEAD


def reserved_score_seconds(seconds: float, minutes: float) -> float:
    """Seconds of a run of ``minutes`` that are reserved for the final scores, if these take ``seconds``."""
    return min(seconds, SCORING_SHARE * 60 * minutes)
