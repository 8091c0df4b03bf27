"""The checkpoint that a command starts from: which file it is, and what the command takes from it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanochat.cli.errors import UsageError
from nanochat.cli.main import program_name
from nanochat.cli.run_folders import RunFolders
from nanochat.cli.stages import PRETRAIN, REINFORCE, data_class, pretraining_files, run_name
from nanochat.model import GPTConfig
from nanochat.model.config import OPTIONS
from nanochat.runs import CONFIG
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint.find import find_checkpoint, has_last_checkpoint
from nanochat.training.checkpoint.loading import (
    AUTO,
    BEST,
    CHAT,
    LAST,
    PREVIOUS,
    QUESTIONS,
    TEXT,
    data_state,
    kind_of,
    load_whole_checkpoint,
)

DATA_IN_WORDS = {TEXT: "text", CHAT: "conversations", QUESTIONS: "questions"}


@dataclass(frozen=True)
class StartingPoint:
    """A checkpoint that a run resumes, or whose weights it begins with.

    Attributes:
        path: the file.
        step: steps of the optimizer that it has taken.
        tokenizer: its tokenizer.
        is_chat: whether it was fine-tuned on conversations or questions.
        planned_steps: steps that its run was planned for; 0 if unknown.
        compiled: whether its run was compiled.
        weights: its parameters, where a run takes nothing else; None where it resumes with all of its state.
    """

    path: Path
    step: int
    tokenizer: Tokenizer
    is_chat: bool
    planned_steps: int
    compiled: bool
    weights: dict[str, Any] | None

    @property
    def resumes(self) -> bool:
        """Whether the run goes on with the optimizer's state, the step and the place in the data."""
        return self.weights is None

    def same_folder(self, folders: RunFolders) -> str | None:
        """The folder's name if the run goes on in the checkpoint's own folder; None if it gets a new one."""
        run = self.path.parent.parent
        own = self.resumes and self.path.stem in (LAST, BEST, PREVIOUS) and run.parent == folders.versions
        return run.name if own else None


def find_starting_point(config: Any, command: str, stage: str, command_line: Sequence[str]) -> StartingPoint | None:
    """Resolves ``--ckpt_path`` and ``--start_from``, and takes the model's sizes from the checkpoint where it decides.

    ``last`` and ``best`` mean the newest run of that name; ``auto`` is ``last`` if there is one, so that the same
    command begins a run and resumes it. A run resumes a checkpoint of its own stage; it begins with the weights of the
    stage before.

    Args:
        config: the configuration of the subcommand; ``ckpt_path``, ``start_from`` and the sizes are changed in place.
        command: "fit" or "validate".
        stage: of training.
        command_line: as the user gave it.

    Raises:
        UsageError: if there is no such checkpoint, or it is of another shape or stage.
        ValueError: if the file is damaged.
    """
    folders, given = RunFolders.of(config, stage), config.get("ckpt_path")
    if command == "validate":
        if not given:
            raise UsageError("validate needs a checkpoint: --ckpt_path=last, --ckpt_path=best or a file")
        if given == AUTO:
            raise UsageError(f"--ckpt_path={AUTO} is for `fit`; to score a checkpoint: --ckpt_path={LAST}")
    if given == AUTO:
        given = config.ckpt_path = LAST if has_last_checkpoint(folders.versions, folders.pattern) else None
    if not given:
        return None if stage == PRETRAIN else _from_stage_before(config, stage, folders, command_line)
    path = find_checkpoint(given, folders.versions, folders.pattern) if given in (LAST, BEST) else Path(given)
    config.ckpt_path = str(path)
    checkpoint = load_whole_checkpoint(path)
    _check_kind(checkpoint, path, stage)
    if stage != PRETRAIN:
        _take_sizes(config, checkpoint, path, command_line)
    check_shape(config.model, checkpoint.get("hyper_parameters", {}), path)
    imported = command == "fit" and "optimizer_states" not in checkpoint  # a file that `import` wrote
    return read_starting_point(checkpoint, path, only_weights=imported)


def read_starting_point(checkpoint: dict[str, Any], path: Path, only_weights: bool) -> StartingPoint:
    """A loaded checkpoint as a starting point.

    Raises:
        UsageError: if it is not a checkpoint of this project.
    """
    conditions = checkpoint.get("conditions", {})
    try:
        return StartingPoint(
            path=path,
            step=int(checkpoint["global_step"]),
            tokenizer=Tokenizer.from_dict(data_state(checkpoint)["tokenizer"]),
            is_chat=kind_of(checkpoint) != TEXT,
            planned_steps=int(conditions.get("max_steps", 0)),
            compiled=bool(conditions.get("compile")),
            weights=checkpoint["state_dict"] if only_weights else None,
        )
    except KeyError as error:
        raise UsageError(f"{path} is not a checkpoint of this project: it has no tokenizer") from error


