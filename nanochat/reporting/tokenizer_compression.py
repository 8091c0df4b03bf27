"""Bytes per token of a checkpoint's tokenizer, compared with GPT-2's and GPT-4's."""

from __future__ import annotations

from pathlib import Path

from nanochat.reporting.schema import Compression
from nanochat.tokenizer import Tokenizer
from nanochat.tokenizer.compression import TEXTS, bytes_per_token, measure_references
from nanochat.training.checkpoint.loading import data_state, load_checkpoint

THIS_MODEL = "this model"


def measure_compression(checkpoint: Path) -> Compression:
    """The bytes per token of the tokenizer in a checkpoint and of the reference tokenizers that are available.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    try:
        tokenizer = Tokenizer.from_dict(data_state(load_checkpoint(checkpoint))["tokenizer"])
    except KeyError as error:
        raise ValueError(f"{checkpoint} is not a nanochat checkpoint: it contains no tokenizer") from error
    references, absent = measure_references(TEXTS)
    own = bytes_per_token(tokenizer.encode, TEXTS)
    return {"vocab_size": tokenizer.vocab_size, "bytes_per_token": {THIS_MODEL: own, **references}, "absent": absent}
