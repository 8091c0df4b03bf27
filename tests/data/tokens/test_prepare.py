import json
from pathlib import Path

import pytest

from nanochat.data.corpus.corpora import open_corpus
from nanochat.data.tokens.prepare import CorpusOptions, Prepared, prepare
from nanochat.data.tokens.token_files import TokenFile
from tests.conftest import sentences


def write(folder: Path, texts: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    return str(folder)


def test_each_document_is_on_one_side_of_the_split(corpus_folder: Path) -> None:
    corpus = open_corpus(str(corpus_folder))
    train, held_out, both = (list(corpus.documents(side)) for side in (False, True, None))
    assert sorted(train + held_out) == sorted(both) == sorted(sentences(800))
    assert not set(train) & set(held_out)
    assert 16_000 < sum(map(len, held_out)) < 0.5 * sum(map(len, both))


def test_the_split_depends_only_on_the_document(tmp_path: Path) -> None:
    texts = sentences(4000)  # enough for the usual share of one in 64
    one = open_corpus(write(tmp_path / "one", texts))
    other = open_corpus(write(tmp_path / "other", texts[::-1] + texts[:100]))
    assert set(one.documents(True)) == set(other.documents(True))
    share = sum(map(len, one.documents(True))) / one.survey.bytes
    assert 0.5 / 64 < share < 2.5 / 64


def test_a_changed_file_changes_the_fingerprint(tmp_path: Path) -> None:
    folder = write(tmp_path, sentences(50))
    before = open_corpus(folder).survey
    assert open_corpus(folder).survey == before
    write(tmp_path, sentences(51))
    after = open_corpus(folder).survey
    assert (before.documents, after.documents) == (50, 51)
    assert before.fingerprint != after.fingerprint


def test_an_empty_corpus_raises(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n ")
    with pytest.raises(ValueError, match="is empty"):
        open_corpus(str(tmp_path))


def test_a_single_document_raises(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one short document")
    with pytest.raises(ValueError, match="--data.val_corpus"):
        prepare(CorpusOptions(str(tmp_path)), 300)


def test_val_corpus(tmp_path: Path) -> None:
    own = write(tmp_path / "own", sentences(100))
    held_out = write(tmp_path / "held_out", sentences(30, seed=1))
    prepared = prepare(CorpusOptions(own, held_out), 300)
    assert (len(train_documents(prepared)), prepared.val.documents) == (100, 30)
    assert prepared.fingerprint != prepare(CorpusOptions(own), 300).fingerprint


def test_preparing_twice_uses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, sentences(60, seed=2))
    first = prepare(CorpusOptions(folder), 300)
    monkeypatch.setattr("nanochat.data.tokens.prepare.TokenWriter", _fails)
    monkeypatch.setattr("nanochat.data.tokens.prepare.Tokenizer", _OnlyLoads)
    second = prepare(CorpusOptions(folder), 300)
    assert first.train == second.train
    assert (first.val.tokens == second.val.tokens).all()
    assert first.tokenizer.fingerprint == second.tokenizer.fingerprint


def _fails(*arguments: object) -> None:
    raise AssertionError("the cache was not used")


class _OnlyLoads:
    from nanochat.tokenizer import Tokenizer

    from_dict = Tokenizer.from_dict
    train = _fails


def documents_of(file: TokenFile) -> list[list[int]]:
    return [file.tokens[a:b].tolist() for a, b in zip(file.starts, file.starts[1:], strict=False)]


def train_documents(prepared: Prepared) -> list[list[int]]:
    """The training documents of one epoch."""
    assert prepared.train is not None
    found, shard = [], prepared.train.after(0, 0, None)
    while shard is not None:
        found += documents_of(prepared.train.open(shard))
        shard = prepared.train.after(0, 0, shard)
    return found


@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
def test_tokens_decode_to_the_documents(corpus_folder: Path, shard_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.data.tokens.prepare.SHARD_BYTES", shard_bytes)
    corpus = write(corpus_folder.parent / f"copy-{shard_bytes}", [*sentences(800), f"and {shard_bytes} more words"])
    prepared = prepare(CorpusOptions(corpus), 300)
    assert (len(prepared.train.sizes) > 1) == (shard_bytes == 20_000)  # type: ignore[union-attr]
    for found, held_out in ((train_documents(prepared), False), (documents_of(prepared.val), True)):
        assert all(ids[0] == prepared.tokenizer.bos for ids in found)
        texts = [prepared.tokenizer.decode(ids[1:]) for ids in found]
        assert sorted(texts) == sorted(prepared.corpus.documents(held_out))
        assert prepared.tokenizer.bos not in [i for ids in found for i in ids[1:]]


@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:100] + b"!" + b[101:], lambda b: b"", None])
@pytest.mark.parametrize("name", ["train-0.tokens", "train-0.starts", "train-0.json"])
def test_a_damaged_token_cache_is_made_again(name: str, damage: object, tmp_path: Path, cache: Path) -> None:
    folder = write(tmp_path, sentences(60, seed=3))
    first = prepare(CorpusOptions(folder), 300)
    before = train_documents(first)
    path = next((cache / "tokens").glob(f"{first.fingerprint}-train-*")) / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert train_documents(prepare(CorpusOptions(folder), 300)) == before


def test_a_failed_preparation_leaves_no_files(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "corpus"
    write(folder, sentences(60, seed=4))
    (folder / "z.parquet").write_bytes(b"\xff")
    before = sorted(cache.rglob("*"))
    with pytest.raises(ValueError, match=r"z\.parquet is damaged"):
        prepare(CorpusOptions(str(folder)), 300)
    assert sorted(cache.rglob("*")) == before
