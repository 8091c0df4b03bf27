"""Byte-level BPE: text to token ids and back. Trained with rustbpe, used through tiktoken."""

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

from nanochat.cache import short_hash

# In this order they take the last ids of the vocabulary.
SPECIAL_TOKENS = (
    "<|bos|>",  # begins every document and every conversation
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

# Where merges may not reach across: GPT-4's pattern, but with numbers in groups of at most two digits instead of
# three, which wastes fewer tokens of a small vocabulary on numbers (nanochat).
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
FORMAT = "nanochat-bpe-1"


# The pattern's engine panics at a million characters of white space in a row: such text is cut before.
_ENDLESS_SPACE = 500_000
_CHUNK = 64  # texts that a thread encodes at a time


def _split_endless_space(text: str) -> list[str]:
    """The text in parts without such runs; nearly always the text itself."""
    if len(text) < _ENDLESS_SPACE:
        return [text]
    return [part for part in re.split(rf"(\s{{{_ENDLESS_SPACE}}})", text) if part]


class Tokenizer:
    """Ids 0 to 255 are the bytes or, like all that follow, merges of them; the last nine are special tokens.

    Every text can be encoded, since every byte has an id, and decoding gives it back exactly. A tokenizer from
    elsewhere may split text by another pattern and have other special tokens at other ids; its ordinary tokens take
    the ids between them.

    Args:
        tokens: the bytes of each ordinary token in the order of its id, which is also the order of merging.
        vocab_size: number of ids. Where a small corpus yields fewer merges than asked for, the ids between the
            ordinary and the special tokens stay unused.
        pattern: the regular expression whose matches merges may not reach across.
        special_tokens: name and id of each special token, ``<|bos|>`` among them; None for the nine as the last ids.

    Raises:
        ValueError: if the vocabulary does not hold the tokens and the special tokens, or if one cannot use them.
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
        taken = set(self.special_tokens.values())
        ordinary_ids = (i for i in range(vocab_size) if i not in taken)
        self.ids = dict(zip(self.tokens, ordinary_ids, strict=False))  # some ids may stay unused
        self._bytes = [b""] * vocab_size  # of each id
        for token, i in self.ids.items():
            self._bytes[i] = token
        try:
            self._encoding = tiktoken.Encoding(
                name=FORMAT, pat_str=pattern, mergeable_ranks=self.ids, special_tokens=self.special_tokens
            )
        except ValueError as error:
            raise ValueError(f"not a regular expression that tiktoken knows: {pattern}") from error

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Learns the merges from texts.

        Args:
            texts: what to learn from; read once.
            vocab_size: number of ids, the nine special tokens included; at least 265.

        Raises:
            ValueError: if ``vocab_size`` is too small.
        """
        check_vocab_size(vocab_size)
        trainer = rustbpe.Tokenizer()
        parts = (part for text in texts for part in _split_endless_space(text))
        trainer.train_from_iterator(parts, vocab_size - len(SPECIAL_TOKENS), pattern=PATTERN)
        ranks = sorted(trainer.get_mergeable_ranks(), key=lambda pair: pair[1])
        return cls([bytes(token) for token, _ in ranks], vocab_size)

    @property
    def bos(self) -> int:
        return self.special_tokens["<|bos|>"]

    def encode(self, text: str) -> list[int]:
        """Ids of a text. What looks like a special token in it is ordinary text: a text cannot give orders."""
        if len(text) < _ENDLESS_SPACE:
            return self._encoding.encode_ordinary(text)
        return [i for part in _split_endless_space(text) for i in self._encoding.encode_ordinary(part)]

    def encode_documents(self, texts: Sequence[str], threads: int = 1) -> list[NDArray[np.uint32]]:
        """Ids of each text, each begun with ``<|bos|>``, as arrays: several times as quick as lists."""
        with ThreadPoolExecutor(threads) as pool:
            chunks = [texts[i : i + _CHUNK] for i in range(0, len(texts), _CHUNK)]
            return [ids for chunk in pool.map(self._encode_chunk, chunks) for ids in chunk]

    def _encode_chunk(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        bos = np.array([self.bos], np.uint32)
        return [np.concatenate([bos, *map(self._to_array, _split_endless_space(text))]) for text in texts]

    def _to_array(self, text: str) -> NDArray[np.uint32]:
        # nothing allowed and nothing disallowed: special tokens in a text are ordinary text
        return self._encoding.encode_to_numpy(text, allowed_special=set(), disallowed_special=())

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids; special and unused ids stand for none."""
        return b"".join(self._bytes[i] for i in ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Bytes that are not UTF-8, as a model may well produce, become the replacement character."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @cached_property
    def token_bytes(self) -> list[int]:
        """Number of UTF-8 bytes that each id stands for: what turns a loss into bits per byte."""
        return [len(token) for token in self._bytes]

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of all that decides how text is encoded."""
        return short_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain strings, numbers and lists, for a checkpoint or a JSON file.

        A token is written with one character for each of its bytes (Latin-1), so that English can be read. The
        special tokens are a list where they are the last ids, and names with their ids where they are not.
        """
        own = self.special_tokens == default_special_tokens(self.vocab_size)
        return {
            "format": FORMAT,
            "vocab_size": self.vocab_size,
            "pattern": self.pattern,
            "special_tokens": list(SPECIAL_TOKENS) if own else self.special_tokens,
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
        """Writes a JSON file that a person can read."""
        path.write_text(json.dumps(self.to_dict(), indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: if the file is not a tokenizer, naming it.
        """
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path} is no file of a tokenizer: {error}") from error


def check_vocab_size(vocab_size: int) -> None:
    """Refuses a vocabulary that cannot hold the 256 bytes and the special tokens."""
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small: at least {MIN_VOCAB_SIZE} "
            f"(256 bytes and {len(SPECIAL_TOKENS)} special tokens)"
        )


def default_special_tokens(vocab_size: int) -> dict[str, int]:
    """The nine special tokens with the last ids of a vocabulary."""
    return {name: vocab_size - len(SPECIAL_TOKENS) + i for i, name in enumerate(SPECIAL_TOKENS)}


def check_special_tokens(special_tokens: Mapping[str, int], vocab_size: int) -> None:
    """Refuses special tokens that documents cannot begin with, or that are not ids of their own."""
    if "<|bos|>" not in special_tokens:
        raise ValueError("there is no <|bos|> among the special tokens, which every document begins with")
    ids = sorted(special_tokens.values())
    if len(set(ids)) < len(ids) or not 0 <= ids[0] <= ids[-1] < vocab_size:
        raise ValueError(f"the special tokens' ids are not different ones below {vocab_size}")
