"""The stages of training: which classes each is made of, and what of a tier's configuration it has no use for."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nanochat.cli.errors import UsageError, nearest
from nanochat.cli.parser import config_files
from nanochat.data.chat import ChatDataModule
from nanochat.data.module import RowsDataModule
from nanochat.data.text import TextDataModule
from nanochat.training.samples import Answers, Samples

PRETRAIN = "pretrain"
STAGES = (PRETRAIN, "middle", "chat")  # the last two differ by their names alone, and by what a user has them learn


def data_class(stage: str) -> type[RowsDataModule]:
    return TextDataModule if stage == PRETRAIN else ChatDataModule


def samples_class(stage: str) -> type[Samples]:
    return Samples if stage == PRETRAIN else Answers


def stage_of(arguments: Sequence[str]) -> str:
    """The stage that the command line and its configuration files ask for, the last one that says it.

    It is looked up before anything is parsed, because what can be parsed depends on it.

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
        raise UsageError(f"--stage={stage}: there is no such stage{nearest(str(stage), STAGES)} ({', '.join(STAGES)})")
    return str(stage)


def read_config(path: str) -> dict[str, Any]:
    """A configuration file; what is wrong with it is said when it is parsed."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def without_needless(arguments: Sequence[str], stage: str) -> list[str]:
    """The command line, its configuration files without what only pretraining has a use for, such as the corpus.

    So a tier's file serves all stages.
    """
    if stage == PRETRAIN:
        return list(arguments)
    needless = {
        "data": _settings(TextDataModule) - _settings(ChatDataModule),
        "samples": _settings(Samples) - _settings(Answers),
    }
    changed = {}
    for path in config_files(arguments):
        content = read_config(path)
        if any(
            isinstance(content.get(group), dict) and names & set(content[group]) for group, names in needless.items()
        ):
            for group, names in needless.items():
                if isinstance(content.get(group), dict):
                    content[group] = {name: value for name, value in content[group].items() if name not in names}
            changed[path] = yaml.safe_dump(content)
    return list(with_contents(arguments, changed))


def with_contents(arguments: Sequence[str], changed: dict[str, str]) -> list[str]:
    """The arguments with the contents of files in place of their names."""
    words: list[str] = []
    for word, before in zip(arguments, ["", *arguments], strict=False):
        if before in ("--config", "-c"):
            words.append(changed.get(word, word))
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
            words.append(f"--config={changed.get(path, path)}")
        else:
            words.append(word)
    return words


def _settings(kind: type) -> set[str]:
    return set(inspect.signature(kind).parameters)


def pretraining_files(arguments: Sequence[str]) -> list[str]:
    """The configuration files that say nothing of a stage: those of the tier."""
    return [path for path in config_files(arguments) if "stage" not in read_config(path)]
