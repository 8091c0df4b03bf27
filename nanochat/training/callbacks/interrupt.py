"""Ctrl-C, SIGTERM and a cluster's warning: finish the step, write a checkpoint, say how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any, NoReturn

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.training.any_rank import DelayedAnyRank, any_rank
from nanochat.training.checkpoint.model_checkpoint import LastCheckpoint
from nanochat.training.console import say
from nanochat.training.trainer_state import ends_step, find_callback


class Interrupted(Exception):
    """The run was stopped between two steps, and all that it had learned is saved.

    Args:
        step: steps done.
        checkpoint: where they are saved; None if the run writes no checkpoints.
        number: the signal that stopped it; None if it is not known.
        requeued: whether the cluster is going to start it again.
        before_first_step: whether it was stopped so early that there was nothing to save.
    """

    def __init__(
        self,
        step: int,
        checkpoint: str | None,
        number: int | None,
        requeued: bool = False,
        before_first_step: bool = False,
    ) -> None:
        super().__init__(f"stopped after step {step:,}")
        self.step, self.checkpoint, self.number = step, checkpoint, number
        self.requeued, self.before_first_step = requeued, before_first_step


class GracefulStop(Callback):
    """Turns a signal into a stop after the current step, on all ranks together, whichever of them got it.

    With several ranks it takes one step more: nobody waits for the others to say at once what they have got.

    A signal that were answered at once could strike in the middle of an optimizer's step, where half of the weights
    have moved. Ctrl-C once more stops at once. On a SLURM cluster the requeue signal (SIGUSR1, unless Lightning's
    SLURMEnvironment is given another) also puts the job into the queue again; before the first step and after the
    last one, where nothing can be lost, it is answered at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal
        self._stopping = False
        self._stopped = DelayedAnyRank()
        self._training = False  # between the first step and the last checkpoint: answers come after the step
        self._listening = False
        self._first_step: int | None = None  # where training began, once it has
        self._requeue_signal: int | None = None
        self._previous: dict[int, Any] = {}
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning, which would answer the requeue signal in the middle of a step, leaves it to who comes first."""
        self._trainer, self._listening = trainer, True
        environment = trainer._accelerator_connector.cluster_environment  # on one device the strategy has none
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue and environment.requeue_signal:
            self._requeue_signal = environment.requeue_signal
            self._answer(environment.requeue_signal)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Here Lightning has set up its own handlers, which act at once: these take their place."""
        self._training, self._first_step = True, trainer.global_step
        self._answer(signal.SIGINT, signal.SIGTERM)
        # Before each micro-step Lightning asks the first device, and waits, whether it has noted a SIGTERM: never now
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def _answer(self, *numbers: int) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                before = signal.signal(number, self._on_signal)
                self._previous.setdefault(number, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._listening:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._training:
            self._note(number)
        elif number == self._requeue_signal:
            self._leave(number)

    def _note(self, number: int) -> None:
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is None:
            self.number = number
            again = " (Ctrl-C again: at once, without saving)" if number == signal.SIGINT else ""
            say(f"\nStopping after this step{again} ...")

    def _leave(self, number: int) -> NoReturn:
        """Nothing is being learned. A start that made no step is not repeated: the next one would make none, either."""
        trainer = self._trainer
        assert trainer is not None
        self._listening = False
        learned = self._first_step is not None and trainer.global_step > self._first_step
        saver = find_callback(trainer, LastCheckpoint)
        path = saver.best_model_path if saver is not None and learned else None
        raise Interrupted(trainer.global_step, path, number, learned and self._requeue(trainer), not learned)

    def _requeue(self, trainer: Trainer) -> bool:
        """The first process asks; whether it was heard only that one knows."""
        return requeue_job() if trainer.is_global_zero else True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if ends_step(trainer, batch_idx):
            self._stopping = self._stopped.ask(trainer, self.number is not None)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The step before has been validated and logged by now."""
        if not self._stopping:
            return
        saver = find_callback(trainer, LastCheckpoint)
        path = str(saver.save_now(trainer)) if saver is not None else None
        number = self._agree(trainer)
        requeued = number == self._requeue_signal and number is not None and self._requeue(trainer)
        raise Interrupted(trainer.global_step, path, number, requeued)

    def _agree(self, trainer: Trainer) -> int | None:
        """The signal that any rank got, the requeue signal before others: after it SLURM may send SIGTERM, too."""
        for number in (self._requeue_signal, signal.SIGTERM, signal.SIGINT):
            if number is not None and any_rank(trainer, self.number == number):
                return number
        return None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(signal.SIGINT, signal.SIGTERM)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last checkpoint is written; what came too late for a step to be the last is answered now."""
        self._training = False
        if self._requeue_signal is not None and any_rank(trainer, self.number == self._requeue_signal):
            self._leave(self._requeue_signal)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore(*self._previous)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Lightning is going to put back the handlers that it found, ours among them: it is deaf now."""
        self._listening = False
        self._restore(*self._previous)

    def _restore(self, *numbers: int) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                if number in self._previous:
                    signal.signal(number, self._previous.pop(number))


def requeue_job() -> bool:
    """Asks SLURM to put this job into the queue again, where it keeps its number and its script; whether that worked.

    SLURM ends the job's processes then: all must be saved before.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else os.environ.get("SLURM_JOB_ID", "")
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        problem = (done.stderr.strip() or f"scontrol failed ({done.returncode})") if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    say(f"Job {job} is in the queue again." if not problem else f"Job {job} could not be put into the queue: {problem}")
    return not problem
