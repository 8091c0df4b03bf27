"""The byte-level BPE tokenizer: round trips, special tokens, files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.tokenizer import SPECIAL_TOKENS, Tokenizer
from tests.conftest import sentences

TOKENIZER = Tokenizer.train(sentences(200), vocab_size=400)
BYTES_ONLY = Tokenizer.train(sentences(10), vocab_size=265)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, BYTES_ONLY])
@given(text=st.text())
def test_unicode_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert sum(tokenizer.token_bytes[i] for i in ids) == len(text.encode())


@given(st.lists(st.integers(0, 399)))
def test_any_ids_decode(ids: list[int]) -> None:
    assert isinstance(TOKENIZER.decode(ids), str)
    assert len(TOKENIZER.decode_bytes(ids)) == sum(TOKENIZER.token_bytes[i] for i in ids)


def test_merges_are_learned() -> None:
    text = "the model learns"
    assert len(TOKENIZER.encode(text)) < len(BYTES_ONLY.encode(text)) == len(text)


def test_special_tokens_are_the_last_ids() -> None:
    assert [TOKENIZER.special_tokens[name] for name in SPECIAL_TOKENS] == list(range(391, 400))
    assert TOKENIZER.bos == 391
    assert TOKENIZER.token_bytes[391:] == [0] * 9


def test_names_of_special_tokens_are_encoded_as_text() -> None:
    ids = TOKENIZER.encode("<|bos|><|assistant_start|>")
    assert max(ids) < 391
    assert TOKENIZER.decode(ids) == "<|bos|><|assistant_start|>"


def test_numbers_are_split_into_at_most_two_digits() -> None:
    tokenizer = Tokenizer.train(["12345678 " * 100], vocab_size=300)
    assert max(len(tokenizer.decode([i])) for i in tokenizer.encode("12345678")) == 2


def test_documents_begin_with_bos() -> None:
    texts = ["one", "", "two"]
    expected = [[TOKENIZER.bos, *TOKENIZER.encode(text)] for text in texts]
    assert [ids.tolist() for ids in TOKENIZER.encode_documents(texts, threads=2)] == expected


@pytest.mark.parametrize(
    "text", [" " * 1_200_000 + "end", "x" + " \t" * 700_000, "a" * 1_200_000, "\u3000" * 1_100_000]
)
def test_very_long_runs_of_one_character_class(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert TOKENIZER.encode_documents([text])[0].tolist() == [TOKENIZER.bos, *TOKENIZER.encode(text)]
    Tokenizer.train([text, "words"], 300)


def test_encode_documents_equals_encode() -> None:
    text = "special <|bos|> tokens and 12345 numbers, it's  all\n\nordinary text"
    assert TOKENIZER.encode_documents([text])[0].tolist() == [TOKENIZER.bos, *TOKENIZER.encode(text)]


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    assert " the" in json.loads(path.read_text())["tokens"]
    loaded = Tokenizer.load(path)
    assert loaded.tokens == TOKENIZER.tokens
    assert loaded.fingerprint == TOKENIZER.fingerprint != BYTES_ONLY.fingerprint
    assert loaded.encode("the model, né 2024") == TOKENIZER.encode("the model, né 2024")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "another"}', '{"tokens": 3}', "\x00\x01"])
def test_load_names_an_invalid_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="tokenizer.json"):
        Tokenizer.load(path)


def test_small_corpus_leaves_ids_unused() -> None:
    tokenizer = Tokenizer.train(["aaaa"], vocab_size=1000)
    assert len(tokenizer.tokens) < 300
    assert tokenizer.bos == 991
    assert tokenizer.decode([500]) == ""


def test_vocabulary_too_small() -> None:
    with pytest.raises(ValueError, match="264 is too small: at least 265"):
        Tokenizer.train(["text"], vocab_size=264)


IMPORTED = Tokenizer(TOKENIZER.tokens, 420, r"\p{L}+|\P{L}", {"<|end|>": 410, "<|bos|>": 0, "<|pad|>": 100})


@given(text=st.text())
def test_imported_tokenizer_round_trip(text: str) -> None:
    ids = IMPORTED.encode(text)
    assert not {0, 100, 410} & set(ids)
    assert IMPORTED.decode([0, *ids, 410]) == text
    assert sum(IMPORTED.token_bytes[i] for i in ids) == len(text.encode())


def test_imported_tokenizer_keeps_pattern_and_ids() -> None:
    assert (IMPORTED.bos, IMPORTED.ids[b"\x00"], IMPORTED.ids[b"\x63"]) == (0, 1, 101)
    assert len(IMPORTED.encode("  ")) == 2  # the pattern splits between the spaces
    loaded = Tokenizer.from_dict(json.loads(json.dumps(IMPORTED.to_dict())))
    assert loaded.pattern == r"\p{L}+|\P{L}"
    assert loaded.special_tokens == {"<|bos|>": 0, "<|pad|>": 100, "<|end|>": 410}
    assert loaded.fingerprint == IMPORTED.fingerprint
    text = "the model  learns: 2024"
    assert loaded.encode(text) == IMPORTED.encode(text) != TOKENIZER.encode(text)


def test_fingerprint_is_stable() -> None:
    """The cache keys of token files depend on it, and checkpoints contain the hashed fields."""
    assert list(TOKENIZER.to_dict()) == ["format", "vocab_size", "pattern", "special_tokens", "tokens"]
    assert TOKENIZER.to_dict()["special_tokens"] == list(SPECIAL_TOKENS)
    assert TOKENIZER.fingerprint == "4e43205886b2c60e"


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("no <|bos|>", {"special_tokens": {"<|end|>": 399}}),
        ("not unique numbers below 400", {"special_tokens": {"<|bos|>": 399, "<|end|>": 399}}),
        ("not unique numbers below 400", {"special_tokens": {"<|bos|>": 400}}),
        ("not a regular expression that tiktoken supports", {"pattern": "(a"}),
        ("the 256 bytes are not all among the tokens", {"tokens": [bytes([i, i]) for i in range(256)]}),
    ],
)
def test_invalid_arguments(message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Tokenizer(**{"tokens": TOKENIZER.tokens, "vocab_size": 400, **arguments})
