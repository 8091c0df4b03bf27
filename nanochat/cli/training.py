"""The LightningCLI: what may be set, what follows from what, and what is chosen by the machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from nanochat.cli.choices import Choices
from nanochat.cli.errors import (
    EXIT_ERROR,
    UsageError,
    exit_if_distributed,
    explain_process_error,
    report,
    report_errors,
)
from nanochat.cli.logging_setup import set_up_logging
from nanochat.cli.main import program_name
from nanochat.cli.parser import OneLineErrorParser, check_config_files, config_files
from nanochat.cli.resume_hint import print_resume_hint
from nanochat.cli.stages import (
    PRETRAIN,
    best_by,
    data_class,
    model_class,
    plan_class,
    samples_class,
    stage_of,
    without_needless,
)
from nanochat.data.chat_data import ChatDataModule
from nanochat.options import check_name
from nanochat.runs import CONFIG, STAGES
from nanochat.training.callbacks.chat_evaluation import ChatEvaluation
from nanochat.training.callbacks.core_evaluation import CoreEvaluation
from nanochat.training.callbacks.interrupt import GracefulStop, Interrupted
from nanochat.training.callbacks.progress import StepProgress
from nanochat.training.callbacks.rank_consistency import RankConsistency
from nanochat.training.callbacks.resume import Resume
from nanochat.training.callbacks.summary import Summary, is_complete
from nanochat.training.callbacks.task_scores import TaskScores, in_words
from nanochat.training.callbacks.throughput import Throughput
from nanochat.training.callbacks.weight_rank import WeightRank
from nanochat.training.checkpoint.loading import BEST, LAST, PREVIOUS
from nanochat.training.checkpoint.model_checkpoint import LastCheckpoint, best_checkpoint
from nanochat.training.checkpoint.safe_io import SafeCheckpointIO
from nanochat.training.console import as_markdown, say
from nanochat.training.run_logger import RunLogger
from nanochat.training.trainer_state import find_callback

NO_SETTING = ("--config", "--ckpt_path", "--plan.minutes")  # what a command that scores a run need not be told
CKPT_PATH = {
    "fit": "Where to go on from: a file; last or best, of the newest run of this --name; or auto, which is last if "
    "there is one and begins otherwise. A file that `import` wrote gives its weights to a new run.",
    "validate": "What to score: a file, or last or best, of the newest run of this --name.",
    "predict": "The model: a file, or last or best, of the newest run of this --name and --stage.",
}


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder, and shows it in TensorBoard."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if isinstance(trainer.logger, TensorBoardLogger):
            text = self.parser.dump(self.config, skip_none=False)
            trainer.logger.experiment.add_text("configuration", as_markdown(text), 0)


class Parser(OneLineErrorParser, LightningArgumentParser):
    """Lightning's parser, with errors in one line."""


