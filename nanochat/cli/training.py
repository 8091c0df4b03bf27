"""The LightningCLI: what may be set, what follows from what, and what is chosen by the machine."""

from __future__ import annotations

import errno
import logging
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from nanochat.cli.errors import EXIT_INTERRUPTED, UsageError, report
from nanochat.cli.main import program_name
from nanochat.cli.parser import Parser, check_config_files, config_files
from nanochat.data.text import TextDataModule, resolve_row_length
from nanochat.model import GPT, resolve_shape
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoints import (
    BEST,
    LAST,
    LastCheckpoint,
    SafeCheckpointIO,
    best_checkpoint,
    find_checkpoint,
    load_checkpoint,
)
from nanochat.training.console import as_markdown, say
from nanochat.training.hardware import default_accelerator, default_precision
from nanochat.training.interrupt import GracefulInterrupt, Interrupted
from nanochat.training.language_model import LanguageModel
from nanochat.training.plan import Plan
from nanochat.training.progress import StepProgress
from nanochat.training.run_logger import RunLogger
from nanochat.training.samples import Samples
from nanochat.training.steps import find_callback
from nanochat.training.summary import Summary
from nanochat.training.throughput import Throughput

RUNS = "lightning_logs"
TOKENS_PER_PARAMETER = 10  # of the horizon, where neither steps nor time are given
SHAPE = ("depth", "width", "heads", "kv_heads", "vocab_size")

# Lightning's and torch's remarks that a user of this program can do nothing about, or that are wrong here.
NEEDLESS_WARNINGS = (
    r".*does not have many workers.*",  # the rows lie ready in a file: a worker would only take a core away
    r".*Checkpoint directory .* exists and is not empty.*",  # a resumed run goes on in its folder
    r".*The dirpath has changed from.*",
    r".*callbacks used to create the checkpoint need to be provided.*",  # scoring needs none of them
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*`IterableDataset` has `__len__` defined.*",
    r".*Found \d+ module\(s\) in eval mode.*",
    r".*lr_scheduler\.step\(\)` before `optimizer\.step\(\).*",
)


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder, and shows it in TensorBoard."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if isinstance(trainer.logger, TensorBoardLogger):
            text = self.parser.dump(self.config, skip_none=False)
            trainer.logger.experiment.add_text("configuration", as_markdown(text), 0)


