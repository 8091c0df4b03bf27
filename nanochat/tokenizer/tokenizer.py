"""Byte-level BPE tokenizer: trained with rustbpe, encodes with tiktoken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rustbpe
import tiktoken
from numpy.typing import NDArray

from nanochat.cache import short_hash, write_atomically

# They take the last ids of the vocabulary, in this order.
SPECIAL_TOKENS = (
    "<|bos|>",  # the first token of every document and every conversation
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",  # the assistant calls the calculator
    "<|python_end|>",
    "<|output_start|>",  # the calculator answers
    "<|output_end|>",
)
MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)

# Splits text before merging; merges never cross a match. GPT-4's pattern, except that numbers are split into groups of
# at most two digits instead of three, which spends fewer tokens of a small vocabulary on numbers (as in nanochat).
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
FORMAT = "nanochat-bpe-1"

# tiktoken's regex engine panics on a million whitespace characters in a row, so longer runs are split first.
_MAX_WHITESPACE = 500_000
_BATCH = 64  # texts per task of a thread


def _split_long_whitespace(text: str) -> list[str]:
    """Splits a text so that no part has more than ``_MAX_WHITESPACE`` whitespace characters in a row."""
    if len(text) < _MAX_WHITESPACE:
        return [text]
    return [part for part in re.split(rf"(\s{{{_MAX_WHITESPACE}}})", text) if part]


class Tokenizer:
    """A byte-level BPE tokenizer: ordinary tokens are the 256 bytes and merges of them, then come special tokens.

    Every text can be encoded, since every byte is a token, and decoding restores it exactly. An imported tokenizer may
    have another split pattern, and other special tokens at other ids; its ordinary tokens take the remaining ids in
    order.

    Args:
        tokens: the bytes of each ordinary token, in the order of the ids, which is also the merge order.
        vocab_size: number of ids. If a small corpus yields fewer merges than requested, the ids between the ordinary
            and the special tokens stay unused.
        pattern: regular expression that splits text before merging.
        special_tokens: name and id of each special token, including ``<|bos|>``; None gives the nine
            :data:`SPECIAL_TOKENS` the last ids.

    Raises:
        ValueError: if the tokens do not fit into the vocabulary, a byte or ``<|bos|>`` is missing, special ids are not
            unique, or the pattern is not a valid regular expression.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        vocab_size: int,
        pattern: str = PATTERN,
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        if special_tokens is None:
            check_vocab_size(vocab_size)
            special_tokens = default_special_tokens(vocab_size)
        check_special_tokens(special_tokens, vocab_size)
        if not 256 <= len(tokens) <= vocab_size - len(special_tokens):
            raise ValueError(f"{len(tokens)} tokens and {len(special_tokens)} special ones do not fit in {vocab_size}")
        self.tokens = list(tokens)
        if not {bytes([byte]) for byte in range(256)} <= set(self.tokens):
            raise ValueError("the 256 bytes are not all among the tokens: not every text could be encoded")
        self.vocab_size = vocab_size
        self.pattern = pattern
        self.special_tokens = dict(sorted(special_tokens.items(), key=lambda token: token[1]))
        special_ids = set(self.special_tokens.values())
        ordinary_ids = (i for i in range(vocab_size) if i not in special_ids)
        self.ids = dict(zip(self.tokens, ordinary_ids, strict=False))  # some ids may stay unused
        self._bytes = [b""] * vocab_size  # the bytes of each id
        for token, i in self.ids.items():
            self._bytes[i] = token
        try:
            self._encoding = tiktoken.Encoding(
                name=FORMAT, pat_str=pattern, mergeable_ranks=self.ids, special_tokens=self.special_tokens
            )
        except ValueError as error:
            raise ValueError(f"not a regular expression that tiktoken supports: {pattern}") from error

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Trains a tokenizer: learns the merges from texts.

        Args:
            texts: the training texts; iterated once.
            vocab_size: number of ids, including the nine special tokens; at least 265.

        Raises:
            ValueError: if ``vocab_size`` is too small.
        """
        check_vocab_size(vocab_size)
        trainer = rustbpe.Tokenizer()
        parts = (part for text in texts for part in _split_long_whitespace(text))
        trainer.train_from_iterator(parts, vocab_size - len(SPECIAL_TOKENS), pattern=PATTERN)
        ranks = sorted(trainer.get_mergeable_ranks(), key=lambda pair: pair[1])
        return cls([bytes(token) for token, _ in ranks], vocab_size)

    @property
    def bos(self) -> int:
        """The id of ``<|bos|>``."""
        return self.special_tokens["<|bos|>"]

    def encode(self, text: str) -> list[int]:
        """The ids of a text. The name of a special token in it is encoded as ordinary text (no prompt injection)."""
        if len(text) < _MAX_WHITESPACE:
            return self._encoding.encode_ordinary(text)
        return [i for part in _split_long_whitespace(text) for i in self._encoding.encode_ordinary(part)]

    def encode_documents(self, texts: Sequence[str], threads: int = 1) -> list[NDArray[np.uint32]]:
        """The ids of each text, preceded by ``<|bos|>``, as arrays: several times as fast as lists."""
        with ThreadPoolExecutor(threads) as pool:
            batches = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
            return [ids for batch in pool.map(self._encode_batch, batches) for ids in batch]

    def _encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        bos = np.array([self.bos], np.uint32)
        return [np.concatenate([bos, *map(self._to_array, _split_long_whitespace(text))]) for text in texts]

    def _to_array(self, text: str) -> NDArray[np.uint32]:
        # no special token is allowed and none is an error: their names are encoded as ordinary text
        return self._encoding.encode_to_numpy(text, allowed_special=set(), disallowed_special=())

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids; special and unused ids have none."""
        return b"".join(self._bytes[i] for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; invalid UTF-8, which a model can produce, becomes the replacement character U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @cached_property
    def token_bytes(self) -> list[int]:
        """Number of UTF-8 bytes of each id, to convert a loss into bits per byte; 0 for special and unused ids."""
        return [len(token) for token in self._bytes]

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of everything that determines the encoding."""
        return short_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as strings, numbers, lists and dicts, for a checkpoint or a JSON file.

        A token is written with one character per byte (Latin-1), so that English is readable. The special tokens are a
        list of names if they are :data:`SPECIAL_TOKENS` at the last ids, otherwise a dict of names and ids.
        """
        is_default = self.special_tokens == default_special_tokens(self.vocab_size)
        return {
            "format": FORMAT,
            "vocab_size": self.vocab_size,
            "pattern": self.pattern,
            "special_tokens": list(SPECIAL_TOKENS) if is_default else self.special_tokens,
            "tokens": [token.decode("latin-1") for token in self.tokens],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Tokenizer:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: if the data is not a tokenizer of this format.
        """
        try:
            special = data["special_tokens"]
            if data["format"] != FORMAT or (isinstance(special, list) and special != list(SPECIAL_TOKENS)):
                raise ValueError(f"not a tokenizer in the format {FORMAT}")
            tokens = [token.encode("latin-1") for token in data["tokens"]]
            return cls(tokens, data["vocab_size"], data["pattern"], None if isinstance(special, list) else special)
        except (KeyError, TypeError, AttributeError, UnicodeError) as error:
            raise ValueError(f"not a tokenizer in the format {FORMAT}: {error!r}") from error

    def save(self, path: Path) -> None:
        """Writes the tokenizer as a readable JSON file, atomically."""
        write_atomically(path, json.dumps(self.to_dict(), indent=0))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Reads a file written by :meth:`save`.

        Raises:
            ValueError: naming the file, if it is not a tokenizer.
        """
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path} is not a tokenizer file: {error}") from error


def check_vocab_size(vocab_size: int) -> None:
    """Checks that a vocabulary can hold the 256 bytes and the special tokens.

    Raises:
        ValueError: if it is too small.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small: at least {MIN_VOCAB_SIZE} "
            f"(256 bytes and {len(SPECIAL_TOKENS)} special tokens)"
        )


def default_special_tokens(vocab_size: int) -> dict[str, int]:
    """The nine :data:`SPECIAL_TOKENS` with the last ids of a vocabulary."""
    return {name: vocab_size - len(SPECIAL_TOKENS) + i for i, name in enumerate(SPECIAL_TOKENS)}


def check_special_tokens(special_tokens: Mapping[str, int], vocab_size: int) -> None:
    """Checks that the special tokens include ``<|bos|>``, and have unique ids within the vocabulary.

    Raises:
        ValueError: if they do not.
    """
    if "<|bos|>" not in special_tokens:
        raise ValueError("there is no <|bos|> among the special tokens, which every document begins with")
    ids = sorted(special_tokens.values())
    if len(set(ids)) < len(ids) or not 0 <= ids[0] <= ids[-1] < vocab_size:
        raise ValueError(f"the ids of the special tokens are not unique numbers below {vocab_size}")
