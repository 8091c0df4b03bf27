"""Ctrl-C, SIGTERM and SLURM's requeue signal: finishes the step, writes a checkpoint, and stops."""

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
    """The run was stopped between two steps, and its state is saved.

    Args:
        step: number of finished steps.
        checkpoint: path of the checkpoint; None if the run writes none.
        number: the signal; None if it is unknown.
        requeued: whether SLURM will start the job again.
        before_first_step: whether there was nothing to save yet.
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
    """Stops all ranks after the current step when one of them receives a signal.

    An exception raised by the signal handler could interrupt an optimizer step when half of the weights are updated.
    With several ranks, training stops one step later (:class:`DelayedAnyRank`). A second Ctrl-C stops at once.

    In a SLURM job, the requeue signal (SIGUSR1, unless Lightning's SLURMEnvironment is given another) also requeues the
    job. Before the first step and after the last one, where no training can be lost, it stops the run at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None  # of the signal received
        self._requeue_signal: int | None = None
        self._previous_handlers: dict[int, Any] = {}
        self._trainer: Trainer | None = None
        self._active = False  # whether this callback handles signals
        self._training = False  # from the first step to the last checkpoint: signals are handled after the step
        self._first_step: int | None = None  # global_step when training began
        self._any_signal = DelayedAnyRank()
        self._stopping = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Handles the requeue signal; Lightning, which would act in mid-step, keeps a handler that is already set."""
        self._trainer, self._active = trainer, True
        environment = trainer._accelerator_connector.cluster_environment  # also there if the strategy has none
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue and environment.requeue_signal:
            self._requeue_signal = environment.requeue_signal
            self._handle(environment.requeue_signal)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replaces the handlers that Lightning has set up by now, which act in mid-step."""
        self._training, self._first_step = True, trainer.global_step
        self._handle(signal.SIGINT, signal.SIGTERM)
        # Lightning broadcasts before each micro-step whether rank 0 has received SIGTERM, and waits: not needed here
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def _handle(self, *numbers: int) -> None:
        """Sets the handler of signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                previous = signal.signal(number, self._on_signal)
                self._previous_handlers.setdefault(number, previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._active:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self._training:
            self._request_stop(number)
        elif number == self._requeue_signal:
            self._stop_now(number)

    def _request_stop(self, number: int) -> None:
        """Stops after the step; at once if it is the second signal and Ctrl-C."""
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is None:
            self.number = number
            hint = " (press Ctrl-C again to stop now, without saving)" if number == signal.SIGINT else ""
            say(f"\nStopping after this step{hint} ...")

    def _stop_now(self, number: int) -> NoReturn:
        """Stops outside training. A job that has made no step is not requeued: it would be stopped again."""
        trainer = self._trainer
        assert trainer is not None
        self._active = False
        has_trained = self._first_step is not None and trainer.global_step > self._first_step
        saver = find_callback(trainer, LastCheckpoint)
        path = saver.best_model_path if saver is not None and has_trained else None
        requeued = has_trained and self._requeue(trainer)
        raise Interrupted(trainer.global_step, path, number, requeued, not has_trained)

    def _requeue(self, trainer: Trainer) -> bool:
        """Requeues the job on rank 0, and returns whether that worked; the other ranks assume that it did."""
        return requeue_job() if trainer.is_global_zero else True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if ends_step(trainer, batch_idx):
            self._stopping = self._any_signal.ask(trainer, self.number is not None)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stops here, when the validation and the logs of the last step are finished."""
        if not self._stopping:
            return
        saver = find_callback(trainer, LastCheckpoint)
        path = str(saver.save_now(trainer)) if saver is not None else None
        number = self._signal_of_any_rank(trainer)
        requeued = number == self._requeue_signal and number is not None and self._requeue(trainer)
        raise Interrupted(trainer.global_step, path, number, requeued)

    def _signal_of_any_rank(self, trainer: Trainer) -> int | None:
        """The signal that any rank has received; the requeue signal first, as SLURM may send SIGTERM after it."""
        for number in (self._requeue_signal, signal.SIGTERM, signal.SIGINT):
            if number is not None and any_rank(trainer, self.number == number):
                return number
        return None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(signal.SIGINT, signal.SIGTERM)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handles a requeue signal that came after the last step; the last checkpoint is written."""
        self._training = False
        if self._requeue_signal is not None and any_rank(trainer, self.number == self._requeue_signal):
            self._stop_now(self._requeue_signal)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore(*self._previous_handlers)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stops handling signals: Lightning will restore the handlers that it found, which include this one."""
        self._active = False
        self._restore(*self._previous_handlers)

    def _restore(self, *numbers: int) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                if number in self._previous_handlers:
                    signal.signal(number, self._previous_handlers.pop(number))


def requeue_job() -> bool:
    """Requeues this SLURM job, with the same job id and script; returns whether that worked.

    SLURM then ends the job's processes, so everything has to be saved before.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else os.environ.get("SLURM_JOB_ID", "")
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        problem = (done.stderr.strip() or f"scontrol failed ({done.returncode})") if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    say(f"Job {job} is in the queue again." if not problem else f"Job {job} could not be requeued: {problem}")
    return not problem
