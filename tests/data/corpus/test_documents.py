import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.corpus.bad_records import BadRecords
from nanochat.data.corpus.documents import (
    CHUNK_BYTES,
    RECORD_BYTES,
    cut_at_paragraphs,
    find_files,
    read_documents,
    spans,
)


@given(st.text(st.sampled_from("ab \n\té"), max_size=300).flatmap(lambda t: st.integers(1, 400).map(lambda n: t * n)))
def test_cutting_loses_nothing(text: str) -> None:
    chunks = list(cut_at_paragraphs(text.splitlines(keepends=True)))
    assert "".join(chunks) == text
    assert all(len(chunk) <= CHUNK_BYTES for chunk in chunks)


def test_a_long_file_is_cut_at_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {n} says something. " * 20 + "\n\n" for n in range(100)]
    (tmp_path / "book.txt").write_text("".join(paragraphs))
    documents = list(read_documents(tmp_path / "book.txt"))
    assert len(documents) > 10
    assert "".join(documents) == "".join(paragraphs)
    assert all(d.startswith("Paragraph") and d.endswith("\n\n") for d in documents)
    assert all(2000 < len(d) <= 4096 for d in documents[:-1])


def test_a_short_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("one\n\ntwo\n\nthree")
    assert list(read_documents(tmp_path / "note.md")) == ["one\n\ntwo\n\nthree"]


def test_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.md").write_text("mark")
    (tmp_path / "c.py").write_text("code")
    (tmp_path / "d.jsonl").write_text('{"text": "one"}\n\n{"text": "two", "more": 1}\n')
    write_parquet(tmp_path / "e.parquet", ["three", None, ""])
    (tmp_path / "f.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "g.TXT").write_text("upper")
    files = find_files(tmp_path)
    assert [f.name for f in files] == ["a.txt", "b.md", "c.py", "d.jsonl", "e.parquet", "g.TXT"]
    assert [d for f in files for d in read_documents(f)] == ["text", "mark", "code", "one", "two", "three", "upper"]


def write_parquet(path: Path, texts: list[str | None] | pyarrow.Array, **options: object) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "n": list(range(len(texts)))}), path, **options)


def test_another_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one", "story": "two"}\n')
    pyarrow.parquet.write_table(pyarrow.table({"story": ["three"]}), tmp_path / "b.parquet")
    assert [d for name in ("a.jsonl", "b.parquet") for d in read_documents(tmp_path / name, "story")] == [
        "two",
        "three",
    ]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbftext")
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\n{"text": "two"}\n')
    assert list(read_documents(tmp_path / "a.txt")) == ["text"]
    assert list(read_documents(tmp_path / "b.jsonl")) == ["one", "two"]


