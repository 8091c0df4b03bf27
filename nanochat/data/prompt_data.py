"""The LightningDataModule of ``predict``: texts to go on with, and conversations to answer, out of a file."""

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
    """What a model is asked.

    Attributes:
        number: its place among all prompts.
        record: what the file says of it: "prompt" or "messages", and whatever the user has added.
        ids: its tokens.
    """

    number: int
    record: dict[str, Any]
    ids: list[int]


class PromptsDataModule(LightningDataModule):
    """Prompts in the order of their file.

    Args:
        prompts: the file: .txt with a prompt on each line; or .jsonl with {"prompt": "..."} or {"messages": [{"role":
            "user", "content": "..."}, ...]} on each line, and whatever else is to be found beside the completion.
        at_once: how many are written together; more are quicker, and take more memory.

    Raises:
        ValueError: if a number is out of range, or a line is wrong, naming the file and the line.
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
        """The model's."""
        assert self._tokenizer is not None, "use_model() comes first: a prompt is written in a model's tokens"
        return self._tokenizer

    def use_model(self, tokenizer: Tokenizer, context: int, is_chat: bool) -> None:
        """Writes the prompts in a model's tokens.

        Args:
            tokenizer: the model's.
            context: tokens that it can read and write together.
            is_chat: whether it was fine-tuned to answer: a prompt is then a question, and not the beginning of a text.

        Raises:
            ValueError: if a prompt is not one for this model, naming the file and the line.
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
        """Prompts stay where they are: the engine takes them from there."""
        return batch


def _ids(tokenizer: Tokenizer, record: dict[str, Any], is_chat: bool) -> list[int]:
    if "messages" not in record:
        return prompt_ids(tokenizer, record["prompt"], is_chat)
    if not is_chat:
        raise ValueError('it has "messages", but this is a base model, which only goes on with a "prompt"')
    return render_prompt(tokenizer, record["messages"])


def read_prompts(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line and what it says; empty lines are left out.

    Raises:
        ValueError: if the file cannot be read or a line is wrong, naming both.
    """
    try:
        lines: Sequence[bytes] = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"cannot read the prompts {path}: {error.strerror}") from error
    if path.suffix not in (".txt", ".jsonl"):
        raise ValueError(f"{path}: prompts come in a file whose name ends in .txt or .jsonl")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
                yield number, {"prompt": text} if path.suffix == ".txt" else _record(text)
            except ValueError as error:  # UnicodeDecodeError is one
                what = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                raise ValueError(f"{path}, line {number}: {what}") from error


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
        except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can write as an escape
            raise ValueError("the prompt is not valid Unicode") from error
    return record
