"""The summary of a run after the last step: ``summary.json``, and a text in the terminal."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.cache import write_atomically
from nanochat.runs import SUMMARY
from nanochat.training.callbacks.next_steps import next_steps
from nanochat.training.callbacks.summary_table import summary_table
from nanochat.training.callbacks.throughput import Throughput
from nanochat.training.checkpoint.model_checkpoint import LastCheckpoint
from nanochat.training.console import say
from nanochat.training.hardware import describe_device, peak_memory
from nanochat.training.language_model import LanguageModel
from nanochat.training.provenance import code, machine
from nanochat.training.run_logger import RunLogger
from nanochat.training.trainer_state import data_of, find_callback

# Model options in TensorBoard's table of hyperparameters, besides the sizes and the learning rates.
OPTIMIZER_OPTIONS = ("weight_decay", "warmup_steps", "warmdown", "final_lr")


class Summary(Callback):
    """Collects the results of a run. Its time and its best score are saved in checkpoints.

    Args:
        started_from: the checkpoint whose weights the run started from; None for random weights.

    Attributes:
        best: lowest val/bpb of the validations during the run; None before the first.
        last: val/bpb of the last of them.
        seconds_before: seconds that earlier processes spent on this run.
        facts: content of ``summary.json``; empty before the last step.
    """

    def __init__(self, started_from: str | None = None) -> None:
        self.started_from = started_from
        self.best: float | None = None
        self.last: float | None = None
        self.seconds_before = 0.0
        self.facts: dict[str, Any] = {}
        self._code: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        facts = {"best": self.best, "last": self.last, "seconds": self.seconds}
        return facts if self.started_from is None else {**facts, "started_from": self.started_from}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.last = state_dict["best"], state_dict["last"]
        self.started_from = state_dict.get("started_from", self.started_from)
        self.seconds_before = state_dict["seconds"]

    @property
    def seconds(self) -> float:
        """Seconds since this process started, with those of earlier processes of the same run."""
        return self.seconds_before + time.time() - psutil.Process().create_time()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._code = code()  # now, as the code may be changed during the run

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.last = trainer.callback_metrics["val/bpb"].item()
            self.best = self.last if self.best is None else min(self.best, self.last)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(trainer.logger, RunLogger) and self.last is not None:
            trainer.logger.log_result(_hyperparameters(trainer), "val/bpb")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes ``summary.json``; the last checkpoint has been written."""
        assert isinstance(pl_module, LanguageModel)
        self.facts = self._collect(trainer, pl_module)
        self._write(trainer)

    def finish(
        self,
        trainer: Trainer,
        val_bpb: float | None,
        command: str,
        config: str,
        own: str,
        scores: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Adds the final scores to ``summary.json``, and prints the summary.

        Args:
            trainer: of the run.
            val_bpb: on all held-out text; None if it was not scored.
            command: the command that starts this program.
            config: the ``--config`` options of this run, each with a space after it.
            own: ``--config`` options with all of this run's settings.
            scores: number of right answers and number of questions, by task.
        """
        if not self.facts:
            return
        # again, as scoring takes time and memory
        self.facts["seconds"], self.facts["peak_memory_bytes"] = round(self.seconds, 1), peak_memory()
        metrics: dict[str, float] = {}
        if val_bpb is not None:
            self.facts["val_bpb"] = metrics["val/bpb_all"] = val_bpb
        if scores:
            self.facts["tasks"] = {name: right / items for name, (right, items) in scores.items()}
            metrics |= {f"tasks/{name}": accuracy for name, accuracy in self.facts["tasks"].items()}
        for logger in trainer.loggers if metrics else ():  # Lightning's loops would log them one step too late
            logger.log_metrics(metrics, trainer.global_step - 1)
            logger.finalize("success")
        self.facts["complete"] = True
        self._write(trainer)
        text = summary_table(self.facts, scored_all=val_bpb is not None)
        say(f"\n{text}\n\n{next_steps(trainer, command, config, own)}")

    def _collect(self, trainer: Trainer, module: LanguageModel) -> dict[str, Any]:
        data = data_of(trainer)
        saver = find_callback(trainer, LastCheckpoint)
        device = trainer.strategy.root_device
        facts: dict[str, Any] = {
            "val_bpb": self.last,
            "best_val_bpb": self.best,
            "seconds": round(self.seconds, 1),
            **_speed(trainer, module),
            "parameters": module.gpt.num_parameters,
            "peak_memory_bytes": peak_memory(),
            "checkpoint": saver.best_model_path if saver is not None else None,
            "corpus": data.source,
            "corpus_fingerprint": data.fingerprint,
            "seed": data.seed,
            "device": describe_device(device),
            "devices": trainer.world_size,
            "precision": str(trainer.precision),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "lightning": lightning.__version__,
            },
            "code": self._code,
            "machine": machine(),
        }
        if self.started_from is not None:
            facts["started_from"] = self.started_from
        if device.type == "cuda":
            facts["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
        return facts

    def _write(self, trainer: Trainer) -> None:
        folder = trainer.log_dir  # on every rank, as it is broadcast
        if trainer.is_global_zero and folder is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_atomically(Path(folder, SUMMARY), json.dumps(self.facts, indent=2) + "\n")


def _speed(trainer: Trainer, module: LanguageModel) -> dict[str, Any]:
    """The amount of training and its speed; None for what is unknown."""
    data, throughput = data_of(trainer), find_callback(trainer, Throughput)
    seconds = throughput.seconds if throughput is not None else 0.0
    speed = throughput.tokens / seconds if throughput is not None and seconds else None
    flops_per_token = module.gpt.flops_per_token(data.row_length)
    mfu = throughput.mfu(module, speed, flops_per_token) if throughput is not None and speed else None
    return {
        "training_seconds": round(seconds, 1) if throughput is not None else None,
        "steps": trainer.global_step,
        "tokens": data.tokens_seen(trainer.global_step),
        "tokens_per_second": round(speed, 1) if speed else None,
        "mfu": round(mfu, 4) if mfu is not None else None,
        "data_wait": round(data.seconds_waited / seconds, 5) if seconds else None,
        "flops_per_token": flops_per_token if module.flops_follow_tokens else None,
    }


def _hyperparameters(trainer: Trainer) -> dict[str, Any]:
    """The settings that users vary, with the values that were used."""
    module, data = trainer.lightning_module, data_of(trainer)
    assert isinstance(module, LanguageModel)
    return {
        **module.gpt.config.to_hyperparameters(),
        **{f"{group['name']}_lr": group["initial_lr"] for group in trainer.optimizers[0].param_groups},
        **{name: module.hparams[name] for name in OPTIMIZER_OPTIONS},
        **{name: data.hparams[name] for name in ("batch_size", "seed")},
        "corpus": data.source,
        "row_length": data.row_length,
        "tokens_per_step": data.tokens_per_step(trainer.world_size),
        "steps": trainer.max_steps,
        "precision": str(trainer.precision),
    }


def is_complete(run: Path) -> bool:
    """Whether a run has finished, with its final scores."""
    try:
        return bool(json.loads((run / SUMMARY).read_text(encoding="utf-8"))["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