def check_shape(wanted: Any, saved: Any, path: Path) -> None:
    """Refuses a checkpoint whose sizes are not the wanted ones; the context may differ.

    Args:
        wanted: the model's options.
        saved: the checkpoint's hyperparameters.
        path: the checkpoint.

    Raises:
        UsageError: with the configuration file that has its sizes.
    """
    if not all(name in saved for name in OPTIONS):
        raise UsageError(f"{path} is not a checkpoint of this project: it does not say its shape")
    have, want = (GPTConfig.from_hyperparameters(values).to_hyperparameters() for values in (saved, wanted))
    names = [name for name in OPTIONS if name != "context" and have[name] != want[name]]
    if names:
        different = ", ".join(f"{name} {have[name]:,} instead of {want[name]:,}" for name in names)
        own = (path.parent.parent / CONFIG, path.with_suffix(".yaml"))
        how = next((f"--config {file}" for file in own if file.is_file()), "the configuration it was trained with")
        raise UsageError(f"the checkpoint {path} has {different}: give {how}")


def _check_kind(checkpoint: dict[str, Any], path: Path, stage: str) -> None:
    """Refuses to resume a checkpoint of another stage, and says what to do with it instead."""
    kind, wanted = kind_of(checkpoint), data_class(stage).__name__
    if kind == wanted:
        return
    if wanted == TEXT or kind == QUESTIONS:
        how = f"--stage={'chat' if kind == CHAT else REINFORCE} resumes it"
    else:
        how = f"--start_from={path} {'fine-tunes' if wanted == CHAT else 'reinforces'} it"
    raise UsageError(f"the checkpoint {path} was trained on {DATA_IN_WORDS[kind]}: {how}")


def _from_stage_before(config: Any, stage: str, folders: RunFolders, command_line: Sequence[str]) -> StartingPoint:
    """The weights, sizes and tokenizer of the stage before: of its newest run, or of the checkpoint given."""
    start = config.start_from
    before = config.name if stage != REINFORCE else run_name(config.name, "chat")
    runs = folders.root / (start or before)
    try:
        if start is not None and Path(start).is_file():
            path = Path(start)
        elif start is not None and Path(start).name.startswith("version_"):
            path = find_checkpoint(LAST, Path(start).parent, Path(start).name)
        else:
            path = find_checkpoint(LAST, runs)
    except ValueError as error:
        if start is not None:
            raise UsageError(f"--start_from={start}: there is no such checkpoint, run or name of a run") from error
        what = _how_to_train(f"model below {runs}", stage, command_line)
        raise UsageError(f"there is no {what}") from error
    checkpoint = load_whole_checkpoint(path)
    is_base = kind_of(checkpoint) == TEXT and "optimizer_states" in checkpoint  # an imported one may be a chat model
    if stage == REINFORCE and is_base:
        what = _how_to_train(f"model in {path}, which was trained on text only", stage, command_line)
        raise UsageError(f"there is no {what}")
    _take_sizes(config, checkpoint, path, command_line)
    config.start_from = start or str(path)  # so that the saved configuration records it
    return read_starting_point(checkpoint, path, only_weights=True)


def _how_to_train(what: str, stage: str, command_line: Sequence[str]) -> str:
    """The kind of model that a stage starts from, and the command that trains one."""
    tier = " ".join(f"--config {shlex.quote(path)}" for path in pretraining_files(command_line))
    kind, more = ("chat", " --config configs/chat.yaml") if stage == REINFORCE else ("pretrained", "")
    how = f"train it first with `{program_name()} fit {tier}{more}`, or give another one with --start_from"
    return f"{kind} {what}: {how}"


def _take_sizes(config: Any, checkpoint: dict[str, Any], path: Path, command_line: Sequence[str]) -> None:
    """Takes the checkpoint's sizes, whatever the tier's file has; a size on the command line must be the same."""
    saved = checkpoint.get("hyper_parameters", {})
    words = {word.split("=")[0] for word in command_line}
    if any(f"--{group}.{size}" in words for size in OPTIONS for group in ("model", "data")):
        check_shape(config.model, saved, path)
    for size in OPTIONS:
        if size in saved and size in config.model:
            config.model[size] = saved[size]
    for size in ("vocab_size", "context"):
        if size in saved:
            config.data[size] = saved[size]
