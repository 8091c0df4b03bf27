"""After the last step: what came of it, in ``summary.json`` and in words."""

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
from nanochat.training.callbacks.throughput import Throughput
from nanochat.training.checkpoint.model_checkpoint import LastCheckpoint
from nanochat.training.console import count, duration, say, size, table
from nanochat.training.hardware import describe_device, peak_memory
from nanochat.training.language_model import LanguageModel
from nanochat.training.provenance import code, machine
from nanochat.training.run_logger import RunLogger
from nanochat.training.trainer_state import data_of, find_callback

WORTH_SAYING = 0.02  # a longer wait for text than this share of the time


class Summary(Callback):
    """Keeps what a run is judged by; its time and its best score outlive an interruption.

    Args:
        started_from: the checkpoint whose weights the run begins with; None for fresh ones.

    Attributes:
        best: the lowest val/bpb of the validations during the run; None before the first.
        seconds_before: seconds that earlier processes spent on this run.
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
        """Since the command was given, imports and all, and in earlier processes of the same run."""
        return self.seconds_before + time.time() - psutil.Process().create_time()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._code = code()  # now: it may be changed while it runs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.last = trainer.callback_metrics["val/bpb"].item()
            self.best = self.last if self.best is None else min(self.best, self.last)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(trainer.logger, RunLogger) and self.last is not None:
            trainer.logger.log_result(_settings(trainer), "val/bpb")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last checkpoint has been written by now."""
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
        """Adds the score on all of the held-out text, if it was taken, and tells the user.

        Args:
            trainer: whose run it was.
            val_bpb: the final score; None if it is the last one of the run.
            command: how the user calls the program.
            config: the ``--config`` options of this run, each with a space after it.
            own: such options that have all of this run's settings.
            scores: of each task, how many answers were right, and how many questions were asked.
        """
        if not self.facts:
            return
        # with the scoring, where there was any
        self.facts["seconds"], self.facts["peak_memory_bytes"] = round(self.seconds, 1), peak_memory()
        metrics: dict[str, float] = {}
        if val_bpb is not None:
            self.facts["val_bpb"] = metrics["val/bpb_all"] = val_bpb
        if scores:
            self.facts["tasks"] = {name: right / asked for name, (right, asked) in scores.items()}
            metrics |= {f"tasks/{name}": share for name, share in self.facts["tasks"].items()}
        for logger in trainer.loggers if metrics else ():  # Lightning's loops would log them a step too late
            logger.log_metrics(metrics, trainer.global_step - 1)
            logger.finalize("success")
        self.facts["complete"] = True
        self._write(trainer)
        say(self._in_words(trainer, command, config, own, of_all=val_bpb is not None))

    def _collect(self, trainer: Trainer, module: LanguageModel) -> dict[str, Any]:
        data = data_of(trainer)
        throughput = find_callback(trainer, Throughput)
        saver = find_callback(trainer, LastCheckpoint)
        speed = throughput.tokens / throughput.seconds if throughput is not None and throughput.seconds else None
        flops_per_token = module.gpt.flops_per_token(data.row_length)
        mfu = throughput.mfu(module, speed, flops_per_token) if throughput is not None and speed else None
        device = trainer.strategy.root_device
        facts: dict[str, Any] = {
            "val_bpb": self.last,
            "best_val_bpb": self.best,
            "seconds": round(self.seconds, 1),
            "training_seconds": round(throughput.seconds, 1) if throughput is not None else None,
            "steps": trainer.global_step,
            "tokens": data.tokens_seen(trainer.global_step),
            "tokens_per_second": round(speed, 1) if speed else None,
            "mfu": round(mfu, 4) if mfu is not None else None,
            "data_wait": round(data.seconds_waited / throughput.seconds, 5)
            if throughput and throughput.seconds
            else None,
            "parameters": module.gpt.num_parameters,
            "flops_per_token": flops_per_token if module.counts_operations else None,
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
        folder = trainer.log_dir  # asked on every rank: they agree on it
        if trainer.is_global_zero and folder is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_atomically(Path(folder, SUMMARY), json.dumps(self.facts, indent=2) + "\n")

    def _in_words(self, trainer: Trainer, command: str, config: str, own: str, of_all: bool) -> str:
        facts = self.facts
        rows = {}
        if facts["val_bpb"] is not None:
            # Not to be compared: the part may be easier or harder than the whole.
            of, best = ("on all held-out text", "on a part") if of_all else ("at the end", "the best")
            rows["val/bpb"] = f"{facts['val_bpb']:.4f} {of}"
            if facts["best_val_bpb"] is not None:
                rows["val/bpb"] += f", {facts['best_val_bpb']:.4f} {best} on the way"
        rows |= {f"{name}": f"{share:.0%} of the answers right" for name, share in facts.get("tasks", {}).items()}
        if facts["tokens_per_second"]:
            mfu = f", {facts['mfu']:.0%} of the machine's peak" if facts["mfu"] else ""
            rows["speed"] = f"{facts['tokens_per_second']:,.0f} tokens/s{mfu}"
        rows["learned from"] = f"{count(facts['tokens'])} tokens in {facts['steps']:,} steps"
        if (facts["data_wait"] or 0) >= WORTH_SAYING:
            rows["waited"] = f"{facts['data_wait']:.0%} of the time for text (more --data.num_workers?)"
        rows["memory"] = f"{size(facts['peak_memory_bytes'])} at the peak"
        if "peak_gpu_memory_bytes" in facts:
            rows["memory"] += f", and {size(facts['peak_gpu_memory_bytes'])} of the GPU's"
        if facts["checkpoint"]:
            rows["checkpoint"] = facts["checkpoint"]
        done = table(f"Done in {duration(facts['seconds'])}", rows)
        return f"\n{done}\n\n{next_steps(trainer, command, config, own)}"


def is_complete(run: Path) -> bool:
    """Whether a run has come to its end, with its final score."""
    try:
        return bool(json.loads((run / SUMMARY).read_text(encoding="utf-8"))["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


# of the model's options
RECIPE = ("weight_decay", "warmup_steps", "warmdown", "final_lr")


def _settings(trainer: Trainer) -> dict[str, Any]:
    """What a user may have varied, with the values that were really used."""
    module, data = trainer.lightning_module, data_of(trainer)
    assert isinstance(module, LanguageModel)
    return {
        **module.gpt.config.to_hyperparameters(),
        **{f"{group['name']}_lr": group["initial_lr"] for group in trainer.optimizers[0].param_groups},
        **{name: module.hparams[name] for name in RECIPE},
        **{name: data.hparams[name] for name in ("batch_size", "seed")},
        "corpus": data.source,
        "row_length": data.row_length,
        "tokens_per_step": data.tokens_per_step(trainer.world_size),
        "steps": trainer.max_steps,
        "precision": str(trainer.precision),
    }
