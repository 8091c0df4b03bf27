"""Converts a tokenizer to and from the ``tokenizer.json`` of the tokenizers library.

Both implement byte-level BPE, so they give the same ids for every text if these agree: the pattern that splits a text,
the merges and their order (:mod:`nanochat.exchange.merges`), that a word which is a token as a whole is not merged at
all (``ignore_merges``), and that no tokens are added (no post-processor). One default differs: the tokenizers library
converts the name of a special token within a text to that token, whereas :meth:`Tokenizer.encode` treats it as ordinary
text; ``tokenizer(text, split_special_tokens=True)`` does the latter.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from nanochat.exchange.byte_symbols import from_symbols, to_symbols
from nanochat.exchange.merges import last_merges
from nanochat.tokenizer import Tokenizer

NAME = "tokenizer.json"
# The default pattern of the library's ByteLevel pre-tokenizer: GPT-2's.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Letters, digits, marks, all kinds of spaces, characters of 1 to 4 bytes: a pattern that skips any of these loses text.
PROBE = "It's 2024,\u00a0I'LL say: na\u00efve \u4f60\u597d \U0001f600!\r\n\n\t  x_1 = (a+b)*3;\u0000\u2003\u0301~ \n "


def to_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of ``tokenizer.json``.

    The vocabulary includes the special tokens, because the library would assign ids to missing ones, which is wrong if
    there are unused ids.
    """
    vocab = {to_symbols(token): i for token, i in tokenizer.ids.items()}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": tokenizer.pattern}, "behavior": "Isolated", "invert": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **flags} for name, i in tokenizer.special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": dict(sorted({**vocab, **tokenizer.special_tokens}.items(), key=lambda token: token[1])),
            "merges": [[to_symbols(left), to_symbols(right)] for left, right in last_merges(tokenizer.ids).values()],
        },
    }


def from_json(data: dict[str, Any], vocab_size: int) -> Tokenizer:
    """Makes a tokenizer that gives the same ids as a ``tokenizer.json``.

    Args:
        data: content of the file.
        vocab_size: vocabulary size of the model; some ids may be unused.

    Raises:
        ValueError: if it is not byte-level BPE, or tiktoken would not give the same ids.
    """
    try:
        return _from_json(data, vocab_size)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not the JSON of a tokenizer: {error!r}") from error


def _from_json(data: dict[str, Any], vocab_size: int) -> Tokenizer:
    model = data["model"]
    if model.get("type", "BPE") != "BPE":  # missing in old files
        raise ValueError(f"its model is {model['type']}, not byte-level BPE")
    if data.get("normalizer") is not None:
        raise ValueError("it changes text before splitting it (normalizer), which byte-level BPE must not")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ValueError(f"its model sets {key}, which byte-level BPE does not have")
    special = _special_tokens(data["added_tokens"])
    tokens, ids = _ordinary_tokens(model["vocab"], special, vocab_size)
    _check_merges(model, dict(zip(tokens, ids, strict=True)))
    tokenizer = Tokenizer(tokens, vocab_size, _pattern(data["pre_tokenizer"]), special)
    if list(tokenizer.ids.values()) != ids:
        raise ValueError("some ids between its ordinary tokens stand for nothing")
    if tokenizer.decode(tokenizer.encode(PROBE)) != PROBE:
        raise ValueError(f"its pattern leaves out a part of the text: {tokenizer.pattern}")
    return tokenizer


def _special_tokens(added: list[dict[str, Any]]) -> dict[str, int]:
    for token in added:
        if not token["special"]:
            raise ValueError(f"it adds {token['content']!r} as an ordinary word; only special tokens may be added")
    special = {token["content"]: int(token["id"]) for token in added}
    if "<|bos|>" not in special:
        raise ValueError("it has no special token <|bos|>, which every document begins with")
    return special


def _ordinary_tokens(vocab: dict[str, int], special: dict[str, int], vocab_size: int) -> tuple[list[bytes], list[int]]:
    """Bytes and ids of the ordinary tokens, in the order of the ids."""
    pairs = sorted((i, name) for name, i in vocab.items() if name not in special)
    largest = max([i for i, _ in pairs[-1:]] + list(special.values()))
    if largest >= vocab_size:
        raise ValueError(f"it has an id {largest:,}, but the model's vocabulary has {vocab_size:,}")
    tokens = []
    for i, name in pairs:
        try:
            tokens.append(from_symbols(name))
        except KeyError as error:
            raise ValueError(f"its token {i}, {name!r}, is not written in bytes: this is not byte-level BPE") from error
    return tokens, [i for i, _ in pairs]


def _check_merges(model: dict[str, Any], ids: dict[bytes, int]) -> None:
    """Raises an error if the merges are not in the order of their tokens' ids or join other pairs than tiktoken."""
    listed = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge  # written "a b" until tokenizers 0.20
        listed.append((from_symbols(left), from_symbols(right)))
    order = [ids[left + right] for left, right in listed]
    for before, after in pairwise(order):
        if before > after:
            raise ValueError(f"its merges are not in the order of its ids: the one of id {before} comes before {after}")
    wanted = last_merges(ids)
    missing = set(wanted.values()) - set(listed)
    if missing:
        raise ValueError(f"its merges are not those of its ids: {b' + '.join(min(missing))!r} is not among them")
    if not model.get("ignore_merges"):
        unreached = [token for token in ids if len(token) > 1 and token not in wanted]
        if unreached:
            raise ValueError(f"no merges lead to its token {unreached[0]!r}, and ignore_merges is not set")


def _pattern(pre_tokenizer: dict[str, Any]) -> str:
    """The regular expression that splits a text."""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    kinds = [step["type"] for step in steps]
    if kinds[-1:] != ["ByteLevel"]:
        raise ValueError(f"it splits text by {' and '.join(kinds)}: this is not byte-level BPE")
    if steps[-1]["add_prefix_space"]:
        raise ValueError("it puts a space before each text (add_prefix_space): decoding would not give the text back")
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return GPT2_PATTERN
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        split = steps[0]
        if "Regex" in split["pattern"] and split["behavior"] == "Isolated" and not split["invert"]:
            return str(split["pattern"]["Regex"])
    raise ValueError(f"it splits text by {' and '.join(kinds)} in a way that one regular expression does not say")
