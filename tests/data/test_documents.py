from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.documents import WHOLE_BYTES, cut_at_paragraphs, find_files, read_documents


@given(st.text(st.sampled_from("ab \n\té"), max_size=300).flatmap(lambda t: st.integers(1, 400).map(lambda n: t * n)))
def test_cutting_loses_nothing(text: str) -> None:
    pieces = list(cut_at_paragraphs(text))
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= WHOLE_BYTES + 4096 for piece in pieces)


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
    pyarrow.parquet.write_table(pyarrow.table({"text": ["three", None, ""], "n": [1, 2, 3]}), tmp_path / "e.parquet")
    (tmp_path / "f.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "g.TXT").write_text("upper")
    files = find_files(tmp_path)
    assert [f.name for f in files] == ["a.txt", "b.md", "c.py", "d.jsonl", "e.parquet", "g.TXT"]
    assert [d for f in files for d in read_documents(f)] == ["text", "mark", "code", "one", "two", "three", "upper"]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbftext")
    assert list(read_documents(tmp_path / "a.txt")) == ["text"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"good \xff bad", "a.txt is not UTF-8 text .byte 5."),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}', "a.jsonl is not UTF-8 text .line 2."),
        ("a.jsonl", b'{"text": "a"}\n{"text"', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"words": "a"}', 'a.jsonl, line 1: a record needs a field "text"'),
        ("a.jsonl", b'["text"]', "line 1: a record needs"),
        ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("a.parquet", b"not parquet", "a.parquet is not a readable parquet file"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        list(read_documents(tmp_path / name))


def test_a_parquet_file_of_another_schema_is_named(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"words": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match='a.parquet has no column "text", only: words'):
        list(read_documents(tmp_path / "a.parquet"))
    pyarrow.parquet.write_table(pyarrow.table({"text": [1]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet: .* does not hold strings"):
        list(read_documents(tmp_path / "b.parquet"))


def test_missing_and_unknown_paths(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file or folder"):
        find_files(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no text"):
        find_files(tmp_path)
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*a\.pdf"):
        find_files(tmp_path / "a.pdf")