@pytest.mark.parametrize("span_bytes", [50, 1000, 10**6])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt", "one_line.txt"])
def test_spans_concatenate_to_the_file(kind: str, span_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    texts = [f"text {n} " + "word " * (n % 60) for n in range(300)]
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    elif kind == "parquet":
        write_parquet(path, texts, row_group_size=37)
    else:
        path.write_text(("\n\n" if kind == "txt" else " ").join(texts))
    parts = spans(path, span_bytes=span_bytes)
    assert (len(parts) > 1) == (span_bytes < 10**6)
    if kind in ("jsonl", "parquet"):
        assert [t for part in parts for t in read_documents(part)] == texts
    else:
        assert "".join(t for part in parts for t in read_documents(part)).split() == path.read_text().split()
    # reading a span has no state
    assert list(read_documents(parts[-1])) == list(read_documents(parts[-1]))


def test_bad_records_are_skipped_and_counted(tmp_path: Path) -> None:
    bad = [b'{"text": "\xff"}', b'{"text"', b'{"words": "a"}', b'["text"]', b"[" * 100_000, b'{"text": null}']
    bad += [b'{"text": ""}', b'{"text": "\\ud800"}', b'{"text": 3}', b"\0\0"]
    lines = [line for n, line in enumerate(bad) for line in (b'{"text": "good %d"}' % n, line)]
    (tmp_path / "a.jsonl").write_bytes(b"\r\n".join(lines))
    bad_records = BadRecords()
    assert list(read_documents(tmp_path / "a.jsonl", bad_records=bad_records)) == [f"good {n}" for n in range(len(bad))]
    assert bad_records.total == len(bad)
    assert "a.jsonl: left out 10 bad records, the first: line 2: not UTF-8" in bad_records.lines()[0]

    raw = pyarrow.array([b"good", b"\xff\xfe", None, b"also good", b" "], pyarrow.binary())
    strings = pyarrow.Array.from_buffers(pyarrow.string(), len(raw), raw.buffers())  # unvalidated
    write_parquet(tmp_path / "b.parquet", strings)
    bad_records = BadRecords()
    assert list(read_documents(tmp_path / "b.parquet", bad_records=bad_records)) == ["good", "also good"]
    assert bad_records.lines() == [f"{tmp_path / 'b.parquet'}: left out 3 bad records, the first: row 1: not UTF-8"]

    (tmp_path / "c.txt").write_bytes(b"good \xff bad\nanother line\n\xe9\n")
    bad_records = BadRecords()
    assert list(read_documents(tmp_path / "c.txt", bad_records=bad_records)) == ["another line\n"]
    assert "left out 2 bad records, the first: byte 5: not UTF-8" in bad_records.lines()[0]


def test_only_the_first_bad_record_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = []
    monkeypatch.setattr(
        "nanochat.data.corpus.documents._location", lambda span, offset: offsets.append(offset) or "somewhere"
    )
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}\n' + b'{"text": 3}\n[]\n\xff\n{\n' * 100)
    bad_records = BadRecords()
    assert list(read_documents(tmp_path / "a.jsonl", bad_records=bad_records)) == ["good"]
    assert bad_records.total == 400
    assert offsets == [17]  # counting lines means reading the file up to there


def test_many_bad_files_give_few_lines(tmp_path: Path) -> None:
    bad_records = BadRecords()
    for n in range(100):
        bad_records.add(tmp_path / f"{n}.jsonl", "line 1", "not JSON")
    assert len(bad_records.lines()) == 4
    assert bad_records.lines()[-1] == "... and 97 bad records in 97 more files"


def test_a_document_of_fifty_megabytes(tmp_path: Path) -> None:
    text = "word " * 10_000_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + '\n{"text": "and a short one"}\n')
    documents = list(read_documents(tmp_path / "a.jsonl"))
    assert "".join(documents[:-1]) == text
    assert documents[-1] == "and a short one"
    assert max(map(len, documents)) <= RECORD_BYTES


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"good \xff bad", "a.txt, byte 5: not UTF-8"),
        ("a.txt", "utf-16".encode("utf-16-le"), "a NUL byte, as in UTF-16"),
        ("a.jsonl", b'{"text": "\xff"}', "a.jsonl, line 1: not UTF-8"),
        ("a.jsonl", b'\n{"text"', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"words": "a"}', 'a.jsonl, line 1: no "text"'),
        ("a.jsonl", b'{"text": 3}', 'line 1: "text" does not hold text'),
        ("a.parquet", b"not parquet", "a.parquet is damaged or is not a parquet file"),
        ("a.parquet", b"", "a.parquet is damaged or is not a parquet file"),
    ],
)
def test_a_file_without_a_good_record_raises(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        list(read_documents(tmp_path / name))


def test_a_truncated_parquet_file_raises(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [f"text {n}" for n in range(1000)])
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="a.parquet is damaged or is not a parquet file"):
        spans(tmp_path / "a.parquet")


def test_a_parquet_file_without_the_column_raises(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"words": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match='a.parquet has no column "text", only: words'):
        list(read_documents(tmp_path / "a.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet: .* does not hold strings"):
        list(read_documents(tmp_path / "b.parquet"))


def test_all_string_types_of_parquet(tmp_path: Path) -> None:
    for kind in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()):
        write_parquet(tmp_path / "a.parquet", pyarrow.array(["one", None, "two"], kind))
        assert list(read_documents(tmp_path / "a.parquet")) == ["one", "two"]


def test_a_duplicate_column_raises(tmp_path: Path) -> None:
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, ["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match='a.parquet has several columns "text"'):
        list(read_documents(tmp_path / "a.parquet"))


def test_page_checksums_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, ["some text", "more text"], compression="none", use_dictionary=False, write_page_checksum=True)
    path.write_bytes(path.read_bytes().replace(b"some text", b"sOme text"))
    with pytest.raises(ValueError, match="a.parquet is damaged .*: .*CRC checksum"):
        list(read_documents(path))


def test_missing_and_unknown_paths(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file or folder"):
        find_files(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no text"):
        find_files(tmp_path)
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*a\.pdf"):
        find_files(tmp_path / "a.pdf")
