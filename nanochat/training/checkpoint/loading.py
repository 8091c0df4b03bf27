"""Checkpoint files as they are read: without unpickling anything, and damaged ones told from whole.

Nothing of Lightning is needed for that, so it is not imported here: that takes two seconds, which whoever only wants to
talk to a model need not wait for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nanochat.training.checkpoint.versions import upgrade

LAST = "last"
BEST = "best"
AUTO = "auto"  # --ckpt_path=auto: the last one if there is one
PREVIOUS = "previous"  # what last.ckpt was before
# under these names Lightning saves what the data of a stage says
TEXT, CHAT, QUESTIONS = "TextDataModule", "ChatDataModule", "QuestionsDataModule"


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors mapped from the file until they are used. Nothing is unpickled.

    Raises:
        ValueError: if the file is missing, cut short, or not a checkpoint, in one line.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise ValueError(f"there is no checkpoint {path}") from error
    except Exception as error:  # torch lets through whatever its readers stumble over
        raise ValueError(_damaged(path)) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is not a checkpoint of this project: it has no weights")
    upgrade(checkpoint, path)
    return checkpoint


def load_whole_checkpoint(path: str | Path) -> dict[str, Any]:
    """As :func:`load_checkpoint`, after a look at the checksums that torch writes but does not read.

    Raises:
        ValueError: also if a byte is not what it was; with the checkpoint before this one, if that is good.
    """
    try:
        if Path(path).is_file():
            _check_checksums(path)
        return load_checkpoint(path)
    except ValueError as error:
        raise ValueError(str(error) + _offer_previous(Path(path))) from error


def _check_checksums(path: str | Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # zipfile has many kinds, one for each field of an archive that may be wrong
        raise ValueError(_damaged(path)) from error
    if broken is not None:
        raise ValueError(_damaged(path))


def _damaged(path: str | Path) -> str:
    return f"{path} is not a whole checkpoint: it is damaged, cut short, or another kind of file"


def data_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the data of the run has saved, the tokenizer among it, whichever stage of training it was.

    Raises:
        KeyError: if it is no checkpoint of this project.
    """
    state: dict[str, Any] = checkpoint[kind_of(checkpoint)]
    return state


def kind_of(checkpoint: Mapping[str, Any]) -> str:
    """What the run has learned from: ``TEXT``, ``CHAT`` or ``QUESTIONS``."""
    return next((kind for kind in (CHAT, QUESTIONS) if kind in checkpoint), TEXT)


def _offer_previous(path: Path) -> str:
    previous = path.with_stem(PREVIOUS)
    if path.stem == PREVIOUS or not previous.is_file():
        return ""
    try:
        step = load_whole_checkpoint(previous)["global_step"]
    except (ValueError, KeyError):
        return ""
    return f"; the one before it, of step {step:,}, is whole: --ckpt_path={previous}"
