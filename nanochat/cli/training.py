"""The LightningCLI of ``fit`` and ``validate``: options, callbacks, and the steps around training."""

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

from nanochat.cli.choices import fill_in
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
from nanochat.cli.run_folders import RunFolders
from nanochat.cli.stages import (
    PRETRAIN,
    best_by,
    data_class,
    model_class,
    plan_class,
    samples_class,
    stage_of,
    without_pretraining_only,
)
from nanochat.cli.starting_point import StartingPoint, find_starting_point
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
from nanochat.training.callbacks.task_scores import TaskScores, format_scores
from nanochat.training.callbacks.throughput import Throughput
from nanochat.training.callbacks.weight_rank import WeightRank
from nanochat.training.checkpoint.model_checkpoint import LastCheckpoint, best_checkpoint
from nanochat.training.checkpoint.safe_io import SafeCheckpointIO
from nanochat.training.console import as_markdown, say
from nanochat.training.run_logger import RunLogger
from nanochat.training.trainer_state import find_callback

# Options that a command to score a run does not need.
NOT_FOR_SCORING = ("--config", "--ckpt_path", "--plan.minutes")
CKPT_PATH_HELP = {
    "fit": "The checkpoint to resume: a file; last or best, of the newest run of this --name; or auto, which is last "
    "if there is one and otherwise starts a new run. A file that `import` wrote gives its weights to a new run.",
    "validate": "The checkpoint to score: a file, or last or best, of the newest run of this --name.",
    "predict": "The model: a file, or last or best, of the newest run of this --name and --stage.",
}


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder and into TensorBoard."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if isinstance(trainer.logger, TensorBoardLogger):
            text = self.parser.dump(self.config, skip_none=False)
            trainer.logger.experiment.add_text("configuration", as_markdown(text), 0)


class Parser(OneLineErrorParser, LightningArgumentParser):
    """Lightning's parser, with errors in one line."""


