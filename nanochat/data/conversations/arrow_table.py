"""Rows of parquet files by index: copied once into a memory-mapped Arrow file, so they take no memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from nanochat.cache import atomic_folder, cache_root, short_hash

BATCH_ROWS = 256


class Table(Sequence[dict[str, Any]]):
    """The rows of an Arrow file, as dictionaries of plain values.

    Args:
        path: a file in Arrow's IPC format, as :func:`to_table` writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self.path,)  # a worker process maps the file again

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]  # no slices
        if not 0 <= index < len(self):
            raise IndexError(index)
        row: dict[str, Any] = self._table.slice(index, 1).to_pylist()[0]
        return row


def to_table(files: Sequence[Path], columns: Sequence[str], key: str) -> Table:
    """The rows of parquet files, which are copied to the cache on the first call.

    Args:
        files: the files, with the same columns.
        columns: the columns to keep; if a file has none of them, all of its columns are kept.
        key: identifies the content of the files.

    Raises:
        ValueError: if a file is damaged or lacks columns, naming it.
    """
    name = short_hash([key, list(columns)])
    folder = cache_root() / "tables" / name
    path = folder / "rows.arrow"
    if not path.is_file():
        with atomic_folder(folder) as work:
            _copy(files, columns, work / path.name)
    return Table(path)


def _copy(files: Sequence[Path], columns: Sequence[str], target: Path) -> None:
    writer = None
    try:
        for batch in _batches(files, columns):
            if writer is None:
                writer = pyarrow.ipc.new_file(str(target), batch.schema)
            writer.write_batch(batch)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise ValueError(f"{files[0]} has no rows" if files else "there are no files")


def _batches(files: Sequence[Path], columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    for file in files:
        try:
            with pyarrow.parquet.ParquetFile(file, pre_buffer=False, page_checksum_verification=True) as parquet:
                names = parquet.schema_arrow.names
                missing = [name for name in columns if name not in names]
                if missing and len(missing) < len(columns):
                    raise ValueError(f"{file} has no column {', '.join(missing)}, only: {', '.join(names)}")
                yield from parquet.iter_batches(BATCH_ROWS, columns=None if missing else list(columns))
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise
            why = " ".join(str(error).split())[:160]
            raise ValueError(f"{file} is damaged or is not a parquet file: {why}") from error
