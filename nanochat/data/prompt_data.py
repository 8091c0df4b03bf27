"""The LightningDataModule of ``predict``: prompts to continue and conversations to answer, from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from nanochat.options import at_least
from nanochat.tokenizer import Tokenizer, prompt_ids, render_prompt


class Prompt(NamedTuple):
    """A prompt for a model.

    Attributes:
        number: its index among all prompts.
        record: its fields in the file: "prompt" or "messages", and any other.
        ids: its tokens.
    """

    number: int
    record: dict[str, Any]
    ids: list[int]


class PromptsDataModule(LightningDataModule):
    """Prompts in the order of their file.

    Args:
        prompts: the file: .txt with a prompt on each line; or .jsonl with {"prompt": "..."} or {"messages": [{"role":
            "user", "content": "..."}, ...]} on each line. Other fields are copied to the output.
        at_once: prompts that are completed together; more are faster, and take more memory.

    Raises:
        ValueError: if a number is out of range, or a line is invalid, naming the file and the line.
    """

    def __init__(self, prompts: str | None = None, at_once: int = 32) -> None:
        super().__init__()
        if prompts is None:
            raise ValueError("--data.prompts is missing: the file with the prompts, .txt or .jsonl")
        at_least(1, "data.", at_once=at_once)
        self.path, self.at_once = Path(prompts), at_once
        self.records = list(read_prompts(self.path))
        if not self.records:
            raise ValueError(f"{prompts} has no prompts")
        self._tokenizer: Tokenizer | None = None
        self._prompts: list[Prompt] = []

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        assert self._tokenizer is not None, "call use_model() first: prompts need the model's tokenizer"
        return self._tokenizer

    def use_model(self, tokenizer: Tokenizer, context: int, is_chat: bool) -> None:
        """Tokenizes the prompts for a model.

        Args:
            tokenizer: the model's tokenizer.
            context: tokens of prompt and completion together, at most.
            is_chat: whether the model is a chat model: a prompt is then a user message, else the beginning of a text.

        Raises:
            ValueError: if a prompt does not suit the model, naming the file and the line.
        """
        self._tokenizer, self._prompts = tokenizer, []
        for number, (line, record) in enumerate(self.records):
            try:
                ids = _ids(tokenizer, record, is_chat)
                if len(ids) >= context:
                    raise ValueError(f"{len(ids):,} tokens leave no room in the model's context of {context:,}")
            except ValueError as error:
                raise ValueError(f"{self.path}, line {line}: {error}") from error
            self._prompts.append(Prompt(number, record, ids))

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self._prompts, batch_size=self.at_once, collate_fn=list)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Leaves prompts on the CPU, where the engine reads them."""
        return batch


def _ids(tokenizer: Tokenizer, record: dict[str, Any], is_chat: bool) -> list[int]:
    if "messages" not in record:
        return prompt_ids(tokenizer, record["prompt"], is_chat)
    if not is_chat:
        raise ValueError('it has "messages", but this is a base model, which can only continue a "prompt"')
    return render_prompt(tokenizer, record["messages"])


def read_prompts(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Reads the prompts of a file. Empty lines are skipped.

    Yields:
        The number of the line, from 1, and its fields.

    Raises:
        ValueError: if the file cannot be read or a line is invalid, naming both.
    """
    try:
        lines: Sequence[bytes] = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"cannot read the prompts {path}: {error.strerror}") from error
    if path.suffix not in (".txt", ".jsonl"):
        raise ValueError(f"{path}: the file of prompts must be .txt or .jsonl")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
                yield number, {"prompt": text} if path.suffix == ".txt" else _record(text)
            except ValueError as error:  # UnicodeDecodeError is one
                why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                raise ValueError(f"{path}, line {number}: {why}") from error


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(record, dict) or ("prompt" in record) == ("messages" in record):
        raise ValueError('it must be {"prompt": "..."} or {"messages": [...]}')
    if "prompt" in record:
        if not isinstance(record["prompt"], str):
            raise ValueError("the prompt must be a text")
        try:
            record["prompt"].encode("utf-8")
        except UnicodeEncodeError as error:  # a lone surrogate, which JSON can hold as an escape
            raise ValueError("the prompt is not valid Unicode") from error
    return record
