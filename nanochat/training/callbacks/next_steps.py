"""The commands that a finished run proposes; they run as printed, in the same shell and folder."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch import Trainer

from nanochat.data.text_data import TextDataModule
from nanochat.runs import RUNS
from nanochat.training.run_logger import RunLogger
from nanochat.training.trainer_state import data_of
from nanochat.virtualenv import FOLDER, PROJECT, is_current, shell_path, tool_command

CHAT_CONFIG = Path("configs", "chat.yaml")


def next_steps(trainer: Trainer, program: str, config: str, own: str) -> str:
    """The section "Next" of a run's summary.

    Args:
        trainer: of the run.
        program: the command that starts this program.
        config: the ``--config`` options of this run, each with a space after it.
        own: ``--config`` options with all of this run's settings, each with a space after it.
    """
    logger = trainer.logger
    run = Path(trainer.log_dir) if isinstance(logger, RunLogger) and trainer.log_dir else None
    is_base = isinstance(data_of(trainer), TextDataModule)
    lines = ["Next"]
    if run is not None and is_base:
        lines += _step("fine-tune it on conversations and chat", *fine_tune_commands(run, program))
    if run is not None and not is_base:
        lines += _step("chat, in the terminal or in the browser", *chat_commands(run, program))
    if run is not None:
        tensorboard = tool_command("tensorboard", "tensorboard.main")
        lines += _step("see its curves", f"{tensorboard} --logdir {shell_path(run.parent.parent)}")
    lines += _step("score it on all held-out text", f"{program} validate {own}--ckpt_path=last")
    if is_base:
        deeper = trainer.lightning_module.gpt.config.n_layer + 2  # type: ignore[union-attr, operator]
        lines += _step("train a deeper model", f"{program} fit {config}--model.depth={deeper}")
    return "\n".join(lines)


def _step(purpose: str, *commands: str) -> Iterator[str]:
    """A purpose and its commands. The purpose is no comment behind a command, as not every shell has comments."""
    if commands:
        yield f"  To {purpose}:"
        yield from (f"    {command}" for command in commands)


def fine_tune_commands(run: Path, program: str) -> list[str]:
    """The commands that fine-tune the base model of a run and chat with the result."""
    name = run.parent.name
    tier = Path("configs", f"{name}.yaml")
    if not CHAT_CONFIG.is_file():  # the program was not started in the project's folder
        return []
    if not tier.is_file() or not _is_here(run):
        start = f"--name={shlex.quote(name)} --start_from={shell_path(run)}"
        return [f"{program} fit --config {shell_path(CHAT_CONFIG)} {start}", f"{program} chat"]
    if Path.cwd() == PROJECT and Path("Makefile").is_file() and shutil.which("make") and is_current(FOLDER):
        return ["make chat" + ("" if name == "tiny" else f" TIER={name}")]
    return [f"{program} fit --config {shell_path(tier)} --config {shell_path(CHAT_CONFIG)}", f"{program} chat"]


def chat_commands(run: Path, program: str) -> list[str]:
    """The commands that chat with the newest fine-tuned model, which is this run's."""
    root = "" if _is_here(run) else f" --root={shell_path(run.parent.parent.parent)}"
    return [f"{program} chat{root}", f"{program} serve{root}"]


def _is_here(run: Path) -> bool:
    """Whether the run is in the default folder of runs, which commands search without an option."""
    return run.parent.parent.resolve() == Path(RUNS).resolve()
