"""Measures the input pipeline without a model: parquet -> documents -> tokens -> rows, with an empty cache.

    python benchmarks/data.py --workers=2 --megabytes=400

writes a parquet corpus of that size (the documents of the embedded corpus, repeated, each made unique), reads one epoch
of it through the TextDataModule as ``fit`` would with --data.num_workers, and prints tokens per second, the time to the
first batch, and the peak memory of this process and of all its workers together.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow
import pyarrow.parquet
from report import report


def write_corpus(folder: Path, megabytes: int, shard_megabytes: int = 100) -> None:
    """Writes parquet files of about 100 MB of text each, in row groups of 1,024 as on the hub (but not compressed)."""
    from nanochat.data.corpus.corpora import open_corpus

    texts = list(open_corpus("embedded").documents())
    written = shard = turn = 0
    while written < megabytes * 1e6:
        rows, size = [], 0
        while size < min(shard_megabytes, megabytes) * 1e6 and written + size < megabytes * 1e6:
            for text in texts:
                rows.append(f"{turn}: {text}")
                size += len(text)
                if size >= shard_megabytes * 1e6:
                    break
            turn += 1
        path = folder / f"shard_{shard:05}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path, row_group_size=1024, compression="none")
        written, shard = written + size, shard + 1


class PeakMemory(threading.Thread):
    """Peak memory in bytes of this process (``own``) and with its children (``total``), as PSS."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.total = 0

    def run(self) -> None:
        me = psutil.Process()
        while True:
            try:
                sizes = [p.memory_full_info().pss for p in (me, *me.children(recursive=True))]
                self.own, self.total = max(self.own, sizes[0]), max(self.total, sum(sizes))
            except psutil.Error:
                pass  # a process has just ended
            time.sleep(0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="--data.num_workers")
    parser.add_argument("--megabytes", type=int, default=400, help="size of the corpus, in MB of text")
    parser.add_argument("--vocab_size", type=int, default=65536)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--batch_size", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        write_corpus(corpus, arguments.megabytes)
        os.environ["NANOCHAT_CACHE"] = str(Path(folder, "cache"))
        memory = PeakMemory()
        memory.start()
        row = measure(corpus, arguments)
        report("data", [{**row, "MB main": round(memory.own / 1e6), "MB total": round(memory.total / 1e6)}])


def measure(corpus: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Reads one epoch and returns its tokens, time and rate."""
    from nanochat.data.text_data import TextDataModule

    data = TextDataModule(
        str(corpus),
        vocab_size=arguments.vocab_size,
        context=arguments.context,
        batch_size=arguments.batch_size,
        num_workers=arguments.workers,
    )
    started = time.perf_counter()
    data.prepare_data()
    data.setup("fit")
    prepared = time.perf_counter() - started
    loader = iter(data.train_dataloader())
    next(loader)
    began, tokens = time.perf_counter(), 0
    assert data._stream is not None
    epoch_tokens = arguments.megabytes * 1e6 / 4.7  # approximately; stops before the text repeats
    while tokens < 0.9 * epoch_tokens:
        ids, _ = next(loader)
        tokens += ids.numel()
    seconds = time.perf_counter() - began
    data.teardown("fit")
    return {
        "workers": arguments.workers,
        "corpus": data.prepared.extent,
        "prepared s": round(prepared, 1),
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "tokens/s": tokens / seconds,
    }


if __name__ == "__main__":
    main()
