"""Damage end to end: the command line trains on with what is whole and says what is not, or stops with one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from nanochat.cli import main
from nanochat.training.checkpoint.loading import load_whole_checkpoint
from tests.cli.test_errors import error_of
from tests.cli.tools import metrics, tiny_options, train
from tests.conftest import sentences
from tests.data.corpus.test_documents import write_parquet


@pytest.fixture(autouse=True)
def _quick_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.training.budget.timing.STEP_SECONDS", 0.05)  # the speed does not matter here


def damaged_corpus(folder: Path) -> Path:
    """Good text of every kind, and among it 12 bad records of every kind."""
    folder.mkdir()
    lines = [json.dumps({"text": text}).encode() for text in sentences(300, 1)]
    bad = [
        b'{"text": "caf\xe9"}',
        b'{"text": "cut sho',
        b'{"text": null}',
        b'{"text": ""}',
        b'{"words": "x"}',
        b"\0\0\0",
    ]
    (folder / "a.jsonl").write_bytes(b"\n".join([*lines[:100], *bad, *lines[100:]]))
    raw = [text.encode() for text in sentences(200, 2)]
    column = pyarrow.array([*raw, None, b"\xff\xfe", b""], pyarrow.binary())
    write_parquet(folder / "b.parquet", pyarrow.Array.from_buffers(pyarrow.string(), len(column), column.buffers()))
    book = [text.encode() for text in sentences(200, 3)]
    (folder / "c.txt").write_bytes(b"\n\n".join([*book, b"\xff", b"na\xefve", b"\0", *book]))
    (folder / "d.txt").write_bytes(b"")
    (folder / "e.md").write_bytes(b"\xef\xbb\xbf# A note\r\n")
    write_parquet(folder / "f.parquet", pyarrow.array([], pyarrow.string()))
    return folder


def test_a_run_leaves_out_what_is_bad_and_says_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = tiny_options(damaged_corpus(tmp_path / "corpus"), tmp_path)
    run = train(options, tmp_path)
    said = capsys.readouterr()
    assert said.err == ""
    for name, count, first in (
        ("a.jsonl", 6, "line 101: not UTF-8"),
        ("b.parquet", 3, 'row 200: no "text"'),
        ("c.txt", 3, r"byte [\d,]+: not UTF-8, convert the file to UTF-8"),
    ):
        path = re.escape(str(tmp_path / "corpus" / name))
        assert len(re.findall(f"^{path}: left out {count} bad records, the first: {first}$", said.out, re.M)) == 1
    assert re.search(r"^ *text .*, 12 bad records left out", said.out, re.MULTILINE)
    assert [step for step, _ in metrics(run, "train/loss")] == [0, 1, 2, 3]

    again = train(options, tmp_path)
    said = capsys.readouterr()
    assert "the first:" not in said.out
    assert re.search(r"^ *text .*, 12 bad records left out", said.out, re.MULTILINE)
    assert metrics(again, "train/loss") == metrics(run, "train/loss")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_schema(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"words": ["a"], "n": [1]}), path)


def fewer_rows(path: Path) -> None:
    """Writes another number of rows into the file's last row group: a row too few, were it believed."""
    content = path.read_bytes()
    metadata = pyarrow.parquet.read_metadata(path)
    assert metadata.num_rows == 60
    place = content.rindex(bytes([0x16, 2 * 60]))  # thrift: an i64 field, 60 in zigzag
    path.write_bytes(content[:place] + bytes([0x16, 2 * 59]) + content[place + 2 :])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "b.parquet is damaged or is not a parquet file"),
        (lambda path: path.write_bytes(b""), "b.parquet is damaged or is not a parquet file"),
        (other_schema, 'b.parquet has no column "text", only: words, n (see --data.column)'),
        (fewer_rows, "b.parquet is damaged or is not a parquet file: its row groups and their columns differ"),
        (lambda path: write_parquet(path, pyarrow.array([None] * 9, pyarrow.string())), 'b.parquet, row 0: no "text"'),
        (lambda path: path.with_suffix(".jsonl").write_bytes(b"[]\n3\n"), 'b.jsonl, line 1: no "text"; it has no good'),
        (lambda path: path.with_name("z.txt").write_bytes("UTF-16".encode("utf-16")), "z.txt, byte 0: not UTF-8"),
    ],
)
def test_a_file_that_is_no_good_is_named(damage: Callable[[Path], object], said: str, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("\n\n".join(sentences(200)))
    path = tmp_path / "corpus" / "b.parquet"
    write_parquet(path, sentences(60))
    damage(path)
    message = error_of(["fit", *tiny_options(tmp_path / "corpus", tmp_path)], capsys)
    assert f"{tmp_path / 'corpus'}/{said}" in message
    assert not (tmp_path / "lightning_logs").exists()


def test_going_on_from_the_checkpoint_before(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    options = [*tiny_options(corpus_folder, tmp_path), "--trainer.max_steps=6", "--checkpoint.every_n_train_steps=2"]
    run = train(options, tmp_path)
    uninterrupted = {name: metrics(run, name) for name in ("train/loss", "val/bpb")}
    last, previous = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "previous.ckpt"
    cut(last)
    for command, *given in (("fit", "--ckpt_path=last"), ("validate", f"--ckpt_path={last}"), ("export", "--out=x")):
        more = [*options, *given] if command != "export" else [f"--ckpt_path={last}", f"--out={tmp_path / 'out'}"]
        message = error_of([command, *more], capsys)
        assert message.startswith(f"nanochat: error: {last} is not a whole checkpoint: ")
        assert message.endswith(f"the one before it, of step 4, is whole: --ckpt_path={previous}")

    assert train([*options, f"--ckpt_path={previous}"], tmp_path) == run  # no new folder
    assert f"Resuming from {previous}, step 4." in capsys.readouterr().out
    assert {name: metrics(run, name) for name in uninterrupted} == uninterrupted
    assert load_whole_checkpoint(last)["global_step"] == 6

    last.unlink()  # as if it had never been written: the damaged one did not take the place of the one before
    assert main(["validate", *options, "--ckpt_path=last"]) == 0
    assert str(previous) in capsys.readouterr().out


@pytest.mark.slow
def test_a_record_of_fifty_megabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "corpus").mkdir()
    text = "\n".join(sentences(2_000, 5)) * 160
    assert len(text) > 50_000_000
    lines = [json.dumps({"text": one}) for one in (*sentences(200), text, *sentences(200, 6))]
    (tmp_path / "corpus" / "a.jsonl").write_text("\n".join(lines))
    train(tiny_options(tmp_path / "corpus", tmp_path), tmp_path)
    found = re.search(r"text .*: ([\d,]+) documents, ([\d.]+) MB \(", capsys.readouterr().out)
    assert found is not None
    assert int(found[1].replace(",", "")) > 400 + 190  # cut, and nothing of it left out
    assert float(found[2]) > 50


@pytest.mark.slow
def test_a_damaged_cache_changes_no_loss(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in sentences(300, 9)))
    before = set(cache.rglob("*"))
    losses = metrics(train(tiny_options(folder, tmp_path), tmp_path), "train/loss")
    for path in {path for path in cache.rglob("*") if path.is_file()} - before:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    capsys.readouterr()
    assert metrics(train(tiny_options(folder, tmp_path), tmp_path), "train/loss") == losses
    assert "Training a tokenizer" in capsys.readouterr().out  # it was noticed
