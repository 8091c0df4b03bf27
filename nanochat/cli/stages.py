"""The stages of training: the classes of each, and the settings of a tier's file that it does not have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from nanochat.cli.errors import UsageError
from nanochat.cli.parser import config_files
from nanochat.data.chat_data import ChatDataModule
from nanochat.data.data_module import RowsDataModule
from nanochat.data.question_data import QuestionsDataModule
from nanochat.data.text_data import TextDataModule
from nanochat.options import did_you_mean
from nanochat.runs import STAGES
from nanochat.training.budget.plan import Plan
from nanochat.training.budget.reinforce_plan import ReinforcePlan
from nanochat.training.callbacks.samples import Answers, Samples
from nanochat.training.language_model import LanguageModel
from nanochat.training.reinforce import Reinforce

# middle and chat have the same classes; they differ in name and in the tasks that a user gives them
PRETRAIN, _, _, REINFORCE = STAGES


def model_class(stage: str) -> type[LanguageModel]:
    return Reinforce if stage == REINFORCE else LanguageModel


def data_class(stage: str) -> type[RowsDataModule]:
    classes: dict[str, type[RowsDataModule]] = {PRETRAIN: TextDataModule, REINFORCE: QuestionsDataModule}
    return classes.get(stage, ChatDataModule)


def plan_class(stage: str) -> type[Plan]:
    return ReinforcePlan if stage == REINFORCE else Plan


def samples_class(stage: str) -> type[Samples]:
    return Samples if stage == PRETRAIN else Answers


def best_by(stage: str) -> tuple[str, str]:
    """The metric that selects the best checkpoint of a run, and whether lower ("min") or higher ("max") is better."""
    return ("val/accuracy", "max") if stage == REINFORCE else ("val/bpb", "min")


def run_name(name: str, stage: str) -> str:
    """The name of a stage's runs: their folder below lightning_logs."""
    return name if stage == PRETRAIN else f"{name}-{stage}"


def stage_of(arguments: Sequence[str]) -> str:
    """The stage that the command line and its configuration files select; the last mention wins.

    It is needed before parsing, because the options depend on it.

    Raises:
        UsageError: if there is no such stage.
    """
    stage: Any = PRETRAIN
    for path in config_files(arguments):
        stage = read_config(path).get("stage", stage)
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == "--stage":
            stage = after
        elif word.startswith("--stage="):
            stage = word.removeprefix("--stage=")
    if stage not in STAGES:
        raise UsageError(
            f"--stage={stage}: there is no such stage{did_you_mean(str(stage), STAGES)} ({', '.join(STAGES)})"
        )
    return str(stage)


def read_config(path: str) -> dict[str, Any]:
    """The content of a configuration file; {} if it cannot be read, which the parser reports later."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def without_pretraining_only(arguments: Sequence[str], stage: str) -> list[str]:
    """The command line, with configuration files stripped of settings that only pretraining has, such as the corpus.

    A tier's file thus works for all stages.
    """
    if stage == PRETRAIN:
        return list(arguments)
    unused = {
        "data": _settings(TextDataModule) - _settings(data_class(stage)),
        "samples": _settings(Samples) - _settings(Answers),
    }

    def keep(group: str, settings: Any) -> Any:
        if not isinstance(settings, dict) or group not in unused:
            return settings
        return {name: value for name, value in settings.items() if name not in unused[group]}

    return rewritten(arguments, lambda content: {group: keep(group, content[group]) for group in content})


def rewritten(arguments: Sequence[str], rewrite: Callable[[dict[str, Any]], dict[str, Any]]) -> list[str]:
    """The command line with each configuration file that ``rewrite`` changes replaced by its new content."""
    words: list[str] = []
    for word, before in zip(arguments, ["", *arguments], strict=False):
        option = "--config=" if word.startswith("--config=") else ""
        if option or before in ("--config", "-c"):
            content = read_config(word.removeprefix(option))
            if (changed := rewrite(content)) != content:
                word = option + yaml.safe_dump(changed)
        words.append(word)
    return words


def _settings(kind: type) -> set[str]:
    return set(inspect.signature(kind).parameters)


def pretraining_files(arguments: Sequence[str]) -> list[str]:
    """The configuration files that do not set a stage: those of the tier."""
    return [path for path in config_files(arguments) if "stage" not in read_config(path)]
