"""Writes and reads the folder of transformers' ``from_pretrained``. Writing is atomic: all files or none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from nanochat.exchange import chat_template, config, model_card, tokenizer_json, weights
from nanochat.model import GPT
from nanochat.tokenizer import Tokenizer


class ImportedModel(NamedTuple):
    """A model read from a folder.

    Attributes:
        gpt: a model of the same shape on the meta device, without memory.
        weights: the parameters by this project's names, float32.
        tokenizer: the model's tokenizer.
    """

    gpt: GPT
    weights: dict[str, Tensor]
    tokenizer: Tokenizer


def write_folder(
    target: Path,
    gpt: GPT,
    parameters: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    details: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes all files that transformers needs to load the model without custom code.

    Args:
        target: the folder; created if it does not exist.
        gpt: the model, possibly on the meta device.
        parameters: its parameters by this project's names.
        tokenizer: its tokenizer.
        details: further rows of the model card's table.
        overwrite: whether existing files of the same names may be replaced.

    Raises:
        ValueError: if the folder is not empty or is a file.
        OSError: if it cannot be written; the folder is then unchanged.
    """
    target = target.absolute()
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file, not a folder")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise ValueError(f"the folder {target} is not empty: give another one, or --overwrite to replace its files")
    dtype = parameters["transformer.wte.weight"].dtype
    with _atomic_folder(target) as work:
        weights.write_weights(work, gpt, parameters)
        _write_json(work / config.NAME, config.to_config(gpt, tokenizer, dtype))
        _write_json(work / config.GENERATION_NAME, config.to_generation_config(tokenizer))
        _write_json(work / tokenizer_json.NAME, tokenizer_json.to_json(tokenizer))
        _write_json(work / chat_template.NAME, chat_template.to_tokenizer_config(tokenizer, gpt.context))
        text = model_card.to_card(target.name, gpt, tokenizer, details or {})
        (work / model_card.NAME).write_text(text, encoding="utf-8")
        # safetensors makes files that only the owner can read
        shutil.copymode(work / model_card.NAME, work / weights.NAME)


@contextmanager
def _atomic_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder; its files are moved into the target if no exception was raised."""
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


def read_folder(folder: Path) -> ImportedModel:
    """Reads a model of type "nanochat" from JSON and safetensors files; pickles are never read.

    Raises:
        ValueError: if a file is missing, damaged, or describes a model that this project cannot represent.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    gpt = _read(folder, config.NAME, config.from_config)
    imported = weights.read_weights(folder, gpt)
    tokenizer = _read(folder, tokenizer_json.NAME, lambda data: tokenizer_json.from_json(data, gpt.vocab_size))
    return ImportedModel(gpt, imported, tokenizer)


def _read(folder: Path, name: str, parse: Any) -> Any:
    """Parses a JSON file of the folder; every error includes the file's name."""
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