class NanochatCLI(LightningCLI):
    """``fit`` and ``validate`` of Lightning's Trainer, with what this project adds to them."""

    def __init__(self, args: Sequence[str]) -> None:
        self._checkpoint: Path | None = None
        self._command_line = list(args)
        super().__init__(
            LanguageModel,
            TextDataModule,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "max_epochs": -1,  # the stream of text has no end: steps count
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 10,
                "enable_model_summary": False,  # the plan says it
            },
            seed_everything_default=42,
            parser_class=Parser,
            auto_configure_optimizers=False,
            args=list(args),
        )

    # ---------------------------------------------------------------------------------------------- arguments

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        skipped = {"model", "dataloaders", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"}
        return {"fit": skipped, "validate": skipped | {"verbose"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name", type=str, default="nanochat", help="The run's folder: lightning_logs/<name>/version_N."
        )
        parser.add_lightning_class_args(Plan, "plan")
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        # vocabulary and context are said once
        parser.link_arguments("data.vocab_size", "model.vocab_size")
        parser.link_arguments("data.context", "model.context")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        check_config_files(args)
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Lightning lets a checkpoint's settings override the command line silently; here the command line wins.

        ``last`` and ``best`` mean the newest run of that name. A checkpoint of another shape is refused.
        """
        config = self.config[self.config.subcommand]
        given = config.get("ckpt_path")
        if not given:
            if self.config.subcommand == "validate":
                raise UsageError("validate needs a checkpoint: --ckpt_path=last, --ckpt_path=best or a file")
            return
        if str(given) in (LAST, BEST):
            self._checkpoint = find_checkpoint(str(given), self._runs_folder(config) / config.name)
        else:
            self._checkpoint = Path(given)
        config.ckpt_path = str(self._checkpoint)
        checkpoint = load_checkpoint(self._checkpoint)
        self._check_shape(config.model, checkpoint.get("hyper_parameters", {}))
        try:
            self._tokenizer = Tokenizer.from_dict(checkpoint["TextDataModule"]["tokenizer"])
            self._checkpoint_step = int(checkpoint["global_step"])
        except KeyError as error:
            raise UsageError(f"{self._checkpoint} is not a checkpoint of this project: it has no tokenizer") from error

    def _check_shape(self, wanted: Any, saved: dict[str, Any]) -> None:
        def shape(values: Any) -> dict[str, int]:
            resolved = resolve_shape(*(values.get(name) for name in SHAPE[:4]))
            return dict(zip(SHAPE, (*resolved, values.get("vocab_size")), strict=True))

        if not all(name in saved for name in SHAPE):
            raise UsageError(f"{self._checkpoint} is not a checkpoint of this project: it does not say its shape")
        have, want = shape(saved), shape(wanted)
        different = [f"{name} {have[name]:,} instead of {want[name]:,}" for name in SHAPE if have[name] != want[name]]
        if different:
            assert self._checkpoint is not None
            own = self._checkpoint.parent.parent / "config.yaml"
            how = f"--config {own}" if own.is_file() else "the configuration it was trained with"
            raise UsageError(f"the checkpoint {self._checkpoint} has {', '.join(different)}: give {how}")

    @staticmethod
    def _runs_folder(config: Any) -> Path:
        return Path(config.trainer.default_root_dir or ".", RUNS)

    # ------------------------------------------------------------------------------------- the machine's choices

    def before_instantiate_classes(self) -> None:
        """Fills in what was left out, so that the saved configuration says what was really used."""
        config = self.config[self.subcommand]
        trainer, data = config.trainer, config.data
        if data.seed is None:
            data.seed = int(config.seed_everything)
        if trainer.accelerator == "auto":
            trainer.accelerator = default_accelerator()
        if trainer.accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
            raise UsageError(
                f"--trainer.accelerator={trainer.accelerator}: there is no NVIDIA GPU that torch can use; "
                "leave the option out to train on the CPU"
            )
        if trainer.accelerator == "mps" and not torch.backends.mps.is_available():
            raise UsageError("--trainer.accelerator=mps: this machine has no Apple GPU that torch can use")
        if trainer.precision is None:
            trainer.precision = default_precision(trainer.accelerator)
        if trainer.max_epochs not in (-1, None):
            raise UsageError("--trainer.max_epochs: the stream of text has no end; give --trainer.max_steps instead")
        if trainer.max_steps == -1 and trainer.max_time is None:
            trainer.max_steps = self._default_steps(config.model, data)
        if trainer.devices == "auto" and trainer.accelerator in ("cuda", "gpu"):
            trainer.devices = self._usable_devices(torch.cuda.device_count(), data)

    @staticmethod
    def _default_steps(model: Any, data: Any) -> int:
        """As many steps as serve a model of this size best, if nobody minds the time (Chinchilla, arXiv 2203.15556)."""
        shape = resolve_shape(*(model[name] for name in SHAPE[:4]))
        with torch.device("meta"):
            gpt = GPT(shape.depth, data.vocab_size, data.context, shape.width, shape.heads, shape.kv_heads)
        tokens_per_step = data.tokens_per_step or data.batch_size * resolve_row_length(data.row_length, data.context)
        return max(1, TOKENS_PER_PARAMETER * gpt.num_matmul_parameters // tokens_per_step)

    @staticmethod
    def _usable_devices(count: int, data: Any) -> int:
        """As many of the devices as one step's rows can be dealt out to evenly."""
        if data.tokens_per_step is None:
            return count
        rows = max(1, data.tokens_per_step // (data.batch_size * resolve_row_length(data.row_length, data.context)))
        return max(n for n in range(1, count + 1) if rows % n == 0)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config[self.subcommand]
        trainer = self.config_init[self.subcommand].trainer
        fitting = self.subcommand == "fit"
        if not fitting:
            kwargs["logger"] = False  # scoring leaves no new run behind
        elif trainer.logger in (None, True):
            kwargs["logger"] = self._new_logger(config)
        kwargs["plugins"] = [*_as_list(trainer.plugins), SafeCheckpointIO()]
        callbacks = [*_as_list(trainer.callbacks), Throughput(), Summary(), GracefulInterrupt()]
        if trainer.enable_checkpointing in (None, True):
            callbacks.append(best_checkpoint())
        else:
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
        if trainer.enable_progress_bar in (None, True):
            callbacks.append(StepProgress())
        if fitting and kwargs.get("logger", trainer.logger):
            callbacks.append(LearningRateMonitor("step"))
        kwargs["callbacks"] = callbacks if fitting else []
        if not fitting:
            self.save_config_callback = None
        return super().instantiate_trainer(**kwargs)

    def _new_logger(self, config: Any) -> RunLogger:
        version, purge_step = None, None
        if self._checkpoint is not None and self._checkpoint.stem in (LAST, BEST) and self._resumes(config):
            version, purge_step = self._checkpoint.parent.parent.name, self._checkpoint_step
        return RunLogger(self._runs_folder(config), config.name, version, purge_step)

    def _resumes(self, config: Any) -> bool:
        """Whether the run goes on in the checkpoint's own folder, rather than branching off into a new one."""
        assert self._checkpoint is not None
        return self._checkpoint.parent.parent.parent == self._runs_folder(config) / config.name

    def after_instantiate_classes(self) -> None:
        if self._checkpoint is not None:
            self.datamodule.use_tokenizer(self._tokenizer)

    # ------------------------------------------------------------------------------------------- the commands

    def before_fit(self) -> None:
        if self._checkpoint is not None:
            say(f"Going on from {self._checkpoint}, step {self._checkpoint_step:,}.")

    def after_fit(self) -> None:
        summary = find_callback(self.trainer, Summary)
        score = None
        if self.datamodule.validate_all and self.trainer.enable_validation:
            score = self._score(self.model, self.datamodule)
        assert summary is not None
        summary.finish(self.trainer, score, program_name(), self._config_options())

    def validate(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str) -> None:
        """Scores a checkpoint on all of the held-out text."""
        score = self._score(model, datamodule, ckpt_path)
        rows = self.datamodule.held_out
        say(f"val/bpb {score:.4f} on {rows.predictions:,} held-out tokens in {len(rows):,} rows ({ckpt_path})")

    def _score(self, model: LightningModule, data: LightningDataModule, ckpt_path: str | None = None) -> float:
        results = self.trainer.validate(model, datamodule=data, ckpt_path=ckpt_path, verbose=False)
        return float(results[0]["val/bpb_all"])

    def _config_options(self) -> str:
        """The ``--config`` options that the user gave, for the commands that the summary proposes."""
        return "".join(f"--config {shlex.quote(path)} " for path in config_files(self._command_line))


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def run(arguments: Sequence[str]) -> int:
    """Runs ``fit`` or ``validate``; returns the exit status."""
    quieten()
    try:
        NanochatCLI(arguments)
    except Interrupted as stop:
        words = [w for w in arguments if not w.startswith("--ckpt_path")]
        print(f"\nStopped after step {stop.step:,}; all is saved. To go on:", file=sys.stderr)
        print(f"  {program_name()} {shlex.join(words)} --ckpt_path={stop.checkpoint and LAST}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except torch.OutOfMemoryError:
        return report("the GPU's memory is full: lower --data.batch_size (the result stays the same) or --model.depth")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return report("the disk is full: free some space, or move the cache with NANOCHAT_CACHE")
        return report(str(error))
    except (ValueError, MisconfigurationException) as error:
        return report(str(error))
    except SystemExit as end:  # of --help and --print_config, and of Lightning after Ctrl-C
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 1
    return 0


def quieten() -> None:
    """Shows this program's messages as plain lines, and keeps back those of others that help nobody."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("nanochat")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
    for message in NEEDLESS_WARNINGS:
        warnings.filterwarnings("ignore", message)
