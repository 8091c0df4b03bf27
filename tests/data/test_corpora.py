import json
from pathlib import Path

import pytest

from nanochat.data.corpora import open_corpus
from nanochat.data.prepare import TokenFile, prepare
from tests.conftest import sentences


def write(folder: Path, texts: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    return str(folder)


def test_each_document_is_on_one_side(corpus_folder: Path) -> None:
    corpus = open_corpus(str(corpus_folder))
    train, held_out, both = (list(corpus.documents(side)) for side in (False, True, None))
    assert sorted(train + held_out) == sorted(both) == sorted(sentences(800))
    assert not set(train) & set(held_out)
    assert 16_000 < sum(map(len, held_out)) < 0.5 * sum(map(len, both))


def test_the_split_depends_on_the_document_alone(tmp_path: Path) -> None:
    texts = sentences(4000)  # enough for the usual share of one in 64
    one = open_corpus(write(tmp_path / "one", texts))
    other = open_corpus(write(tmp_path / "other", texts[::-1] + texts[:100]))
    assert set(one.documents(True)) == set(other.documents(True))
    share = sum(map(len, one.documents(True))) / one.survey.bytes
    assert 0.5 / 64 < share < 2.5 / 64


def test_a_changed_file_is_another_corpus(tmp_path: Path) -> None:
    folder = write(tmp_path, sentences(50))
    before = open_corpus(folder).survey
    assert open_corpus(folder).survey == before
    write(tmp_path, sentences(51))
    after = open_corpus(folder).survey
    assert (before.documents, after.documents) == (50, 51)
    assert before.fingerprint != after.fingerprint


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n ")
    with pytest.raises(ValueError, match="is empty"):
        open_corpus(str(tmp_path))


def test_one_document_cannot_be_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one short document")
    with pytest.raises(ValueError, match="--data.val_corpus"):
        prepare(str(tmp_path), 300)


def test_held_out_text_of_ones_own(tmp_path: Path) -> None:
    own = write(tmp_path / "own", sentences(100))
    held_out = write(tmp_path / "held_out", sentences(30, seed=1))
    prepared = prepare(own, 300, held_out)
    assert (prepared.train.documents, prepared.val.documents) == (100, 30)
    assert prepared.fingerprint != prepare(own, 300).fingerprint


def test_preparing_twice_uses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, sentences(60, seed=2))
    first = prepare(folder, 300)
    for function in ("write_tokens", "Tokenizer"):
        monkeypatch.setattr(f"nanochat.data.prepare.{function}", _fails if function == "write_tokens" else _OnlyLoads)
    second = prepare(folder, 300)
    assert (first.train.tokens == second.train.tokens).all()
    assert first.tokenizer.fingerprint == second.tokenizer.fingerprint


def _fails(*arguments: object) -> None:
    raise AssertionError("the cache was not used")


class _OnlyLoads:
    from nanochat.tokenizer import Tokenizer

    load = Tokenizer.load
    train = _fails


def test_tokens_are_the_documents(corpus_folder: Path) -> None:
    prepared = prepare(str(corpus_folder), 300)
    for part, held_out in ((prepared.train, False), (prepared.val, True)):
        texts = list(prepared.corpus.documents(held_out))
        assert part.documents == len(texts)
        for n, text in enumerate(texts):
            ids = part.tokens[part.starts[n] : part.starts[n + 1]].tolist()
            assert ids[0] == prepared.tokenizer.bos
            assert prepared.tokenizer.decode(ids[1:]) == text


def test_a_damaged_token_cache_is_made_again(tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path, sentences(60, seed=3))
    first = prepare(folder, 300)
    path = next((cache / "tokens").glob(f"{first.corpus.survey.fingerprint}-train-*")) / "train.tokens"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="damaged"):
        TokenFile.open(path.parent, "train")
    assert prepare(folder, 300).train.tokens.tobytes() == whole


def test_a_failed_preparation_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "corpus"
    write(folder, sentences(60, seed=4))
    (folder / "z.txt").write_bytes(b"\xff")
    before = sorted(cache.rglob("*"))
    with pytest.raises(ValueError, match=r"z\.txt is not UTF-8"):
        prepare(str(folder), 300)
    assert sorted(cache.rglob("*")) == before
