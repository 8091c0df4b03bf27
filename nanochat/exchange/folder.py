"""The folder that transformers' ``from_pretrained`` reads: written whole or not at all, and read back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from nanochat.exchange import card, chat, config, tokenizer_json, weights
from nanochat.model import GPT
from nanochat.tokenizer import Tokenizer


class Imported(NamedTuple):
    """What a folder holds.

    Attributes:
        gpt: a model of its sizes on the meta device: shapes without memory.
        weights: the parameters by our names, float32.
        tokenizer: the one that the model was trained with.
    """

    gpt: GPT
    weights: dict[str, Tensor]
    tokenizer: Tokenizer


def write_folder(
    target: Path,
    gpt: GPT,
    parameters: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    facts: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes all that transformers needs to load the model with no code of ours.

    Args:
        target: the folder; made if it is not there.
        gpt: the model, possibly on the meta device.
        parameters: its parameters by our names.
        tokenizer: the one that it was trained with.
        facts: what else the model card is to say.
        overwrite: whether files of the same names in the folder may be replaced.

    Raises:
        ValueError: if the folder is not empty, or is a file.
        OSError: if it cannot be written; then it is as it was before.
    """
    target = target.absolute()
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file, not a folder")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise ValueError(f"the folder {target} is not empty: give another one, or --overwrite to replace its files")
    dtype = parameters["transformer.wte.weight"].dtype
    with _whole_folder(target) as work:
        weights.write_weights(work, gpt, parameters)
        _write_json(work / config.NAME, config.to_config(gpt, tokenizer, dtype))
        _write_json(work / config.GENERATION_NAME, config.to_generation_config(tokenizer))
        _write_json(work / tokenizer_json.NAME, tokenizer_json.to_json(tokenizer))
        _write_json(work / chat.NAME, chat.to_tokenizer_config(tokenizer, gpt.context))
        (work / card.NAME).write_text(card.to_card(target.name, gpt, tokenizer, facts or {}), encoding="utf-8")
        shutil.copymode(work / card.NAME, work / weights.NAME)  # safetensors writes for the user's own eyes only


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A folder beside the target to write into, whose files come into the target only when all are there."""
    work = target.with_name(f".{target.name}.{os.getpid()}.part")
    work.mkdir(parents=True)
    try:
        yield work
        target.mkdir(exist_ok=True)
        for path in work.iterdir():
            os.replace(path, target / path.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_folder(folder: Path) -> Imported:
    """Reads a model of type "nanochat", ours or another's: JSON and safetensors, never a pickle.

    Raises:
        ValueError: if a file is missing or damaged, or says what our model cannot represent, naming the file.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    gpt = _read(folder, config.NAME, config.from_config)
    imported = weights.read_weights(folder, gpt)
    tokenizer = _read(folder, tokenizer_json.NAME, lambda data: tokenizer_json.from_json(data, gpt.vocab_size))
    return Imported(gpt, imported, tokenizer)


def _read(folder: Path, name: str, parse: Any) -> Any:
    """A JSON file of the folder, parsed; every error names the file."""
    path = folder / name
    if not path.is_file():
        weights.refuse_pickles(folder, name)
        raise ValueError(f"there is no {name} in {folder}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        return parse(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