class NanochatCLI(LightningCLI):
    """LightningCLI's ``fit`` and ``validate`` with this project's callbacks, stages and checkpoints.

    Attributes:
        stage: of training; it decides which classes are built, and so which options there are.
        command_line: as the user gave it.
        start: the checkpoint that the command starts from; None without one.
    """

    start: StartingPoint | None = None

    def __init__(self, args: Sequence[str]) -> None:
        self.stage, self.command_line = stage_of(args), list(args)
        super().__init__(
            model_class(self.stage),
            self._data_class(),
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "max_epochs": -1,  # the stream of text has no end: steps count
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 10,
                "enable_model_summary": False,  # the plan prints it
            },
            seed_everything_default=42,
            parser_class=Parser,
            auto_configure_optimizers=False,
            args=list(args),
        )

    def _data_class(self) -> type[LightningDataModule]:
        return data_class(self.stage)

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
            help="The N of that folder; null takes the next free one for a new run, and the newest for "
            "--ckpt_path=last.",
        )
        parser.add_argument(
            "--stage",
            type=Literal[STAGES],
            default=PRETRAIN,
            help="pretrain trains on text; middle and, after it, chat train on conversations; reinforce trains on the "
            "model's own answers to questions. Their runs go into lightning_logs/<name>-<stage>.",
        )
        if self.stage != PRETRAIN:
            parser.add_argument(
                "--start_from",
                type=str | None,
                default=None,
                help="The model to fine-tune: a checkpoint, a run's folder or a run's name; null takes the newest run "
                "of this --name (reinforce: of its chat stage).",
            )
            parser.add_lightning_class_args(TaskScores, "scores")
            parser.add_lightning_class_args(ChatEvaluation, "chat")
        parser.add_lightning_class_args(plan_class(self.stage), "plan")
        parser.add_lightning_class_args(samples_class(self.stage), "samples")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_lightning_class_args(CoreEvaluation, "core")
        # vocabulary and context are set once, for data and model
        parser.link_arguments("data.vocab_size", "model.vocab_size")
        parser.link_arguments("data.context", "model.context")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        for action in parser._actions:
            if action.dest == "ckpt_path":  # Lightning's own help does not name last, best and auto
                action.help = CKPT_PATH_HELP[subcommand]
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        check_config_files(args)
        self.config = parser.parse_args(without_pretraining_only(args, self.stage))
        check_name(self.config[self.config.subcommand].name)

    def _parse_ckpt_path(self) -> None:
        """Lightning's hook, in which a checkpoint's settings would silently override the command line: here it wins."""
        command = self.config.subcommand
        self.start = find_starting_point(self.config[command], command, self.stage, self.command_line)

    def before_instantiate_classes(self) -> None:
        assert self.subcommand is not None
        fill_in(self.config[self.subcommand], self.subcommand, self.stage, self.start)

    # ---------------------------------------------------------------------------------------------- the trainer

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config[self.subcommand]
        trainer = self.config_init[self.subcommand].trainer
        fitting = self.subcommand == "fit"
        if not fitting:
            kwargs["logger"] = False  # scoring writes no new run
        elif trainer.logger in (None, True):
            kwargs["logger"] = self._new_logger(config)
        kwargs["plugins"] = [*as_list(trainer.plugins), SafeCheckpointIO()]
        start = self.start
        consistency = RankConsistency(start.step if start is not None else 0)
        summary = Summary(str(start.path) if start is not None and not start.resumes else None)
        callbacks = [*as_list(trainer.callbacks), consistency, Throughput(), summary, Resume(), GracefulStop()]
        if trainer.enable_checkpointing in (None, True):
            callbacks.append(best_checkpoint(*best_by(self.stage)))
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
        folders = RunFolders.of(config, self.stage)
        version, purge_step = config.version, None if config.version is None else 0
        config.version = None  # a run of the saved configuration is another run
        if self.start is not None and (own := self.start.same_folder(folders)) is not None:
            version, purge_step = own, self.start.step
        return RunLogger(folders.root, folders.name, version, purge_step)

    def after_instantiate_classes(self) -> None:
        if self.subcommand == "fit" and self.trainer.accumulate_grad_batches == 1:
            self.datamodule.micro_steps(self.trainer.world_size)  # refuses now, before there are other processes
        if self.start is not None:
            self.datamodule.use_tokenizer(self.start.tokenizer)
        if self.start is not None and self.start.weights is not None:
            self._load_weights(self.start, self.start.weights)

    def _load_weights(self, start: StartingPoint, weights: dict[str, Any]) -> None:
        """Loads the weights alone. The Trainer, which would require all of a run's state, starts at step 0."""
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise UsageError(f"the weights in {start.path} are not those of this model: {error}") from error
        weights.clear()  # frees the memory that is mapped from the file
        self.config_init[self.subcommand].ckpt_path = None

    # ------------------------------------------------------------------------------------------- the commands

    def before_fit(self) -> None:
        if self.start is not None and self.start.resumes:
            say(f"Resuming from {self.start.path}, step {self.start.step:,}.")
        elif self.start is not None:
            say(f"Starting from the weights in {self.start.path}: a new run, from step 0.")

    def fit(self, model: LightningModule, datamodule: LightningDataModule, **options: Any) -> None:
        """Trains, unless the checkpoint is that of a finished run."""
        if self._is_finished():
            assert self.start is not None
            say(
                f"This run is finished: {self.start.step:,} steps are done, and --trainer.max_steps="
                f"{self.trainer.max_steps} asks for no more. Give a larger one to continue."
            )
        else:
            self.trainer.fit(model, datamodule=datamodule, **options)

    def _is_finished(self) -> bool:
        if self.start is None or not self.start.resumes:
            return False
        return 0 <= self.trainer.max_steps <= self.start.step and is_complete(self.start.path.parent.parent)

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
        """Accuracy on held-out questions by task; empty for a base model."""
        if scores is None or not isinstance(self.datamodule, ChatDataModule):
            return {}
        return scores.measure(self.trainer, self.model, self.datamodule)

    def validate(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str) -> None:
        """Scores a checkpoint on all of the held-out text."""
        score = self._score(model, datamodule, ckpt_path)
        rows = self.datamodule.held_out
        say(f"val/bpb {score:.4f} on {rows.predictions:,} held-out tokens in {len(rows):,} rows ({ckpt_path})")
        if scores := self._score_tasks(self.config_init[self.subcommand].get("scores")):
            say(format_scores(scores))

    def _score(self, model: LightningModule, data: LightningDataModule, ckpt_path: str | None = None) -> float:
        self.trainer.validate(model, datamodule=data, ckpt_path=ckpt_path, verbose=False)
        return float(self.trainer.callback_metrics["val/bpb_all"])

    def _config_options(self) -> str:
        """The ``--config`` options of the command line, for the commands that the summary proposes."""
        return "".join(f"--config {shlex.quote(path)} " for path in config_files(self.command_line))

    def _own_options(self) -> str:
        """The ``--config`` options with this run's settings: the user's files, or the run's own if more was set."""
        options = [word.split("=")[0] for word in self.command_line if word.startswith("--")]
        if set(options) <= set(NOT_FOR_SCORING) or not self.trainer.log_dir:
            return self._config_options()
        return f"--config {shlex.quote(str(Path(self.trainer.log_dir, CONFIG)))} "


def as_list(value: Any) -> list[Any]:
    """The value of an option that may be absent, one item or a list, as a list."""
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
