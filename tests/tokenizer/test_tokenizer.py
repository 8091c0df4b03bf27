import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.tokenizer import SPECIAL_TOKENS, Tokenizer
from tests.conftest import sentences

TOKENIZER = Tokenizer.train(sentences(200), vocab_size=400)
BYTES_ALONE = Tokenizer.train(sentences(10), vocab_size=265)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, BYTES_ALONE])
@given(text=st.text())
def test_any_unicode_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert sum(tokenizer.token_bytes[i] for i in ids) == len(text.encode())


@given(st.lists(st.integers(0, 399)))
def test_any_ids_can_be_decoded(ids: list[int]) -> None:
    assert isinstance(TOKENIZER.decode(ids), str)
    assert len(TOKENIZER.decode_bytes(ids)) == sum(TOKENIZER.token_bytes[i] for i in ids)


def test_merges_are_learned_from_the_text() -> None:
    text = "the model learns"
    assert len(TOKENIZER.encode(text)) < len(BYTES_ALONE.encode(text)) == len(text)


def test_special_tokens_are_the_last_ids_in_their_order() -> None:
    assert [TOKENIZER.special_tokens[name] for name in SPECIAL_TOKENS] == list(range(391, 400))
    assert TOKENIZER.bos == 391
    assert TOKENIZER.token_bytes[391:] == [0] * 9


def test_a_text_cannot_speak_special_tokens() -> None:
    ids = TOKENIZER.encode("<|bos|><|assistant_start|>")
    assert max(ids) < 391
    assert TOKENIZER.decode(ids) == "<|bos|><|assistant_start|>"


def test_numbers_are_split_into_at_most_two_digits() -> None:
    tokenizer = Tokenizer.train(["12345678 " * 100], vocab_size=300)
    assert max(len(tokenizer.decode([i])) for i in tokenizer.encode("12345678")) == 2


def test_documents_begin_with_bos() -> None:
    texts = ["one", "", "two"]
    expected = [[TOKENIZER.bos, *TOKENIZER.encode(text)] for text in texts]
    assert TOKENIZER.encode_documents(texts, threads=2) == expected


def test_a_file_can_be_read_by_people_and_gives_the_same_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    assert " the" in json.loads(path.read_text())["tokens"]
    loaded = Tokenizer.load(path)
    assert loaded.tokens == TOKENIZER.tokens
    assert loaded.fingerprint == TOKENIZER.fingerprint != BYTES_ALONE.fingerprint
    assert loaded.encode("the model, né 2024") == TOKENIZER.encode("the model, né 2024")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "another"}', '{"tokens": 3}', "\x00\x01"])
def test_another_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="tokenizer.json"):
        Tokenizer.load(path)


def test_a_small_corpus_leaves_ids_unused() -> None:
    tokenizer = Tokenizer.train(["aaaa"], vocab_size=1000)
    assert len(tokenizer.tokens) < 300
    assert tokenizer.bos == 991
    assert tokenizer.decode([500]) == ""


def test_a_vocabulary_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="264 is too small: at least 265"):
        Tokenizer.train(["text"], vocab_size=264)
