"""Reads checkpoint files without executing pickles, and detects damaged ones.

Nothing here imports Lightning, which takes two seconds that a program to chat with a model need not spend.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nanochat.training.checkpoint.versions import upgrade

# Names of checkpoint files, and values of --ckpt_path.
LAST = "last"
BEST = "best"
AUTO = "auto"  # --ckpt_path=auto: last if there is one
PREVIOUS = "previous"  # the last.ckpt before the present one
# Keys under which Lightning saves the state of the data modules.
TEXT, CHAT, QUESTIONS = "TextDataModule", "ChatDataModule", "QuestionsDataModule"


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint. Tensors are mapped from the file, and read when they are used.

    Raises:
        ValueError: if the file is missing, cut short, or not a checkpoint, in one line.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise ValueError(f"there is no checkpoint {path}") from error
    except Exception as error:  # torch's readers raise many types on a damaged file
        raise ValueError(_damaged(path)) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is not a checkpoint of this project: it has no weights")
    upgrade(checkpoint, path)
    return checkpoint


def load_whole_checkpoint(path: str | Path) -> dict[str, Any]:
    """Like :func:`load_checkpoint`, after verifying the checksums, which torch writes but does not verify.

    Raises:
        ValueError: also if a byte has changed. The message names the previous checkpoint if that is intact.
    """
    try:
        if Path(path).is_file():
            _verify_checksums(path)
        return load_checkpoint(path)
    except ValueError as error:
        raise ValueError(str(error) + _suggest_previous(Path(path))) from error


def _verify_checksums(path: str | Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged_member = archive.testzip()
    except Exception as error:  # zipfile raises many types on a damaged archive
        raise ValueError(_damaged(path)) from error
    if damaged_member is not None:
        raise ValueError(_damaged(path))


def _damaged(path: str | Path) -> str:
    return f"{path} is not a whole checkpoint: it is damaged, cut short, or another kind of file"


def _suggest_previous(path: Path) -> str:
    previous = path.with_stem(PREVIOUS)
    if path.stem == PREVIOUS or not previous.is_file():
        return ""
    try:
        step = load_whole_checkpoint(previous)["global_step"]
    except (ValueError, KeyError):
        return ""
    return f"; the one before it, of step {step:,}, is whole: --ckpt_path={previous}"


def data_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the run's data module, with the tokenizer.

    Raises:
        KeyError: if it is no checkpoint of this project.
    """
    state: dict[str, Any] = checkpoint[kind_of(checkpoint)]
    return state


def kind_of(checkpoint: Mapping[str, Any]) -> str:
    """The kind of training data: ``TEXT``, ``CHAT`` or ``QUESTIONS``."""
    return next((kind for kind in (CHAT, QUESTIONS) if kind in checkpoint), TEXT)