class NanochatCLI(Choices, LightningCLI):
    """``fit`` and ``validate`` of Lightning's Trainer, with what this project adds to them."""

    def __init__(self, args: Sequence[str]) -> None:
        self._stage = stage_of(args)  # decides on the classes, and so on what can be parsed
        self._command_line = list(args)
        super().__init__(
            model_class(self._stage),
            self._data_class(),
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

    def _data_class(self) -> type[LightningDataModule]:
        return data_class(self._stage)

    # ---------------------------------------------------------------------------------------------- arguments

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        skipped = {"model", "dataloaders", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"}
        return {"fit": skipped, "validate": skipped | {"verbose"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--name", type=str, default="nanochat", help="The run's folder: lightning_logs/<name>/version_N."
        )
        parser.add_argument(
            "--version",
            type=int | None,
            default=None,
            help="The N of that folder, for a new run as for --ckpt_path=last; null takes the next free one, and the "
            "newest that there is.",
        )
        parser.add_argument(
            "--stage",
            type=Literal[STAGES],
            default=PRETRAIN,
            help="pretrain learns from text; chat and middle, which comes before it, learn from conversations, "
            "reinforce from its own answers to questions. Their runs go into lightning_logs/<name>-<stage>.",
        )
        if self._stage != PRETRAIN:
            parser.add_argument(
                "--start_from",
                type=str | None,
                default=None,
                help="The model to fine-tune: a checkpoint, a run's folder or the name of a run; null takes the "
                "newest run of this --name (reinforce: of its chat stage).",
            )
            parser.add_lightning_class_args(TaskScores, "scores")
            parser.add_lightning_class_args(ChatEvaluation, "chat")
        parser.add_lightning_class_args(plan_class(self._stage), "plan")
        parser.add_lightning_class_args(samples_class(self._stage), "samples")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_lightning_class_args(CoreEvaluation, "core")
        # vocabulary and context are said once
        parser.link_arguments("data.vocab_size", "model.vocab_size")
        parser.link_arguments("data.context", "model.context")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        for action in parser._actions:
            if action.dest == "ckpt_path":  # not as Lightning explains it
                action.help = CKPT_PATH[subcommand]
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        check_config_files(args)
        self.config = parser.parse_args(without_needless(args, self._stage))
        check_name(self.config[self.config.subcommand].name)

    # ---------------------------------------------------------------------------------------------- the trainer

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config[self.subcommand]
        trainer = self.config_init[self.subcommand].trainer
        fitting = self.subcommand == "fit"
        if not fitting:
            kwargs["logger"] = False  # scoring leaves no new run behind
        elif trainer.logger in (None, True):
            kwargs["logger"] = self._new_logger(config)
        kwargs["plugins"] = [*as_list(trainer.plugins), SafeCheckpointIO()]
        consistency = RankConsistency(self._checkpoint_step if self._checkpoint is not None else 0)
        summary = Summary(str(self._checkpoint) if self._weights is not None else None)
        callbacks = [*as_list(trainer.callbacks), consistency, Throughput(), summary, Resume(), GracefulStop()]
        if trainer.enable_checkpointing in (None, True):
            callbacks.append(best_checkpoint(*best_by(self._stage)))
        else:
            self._parser(self.subcommand).callback_keys.remove("checkpoint")
        if trainer.enable_progress_bar in (None, True):
            callbacks.append(StepProgress())
        if fitting and kwargs.get("logger", trainer.logger):
            callbacks += [LearningRateMonitor("step"), WeightRank()]
        kwargs["callbacks"] = callbacks if fitting else []
        if not fitting:
            self.save_config_callback = None
        return super().instantiate_trainer(**kwargs)

    def _new_logger(self, config: Any) -> RunLogger:
        version, purge_step = config.version, None if config.version is None else 0
        config.version = None  # whoever trains by the configuration that is saved trains another run
        if self._checkpoint is not None and self._checkpoint.stem in (LAST, BEST, PREVIOUS) and self._resumes(config):
            version, purge_step = self._checkpoint.parent.parent.name, self._checkpoint_step
        return RunLogger(self._runs_folder(config), self._run_name(config), version, purge_step)

    def _resumes(self, config: Any) -> bool:
        """Whether the run goes on in the checkpoint's own folder, rather than branching off into a new one."""
        assert self._checkpoint is not None
        if self._weights is not None:
            return False
        return self._checkpoint.parent.parent.parent == self._runs(config)

    def after_instantiate_classes(self) -> None:
        if self.subcommand == "fit" and self.trainer.accumulate_grad_batches == 1:
            self.datamodule.micro_steps(self.trainer.world_size)  # refuses now, before there are other processes
        if self._checkpoint is not None:
            self.datamodule.use_tokenizer(self._tokenizer)
        if self._weights is not None:
            self._begin_from(self._weights)

    def _begin_from(self, weights: dict[str, Any]) -> None:
        """Takes the weights and nothing else: the Trainer, which would want all of a run's state, begins at step 0."""
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise UsageError(f"the weights in {self._checkpoint} are not those of this model: {error}") from error
        self._weights = {}  # taken: what is mapped of the file need not stay in memory
        self.config_init[self.subcommand].ckpt_path = None

    # ------------------------------------------------------------------------------------------- the commands

    def before_fit(self) -> None:
        if self._weights is not None:
            say(f"Training on from the weights in {self._checkpoint}: a new run, from step 0.")
        elif self._checkpoint is not None:
            say(f"Going on from {self._checkpoint}, step {self._checkpoint_step:,}.")

    def fit(self, model: LightningModule, datamodule: LightningDataModule, **options: Any) -> None:
        """Trains, unless the checkpoint is that of a finished run."""
        if self._is_finished():
            say(
                f"This run is finished: {self._checkpoint_step:,} steps are done, and --trainer.max_steps="
                f"{self.trainer.max_steps} asks for no more. A larger one goes on."
            )
        else:
            self.trainer.fit(model, datamodule=datamodule, **options)

    def _is_finished(self) -> bool:
        if self._checkpoint is None or self._weights is not None:
            return False
        return 0 <= self.trainer.max_steps <= self._checkpoint_step and is_complete(self._checkpoint.parent.parent)

    def after_fit(self) -> None:
        if self._is_finished():
            return
        summary = find_callback(self.trainer, Summary)
        score = None
        if self.datamodule.validate_all and self.trainer.enable_validation:
            score = self._score(self.model, self.datamodule)
        assert summary is not None
        scores = self._score_tasks(self.config_init[self.subcommand].get("scores"))
        summary.finish(self.trainer, score, program_name(), self._config_options(), self._own_options(), scores)

    def _score_tasks(self, scores: TaskScores | None) -> dict[str, Any]:
        """How the model answers held-out questions; nothing where it has not learned to answer."""
        if scores is None or not isinstance(self.datamodule, ChatDataModule):
            return {}
        return scores.take(self.trainer, self.model, self.datamodule)

    def validate(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str) -> None:
        """Scores a checkpoint on all of the held-out text."""
        score = self._score(model, datamodule, ckpt_path)
        rows = self.datamodule.held_out
        say(f"val/bpb {score:.4f} on {rows.predictions:,} held-out tokens in {len(rows):,} rows ({ckpt_path})")
        if scores := self._score_tasks(self.config_init[self.subcommand].get("scores")):
            say(in_words(scores))

    def _score(self, model: LightningModule, data: LightningDataModule, ckpt_path: str | None = None) -> float:
        self.trainer.validate(model, datamodule=data, ckpt_path=ckpt_path, verbose=False)
        return float(self.trainer.callback_metrics["val/bpb_all"])

    def _config_options(self) -> str:
        """The ``--config`` options that the user gave, for the commands that the summary proposes."""
        return "".join(f"--config {shlex.quote(path)} " for path in config_files(self._command_line))

    def _own_options(self) -> str:
        """What gives a command the settings of this run: the same, or if the user gave others as well, its own file."""
        others = [word for word in self._command_line if word.startswith("--") and word.split("=")[0] not in NO_SETTING]
        if not others or not self.trainer.log_dir:
            return self._config_options()
        return f"--config {shlex.quote(str(Path(self.trainer.log_dir, CONFIG)))} "


def as_list(value: Any) -> list[Any]:
    """An option that may be left out, one, or several."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def run(arguments: Sequence[str]) -> int:
    """Runs ``fit`` or ``validate``; returns the exit status, unless the process is one of several: that ends here."""
    status = _run(arguments)
    exit_if_distributed(status)
    return status


def _run(arguments: Sequence[str]) -> int:
    set_up_logging()
    try:
        return report_errors(lambda: NanochatCLI(arguments), MisconfigurationException)
    except Interrupted as stop:
        return print_resume_hint(stop, arguments)
    except torch.OutOfMemoryError:
        return report("the GPU's memory is full: lower --data.batch_size (the result stays the same) or --model.depth")
    except RuntimeError as error:
        message = explain_process_error(error)
        if message is None:
            raise
        if getattr(rank_zero_only, "rank", 0) and "MASTER_ADDR" not in message:
            return EXIT_ERROR  # the first process says it
        return report(message)
