"""Byte-level BPE: text to token ids and back. Trained with rustbpe, used through tiktoken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import rustbpe
import tiktoken

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


class Tokenizer:
    """Ids 0 to 255 are the bytes or, like all that follow, merges of them; the last nine are special tokens.

    Every text can be encoded, since every byte has an id, and decoding gives it back exactly.

    Args:
        tokens: the bytes of each ordinary token in the order of its id, which is also the order of merging.
        vocab_size: number of ids. Where a small corpus yields fewer merges than asked for, the ids between the
            ordinary and the special tokens stay unused.

    Raises:
        ValueError: if the vocabulary does not hold the tokens and the special tokens.
    """

    def __init__(self, tokens: Sequence[bytes], vocab_size: int) -> None:
        check_vocab_size(vocab_size)
        if not 256 <= len(tokens) <= vocab_size - len(SPECIAL_TOKENS):
            raise ValueError(f"{len(tokens)} tokens and {len(SPECIAL_TOKENS)} special ones do not fit in {vocab_size}")
        self.tokens = list(tokens)
        self.vocab_size = vocab_size
        first_special = vocab_size - len(SPECIAL_TOKENS)
        self.special_tokens = {name: first_special + i for i, name in enumerate(SPECIAL_TOKENS)}
        self._encoding = tiktoken.Encoding(
            name=FORMAT,
            pat_str=PATTERN,
            mergeable_ranks={token: rank for rank, token in enumerate(self.tokens)},
            special_tokens=self.special_tokens,
        )

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
        trainer.train_from_iterator(iter(texts), vocab_size - len(SPECIAL_TOKENS), pattern=PATTERN)
        ranks = sorted(trainer.get_mergeable_ranks(), key=lambda pair: pair[1])
        return cls([bytes(token) for token, _ in ranks], vocab_size)

    @property
    def bos(self) -> int:
        return self.special_tokens["<|bos|>"]

    def encode(self, text: str) -> list[int]:
        """Ids of a text. What looks like a special token in it is ordinary text: a text cannot give orders."""
        return self._encoding.encode_ordinary(text)

    def encode_documents(self, texts: Sequence[str], threads: int = 1) -> list[list[int]]:
        """Ids of each text, each begun with ``<|bos|>``."""
        return [[self.bos, *ids] for ids in self._encoding.encode_ordinary_batch(list(texts), num_threads=threads)]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids; special and unused ids stand for none."""
        return b"".join(self.tokens[i] for i in ids if i < len(self.tokens))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids. Bytes that are not UTF-8, as a model may well produce, become the replacement character."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @cached_property
    def token_bytes(self) -> list[int]:
        """Number of UTF-8 bytes that each id stands for: what turns a loss into bits per byte."""
        return [len(token) for token in self.tokens] + [0] * (self.vocab_size - len(self.tokens))

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of all that decides how text is encoded."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain strings, numbers and lists, for a checkpoint or a JSON file.

        A token is written with one character for each of its bytes (Latin-1), so that English can be read.
        """
        return {
            "format": FORMAT,
            "vocab_size": self.vocab_size,
            "pattern": PATTERN,
            "special_tokens": list(SPECIAL_TOKENS),
            "tokens": [token.decode("latin-1") for token in self.tokens],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Tokenizer:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: if the data is not a tokenizer of this format.
        """
        known = {"format": FORMAT, "pattern": PATTERN, "special_tokens": list(SPECIAL_TOKENS)}
        try:
            different = [key for key, value in known.items() if data[key] != value]
            if not different:
                return cls([token.encode("latin-1") for token in data["tokens"]], data["vocab_size"])
        except (KeyError, TypeError, AttributeError, UnicodeError) as error:
            raise ValueError(f"not a tokenizer in the format {FORMAT}: {error!r}") from error
        raise ValueError(f"not a tokenizer in the format {FORMAT}: another {', '.join(different)}")

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
            raise ValueError(f"{path}: {error}") from error


def check_vocab_size(vocab_size: int) -> None:
    """Refuses a vocabulary that cannot hold the 256 bytes and the special tokens."""
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(
            f"a vocabulary of {vocab_size} is too small: at least {MIN_VOCAB_SIZE} "
            f"(256 bytes and {len(SPECIAL_TOKENS)} special tokens)"
        )
