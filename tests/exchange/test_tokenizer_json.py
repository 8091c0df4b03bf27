"""tokenizer.json files: imported if tiktoken gives the same tokens, otherwise refused."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import TikTokenConverter

from nanochat.exchange.byte_symbols import from_symbols, to_symbols
from nanochat.exchange.merges import last_merge
from nanochat.exchange.tokenizer_json import from_json, to_json
from nanochat.tokenizer import SPECIAL_TOKENS, Tokenizer
from nanochat.tokenizer.tokenizer import PATTERN
from tests.conftest import sentences
from tests.exchange.samples import CODE, random_texts
from tests.exchange.samples import tokenizers as all_kinds

OURS = all_kinds()
PLAIN_TEXTS = [text for text in random_texts(2000, seed=5) if "<|" not in text]
GPT4_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)


def library(data: dict[str, Any]) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(data))


def test_byte_symbols() -> None:
    every_byte = bytes(range(256))
    assert sorted(to_symbols(every_byte)) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert from_symbols(to_symbols(every_byte)) == every_byte
    assert to_symbols(b" a\n") == "ĠaĊ"  # as in published vocabularies


@pytest.mark.slow
def test_character_classes_of_both_libraries_are_equal() -> None:
    """Letters, digits and spaces of all of Unicode, as texts split differently with other Unicode versions."""
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    for pattern in (r"\p{L}+", r"\p{N}+", r"\s+", r"(?i:[sdmt])+"):
        keeps_matches = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
        theirs = {word for word, _ in keeps_matches.pre_tokenize_str(everything)}
        tokens = [bytes([byte]) for byte in range(256)]
        ours = Tokenizer(tokens, 265, pattern)  # text that does not match is dropped
        assert set(ours.decode(ours.encode(everything))) == set("".join(theirs)), pattern


@pytest.mark.parametrize("name", OURS)
def test_last_merge_equals_tiktoken(name: str) -> None:
    ranks = OURS[name].ids
    for token in ranks:
        if len(token) > 1:
            others = {other: rank for other, rank in ranks.items() if other != token}
            without = tiktoken.Encoding("without", pat_str=r"[\s\S]+", mergeable_ranks=others, special_tokens={})
            parts = without._encode_bytes(token) if not is_utf8(token) else without.encode_ordinary(token.decode())
            assert tuple(map(without.decode_single_token_bytes, parts)) == last_merge(token, ranks)


def is_utf8(token: bytes) -> bool:
    try:
        return bool(token.decode())
    except UnicodeDecodeError:
        return False


def test_token_without_merges() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256}
    assert last_merge(b"abc", ranks) is None


@pytest.mark.parametrize("name", OURS)
def test_round_trip(name: str) -> None:
    ours = OURS[name]
    back = from_json(json.loads(json.dumps(to_json(ours))), ours.vocab_size)
    assert back.to_dict() == ours.to_dict()


def train_with_library(pattern: str, specials_first: bool) -> dict[str, Any]:
    """A tokenizer.json trained by the tokenizers library; special tokens get the first ids if ``specials_first``."""
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True))
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL_TOKENS) if specials_first else [],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*sentences(200), CODE, "1234567 " * 9], trainer)
    if not specials_first:
        tokenizer.add_special_tokens(["<|bos|>", "<|another|>"])
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    return data


@pytest.mark.parametrize("specials_first", [True, False])
@pytest.mark.parametrize("pattern", [PATTERN, GPT4_PATTERN])
def test_import_of_a_tokenizer_trained_by_the_library(pattern: str, specials_first: bool) -> None:
    data = train_with_library(pattern, specials_first)
    ours, theirs = from_json(data, 640), library(data)
    assert ours.vocab_size == 640  # the model's vocabulary may be padded
    assert ours.bos == theirs.token_to_id("<|bos|>")
    assert ours.pattern == pattern
    for text in PLAIN_TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids, text
        assert ours.decode(theirs.encode(text).ids) == text
    for i in range(640):
        assert ours.decode([i]) == theirs.decode([i])
    assert Tokenizer.from_dict(json.loads(json.dumps(ours.to_dict()))).fingerprint == ours.fingerprint
    back = from_json(to_json(ours), 640)
    assert back.to_dict() == ours.to_dict()


def test_import_with_the_default_pattern() -> None:
    data = train_with_library(PATTERN, False)
    data["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    ours, theirs = from_json(data, 640), library(data)
    for text in PLAIN_TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids, text


def test_import_with_redundant_merges() -> None:
    """transformers converts tiktoken's ranks to all pairs that give a token; only one of them is ever used."""
    ours = OURS["repetitive"]
    data = to_json(ours)
    merges = []
    for token in ours.tokens:
        halves = ((token[:i], token[i:]) for i in range(1, len(token)))
        merges += [" ".join(map(to_symbols, pair)) for pair in halves if all(half in ours.ids for half in pair)]
    assert len(merges) > len(data["model"]["merges"])
    data["model"]["merges"] = merges
    theirs = library(data)
    assert from_json(data, ours.vocab_size).to_dict() == ours.to_dict()
    for text in PLAIN_TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids, text


