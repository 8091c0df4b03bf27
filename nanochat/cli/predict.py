"""``predict``: writes completions of the prompts in a file, with Lightning's predict loop."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from nanochat.cli.choices import choose_hardware
from nanochat.cli.errors import UsageError, report_errors
from nanochat.cli.logging_setup import set_up_logging
from nanochat.cli.parser import check_config_files
from nanochat.cli.run_folders import RunFolders
from nanochat.cli.stages import PRETRAIN, rewritten
from nanochat.cli.starting_point import check_shape, read_starting_point
from nanochat.cli.training import NanochatCLI, as_list
from nanochat.data.prompt_data import PromptsDataModule
from nanochat.model.config import OPTIONS
from nanochat.runs import CHECKPOINTS, STAGES
from nanochat.training.callbacks.completions import Completions
from nanochat.training.checkpoint.find import find_checkpoint
from nanochat.training.checkpoint.loading import BEST, LAST, load_whole_checkpoint
from nanochat.training.checkpoint.safe_io import SafeCheckpointIO
from nanochat.training.console import say
from nanochat.training.trainer_state import find_callback

# Sections of training configurations that `predict` does not have.
TRAINING_SECTIONS = ("data", "plan", "samples", "scores", "checkpoint", "start_from")


class PredictCLI(NanochatCLI):
    """Lightning's ``predict`` subcommand. The model's sizes are read from the checkpoint."""

    def _data_class(self) -> type[LightningDataModule]:
        return PromptsDataModule

    # ---------------------------------------------------------------------------------------------- arguments

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"predict": {"model", "dataloaders", "datamodule", "return_predictions", "weights_only"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="nanochat", help="Name of the run, for last and best.")
        parser.add_argument(
            "--stage",
            type=Literal[STAGES],
            default=PRETRAIN,
            help="Stage of the run: chat reads lightning_logs/<name>-chat.",
        )
        parser.add_lightning_class_args(Completions, "completions")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        check_config_files(args)
        self.config = parser.parse_args(drop_training_sections(args))

    def _parse_ckpt_path(self) -> None:
        config = self.config[self.config.subcommand]
        given = config.get("ckpt_path")
        if not given:
            raise UsageError("predict needs a checkpoint: --ckpt_path=last, --ckpt_path=best or a file")
        runs = RunFolders.of(config, self.stage).versions
        path = find_checkpoint(given, runs) if given in (LAST, BEST) else Path(given)
        config.ckpt_path = str(path)
        checkpoint = load_whole_checkpoint(path)
        saved = checkpoint.get("hyper_parameters", {})
        words = {word.split("=")[0] for word in self.command_line}
        if not all(name in saved for name in OPTIONS) or any(f"--model.{size}" in words for size in OPTIONS):
            check_shape(config.model, saved, path)
        for size, value in saved.items():
            if size in OPTIONS:
                config.model[size] = value
        self.start = read_starting_point(checkpoint, path, only_weights=False)

    # ----------------------------------------------------------------------------------------------- hardware

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        trainer = config.trainer
        if config.completions.seed is None:
            config.completions.seed = int(config.seed_everything)
        config.model.compile = False
        if trainer.devices == "auto":
            trainer.devices = 1
        if trainer.devices not in (1, "1") or trainer.num_nodes != 1:
            raise UsageError("predict runs on one device: remove --trainer.devices and --trainer.num_nodes")
        choose_hardware(trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        self.save_config_callback = None  # predicting does not create a run
        plugins = self.config_init[self.subcommand].trainer.plugins
        kwargs |= {"logger": False, "plugins": [*as_list(plugins), SafeCheckpointIO()]}
        return LightningCLI.instantiate_trainer(self, **kwargs)

    def after_instantiate_classes(self) -> None:
        completions = self._completions
        assert self.start is not None
        self.datamodule.use_model(self.start.tokenizer, self.model.gpt.context, self.start.is_chat)
        folder = self.start.path.parent
        folder = folder.parent if folder.name == CHECKPOINTS else folder
        if completions.out is None:
            completions.out = folder / "completions" / f"{self.datamodule.path.stem}.jsonl"
        if completions.out.resolve() == self.datamodule.path.resolve():
            raise UsageError(f"--completions.out={completions.out} is the prompts file: give another file")

    # ------------------------------------------------------------------------------------------- the command

    def predict(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str) -> None:
        """Writes the completions."""
        self.trainer.predict(model, datamodule=datamodule, ckpt_path=ckpt_path, return_predictions=False)
        say(self._completions.report)

    @property
    def _completions(self) -> Completions:
        completions = find_callback(self.trainer, Completions)
        assert completions is not None
        return completions


def drop_training_sections(arguments: Sequence[str]) -> list[str]:
    """The command line with training settings removed from its configuration files, so that a tier's files can be used.

    The section "data" keeps the settings that :class:`PromptsDataModule` has.
    """
    settings = set(inspect.signature(PromptsDataModule).parameters)

    def rewrite(content: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in content.items() if name not in TRAINING_SECTIONS}
        data = content.get("data")
        if isinstance(data, dict) and (kept_data := {name: value for name, value in data.items() if name in settings}):
            kept["data"] = kept_data
        return kept

    return rewritten(arguments, rewrite)


def run(arguments: Sequence[str]) -> int:
    """Runs ``predict``; returns the exit status."""
    set_up_logging()
    return report_errors(lambda: PredictCLI(arguments), MisconfigurationException)
