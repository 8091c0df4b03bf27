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
from nanochat.cli.errors import UsageError, reporting
from nanochat.cli.from_checkpoint import SHAPE, SIZES, WITHOUT
from nanochat.cli.parser import check_config_files
from nanochat.cli.quiet import quieten
from nanochat.cli.stages import PRETRAIN, rewritten
from nanochat.cli.training import NanochatCLI, as_list
from nanochat.data.prompts import PromptsDataModule
from nanochat.runs import CHECKPOINTS, STAGES
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint_files import BEST, LAST, TEXT, data_state, kind_of, load_whole_checkpoint
from nanochat.training.checkpoint_io import SafeCheckpointIO
from nanochat.training.checkpoints import find_checkpoint
from nanochat.training.completions import Completions
from nanochat.training.console import say
from nanochat.training.steps import find_callback

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
        path = find_checkpoint(str(given), self._runs(config)) if str(given) in (LAST, BEST) else Path(given)
        self._checkpoint, config.ckpt_path = path, str(path)
        checkpoint = load_whole_checkpoint(path)
        saved = checkpoint.get("hyper_parameters", {})
        options = {word.split("=")[0] for word in self._command_line}
        if not all(name in saved for name in SHAPE) or any(f"--model.{size}" in options for size in SIZES):
            self._check_shape(config.model, saved)
        for size, value in {**WITHOUT, **saved}.items():
            if size in SIZES:
                config.model[size] = value
        try:
            self._tokenizer = Tokenizer.from_dict(data_state(checkpoint)["tokenizer"])
        except KeyError as error:
            raise UsageError(f"{path} is not a checkpoint of this project: it has no tokenizer") from error
        self._is_chat = kind_of(checkpoint) != TEXT

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
        assert self._checkpoint is not None
        self.datamodule.use_model(self._tokenizer, self.model.gpt.context, self._is_chat)
        folder = self._checkpoint.parent
        folder = folder.parent if folder.name == CHECKPOINTS else folder
        if completions.out is None:
            completions.out = folder / "completions" / f"{self.datamodule.path.stem}.jsonl"
        if completions.out.resolve() == self.datamodule.path.resolve():
            raise UsageError(f"--completions.out={completions.out} is the prompts file: give another file")

    # ------------------------------------------------------------------------------------------- the command

    def predict(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str) -> None:
        """Writes the completions."""
        self.trainer.predict(model, datamodule=datamodule, ckpt_path=ckpt_path, return_predictions=False)
        say(self._completions.in_words)

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
    quieten()
    return reporting(lambda: PredictCLI(arguments), MisconfigurationException)
