"""What a command takes from a checkpoint: which one is meant, its sizes and tokenizer, or only its weights."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from nanochat.cli.errors import UsageError
from nanochat.cli.main import program_name
from nanochat.cli.stages import PRETRAIN, REINFORCE, data_class, pretraining_files, run_name
from nanochat.model import GPTConfig
from nanochat.model.config import OPTIONS
from nanochat.runs import CONFIG, RUNS
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint.find import find_checkpoint, has_last_checkpoint
from nanochat.training.checkpoint.loading import (
    AUTO,
    BEST,
    CHAT,
    LAST,
    QUESTIONS,
    TEXT,
    data_state,
    kind_of,
    load_whole_checkpoint,
)

LEARNED_FROM = {TEXT: "text", CHAT: "conversations", QUESTIONS: "questions"}


class FromCheckpoint:
    """The part of the command line that finds a checkpoint, and lets its model decide on the sizes.

    A run goes on from a checkpoint of its own stage with all of its state; it starts from the model of the stage before
    with nothing but the weights.
    """

    config: Any
    _stage: str
    _command_line: list[str]
    _tokenizer: Tokenizer
    _checkpoint_step: int
    _checkpoint: Path | None = None
    _steps_before = 0  # that the checkpoint's run was planned for
    _compiled_before: bool | None = None  # None without a checkpoint
    _weights: dict[str, Any] | None = None  # of a checkpoint that holds nothing else to go on with

    def _parse_ckpt_path(self) -> None:
        """Lightning lets a checkpoint's settings override the command line silently; here the command line wins.

        ``last`` and ``best`` mean the newest run of that name; ``auto`` is ``last`` if there is one, so that the same
        command begins a run and goes on with it. A checkpoint of another shape is refused.
        """
        config = self.config[self.config.subcommand]
        given = config.get("ckpt_path")
        if not given and self.config.subcommand == "validate":
            raise UsageError("validate needs a checkpoint: --ckpt_path=last, --ckpt_path=best or a file")
        if given == AUTO:
            if self.config.subcommand == "validate":
                raise UsageError(f"--ckpt_path={AUTO} is for `fit`; to score a checkpoint: --ckpt_path={LAST}")
            given = config.ckpt_path = LAST if has_last_checkpoint(self._runs(config), self._version(config)) else None
        if not given:
            if self._stage != PRETRAIN:
                self._start_from_before(config)
            return
        if str(given) in (LAST, BEST):
            self._checkpoint = find_checkpoint(str(given), self._runs(config), self._version(config))
        else:
            self._checkpoint = Path(given)
        config.ckpt_path = str(self._checkpoint)
        checkpoint = load_whole_checkpoint(self._checkpoint)
        self._check_kind(checkpoint)
        if self._stage != PRETRAIN:
            self._take_sizes(config, checkpoint)
        self._check_shape(config.model, checkpoint.get("hyper_parameters", {}))
        self._take_checkpoint(checkpoint)

    def _check_kind(self, checkpoint: dict[str, Any]) -> None:
        """A run goes on from a checkpoint of its own stage only; another stage's is what a new run starts from."""
        kind, wanted = kind_of(checkpoint), data_class(self._stage).__name__
        if kind == wanted:
            return
        if wanted == TEXT or kind == QUESTIONS:
            how = f"--stage={'chat' if kind == CHAT else REINFORCE} goes on with it"
        else:
            how = f"--start_from={self._checkpoint} {'fine-tunes' if wanted == CHAT else 'reinforces'} it"
        raise UsageError(f"the checkpoint {self._checkpoint} has learned from {LEARNED_FROM[kind]}: {how}")

    def _take_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        try:
            self._tokenizer = Tokenizer.from_dict(data_state(checkpoint)["tokenizer"])
            self._checkpoint_step = int(checkpoint["global_step"])
            conditions = checkpoint.get("conditions", {})
            self._steps_before = int(conditions.get("max_steps", 0))
            self._compiled_before = bool(conditions.get("compile"))
        except KeyError as error:
            raise UsageError(f"{self._checkpoint} is not a checkpoint of this project: it has no tokenizer") from error
        if self.config.subcommand == "fit" and "optimizer_states" not in checkpoint:  # as `import` writes it
            self._weights = checkpoint["state_dict"]

    def _start_from_before(self, config: Any) -> None:
        """Takes the weights, the sizes and the tokenizer of the stage before: its newest run, or the one given."""
        start = config.start_from
        before = config.name if self._stage != REINFORCE else run_name(config.name, "chat")
        runs = self._runs_folder(config) / (start or before)
        try:
            if start is not None and Path(start).is_file():
                self._checkpoint = Path(start)
            elif start is not None and Path(start).name.startswith("version_"):
                self._checkpoint = find_checkpoint(LAST, Path(start).parent, Path(start).name)
            else:
                self._checkpoint = find_checkpoint(LAST, runs)
        except ValueError as error:
            if start is not None:
                raise UsageError(f"--start_from={start}: there is no such checkpoint, run or name of a run") from error
            raise UsageError(f"there is no {self._how_to_train(f'model below {runs}')}") from error
        checkpoint = load_whole_checkpoint(self._checkpoint)
        only_text = kind_of(checkpoint) == TEXT and "optimizer_states" in checkpoint  # an imported one may know more
        if self._stage == REINFORCE and only_text:
            what = f"model in {self._checkpoint}, which has only read text"
            raise UsageError(f"there is no {self._how_to_train(what)}")
        self._take_sizes(config, checkpoint)
        self._take_checkpoint(checkpoint)
        self._weights = checkpoint["state_dict"]
        config.start_from = start or str(self._checkpoint)  # so that the saved configuration says what it was

    def _how_to_train(self, what: str) -> str:
        """The kind of model that this stage starts from, and how to come by one."""
        tier = " ".join(f"--config {shlex.quote(path)}" for path in pretraining_files(self._command_line))
        kind, more = ("chat", " --config configs/chat.yaml") if self._stage == REINFORCE else ("pretrained", "")
        how = f"train it first with `{program_name()} fit {tier}{more}`, or give another one with --start_from"
        return f"{kind} {what}: {how}"

    def _take_sizes(self, config: Any, checkpoint: dict[str, Any]) -> None:
        """The model is the checkpoint's, whatever the tier says; a size given on the command line must be its own."""
        saved = checkpoint.get("hyper_parameters", {})
        words = {word.split("=")[0] for word in self._command_line}
        if any(f"--{part}.{size}" in words for size in OPTIONS for part in ("model", "data")):
            self._check_shape(config.model, saved)
        for size in OPTIONS:
            if size in saved and size in config.model:
                config.model[size] = saved[size]
        for size in ("vocab_size", "context"):
            if size in saved:
                config.data[size] = saved[size]

    def _check_shape(self, wanted: Any, saved: dict[str, Any]) -> None:
        def shape(values: Any) -> dict[str, int]:
            """All sizes but the context, which may differ: a model can go on with longer or shorter rows."""
            sizes = GPTConfig.from_hyperparameters(values).to_hyperparameters()
            del sizes["context"]
            return sizes

        if not all(name in saved for name in OPTIONS):
            raise UsageError(f"{self._checkpoint} is not a checkpoint of this project: it does not say its shape")
        have, want = shape(saved), shape(wanted)
        different = [f"{name} {have[name]:,} instead of {want[name]:,}" for name in have if have[name] != want[name]]
        if different:
            assert self._checkpoint is not None
            own = (self._checkpoint.parent.parent / CONFIG, self._checkpoint.with_suffix(".yaml"))
            how = next((f"--config {path}" for path in own if path.is_file()), "the configuration it was trained with")
            raise UsageError(f"the checkpoint {self._checkpoint} has {', '.join(different)}: give {how}")

    @staticmethod
    def _runs_folder(config: Any) -> Path:
        return Path(config.trainer.default_root_dir or ".", RUNS)

    def _runs(self, config: Any) -> Path:
        """The folder of all runs of this name and stage."""
        return self._runs_folder(config) / self._run_name(config)

    @staticmethod
    def _version(config: Any) -> str:
        """The folder of the run that is meant, or the pattern of all."""
        version = config.get("version")
        return "version_*" if version is None else f"version_{version}"

    def _run_name(self, config: Any) -> str:
        return run_name(config.name, self._stage)