def remove_an_id(data: dict[str, Any]) -> None:
    """Gives the last ordinary token the id of the last special token."""
    last = data["added_tokens"].pop()
    vocab = data["model"]["vocab"]
    vocab[next(name for name, i in vocab.items() if i == 390)] = last["id"]
    del vocab[last["content"]]


def test_import_of_a_converted_tiktoken_file(tmp_path: Path) -> None:
    ours = Tokenizer(OURS["code"].tokens, len(OURS["code"].tokens) + len(SPECIAL_TOKENS))  # no unused ids
    ranks = "".join(f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(ours.tokens))
    (tmp_path / "ranks.tiktoken").write_text(ranks)
    converter = TikTokenConverter(
        str(tmp_path / "ranks.tiktoken"), pattern=PATTERN, extra_special_tokens=list(SPECIAL_TOKENS)
    )
    data = json.loads(converter.converted().to_str())
    assert from_json(data, ours.vocab_size).to_dict() == ours.to_dict()


Change = Callable[[dict[str, Any]], object]
REFUSED: dict[str, Change] = {
    "its model is Unigram, not byte-level BPE": lambda d: d["model"].update(type="Unigram"),
    "it changes text before splitting it": lambda d: d.update(normalizer={"type": "NFC"}),
    "its model sets dropout": lambda d: d["model"].update(dropout=0.1),
    "its model sets end_of_word_suffix": lambda d: d["model"].update(end_of_word_suffix="</w>"),
    "no special token <|bos|>": lambda d: d["added_tokens"].pop(0),
    "adds '<|user_end|>' as an ordinary word": lambda d: d["added_tokens"][2].update(special=False),
    "has an id 700, but the model's vocabulary has 400": lambda d: d["added_tokens"][-1].update(id=700),
    "its token 300, '▁the', is not written in bytes": lambda d: d["model"].update(
        vocab={("▁the" if i == 300 else name): i for name, i in d["model"]["vocab"].items()}
    ),
    "its merges are not in the order of its ids": lambda d: d["model"]["merges"].reverse(),
    "its merges are not those of its ids": lambda d: d["model"]["merges"].pop(3),
    "some ids between its ordinary tokens stand for nothing": lambda d: remove_an_id(d),
    "it splits text by Whitespace": lambda d: d.update(pre_tokenizer={"type": "Whitespace"}),
    "puts a space before each text": lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
    "in a way that one regular expression does not say": lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(
        behavior="Removed"
    ),
    "not a regular expression": lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": "(a"}),
    "leaves out a part of the text": lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(
        pattern={"Regex": r"\p{L}+|\s+"}
    ),
    "not the JSON of a tokenizer: KeyError('model')": lambda d: d.pop("model"),
    "not the JSON of a tokenizer: TypeError": lambda d: d["model"].update(merges=3),
}


@pytest.mark.parametrize("message", REFUSED)
def test_unsupported_tokenizers_are_refused(message: str) -> None:
    ours = OURS["english"]
    data = copy.deepcopy(to_json(ours))
    REFUSED[message](data)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        from_json(data, ours.vocab_size)
    assert "\n" not in str(error.value)


def test_token_that_needs_ignore_merges() -> None:
    tokens = [bytes([byte]) for byte in range(256)] + [b"abc"]
    ours = Tokenizer(tokens, 280)
    data = to_json(ours)
    assert library(data).encode("abc abc").ids == ours.encode("abc abc") == [256, 32, 97, 98, 99]
    assert from_json(data, 280).to_dict() == ours.to_dict()
    data["model"]["ignore_merges"] = False
    assert library(data).encode("abc").ids != ours.encode("abc")
    with pytest.raises(ValueError, match="no merges lead to its token b'abc'"):
        from_json(data, 280)
