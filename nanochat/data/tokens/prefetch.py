"""Fetching and tokenizing ahead of training, in separate processes, so that a step never waits for text.

One process fetches text shards, others tokenize their spans. Processes receive tasks through queues and write their
results to the cache, atomically; the readers of all ranks and workers find them there. So no results are sent between
processes, and a crash loses nothing. An error is written to a file beside the missing result.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanochat.cache import write_atomically
from nanochat.data.tokens.shards import NotReady, ShardId, StreamedShards, error_path
from nanochat.data.tokens.token_stream import Segment, TokenStream
from nanochat.data.tokens.workers import exit_with_parent, ignore_signals

TEXT_SHARDS_AHEAD = 2  # fetched before they are needed
SHARDS_AHEAD = 2  # tokenized before they are needed
INTERVAL_SECONDS = 0.2  # between two checks of what is done and what to request next
RETRY_SECONDS = 60.0  # before a failed task is tried again
NICENESS = 5  # training has priority

Task = tuple[str, Any]  # "fetch" and the number of a text shard, or "tokenize" and a shard


class Prefetcher:
    """Makes the shards of a large corpus before they are needed, until it is closed.

    Args:
        shards: of the corpus.
        seed: of the order in which training reads them.
        workers: processes that tokenize, at least one.
        window: tokens that are read before a step needs them. At least this number is kept ready, and at least two
            shards.
    """

    def __init__(self, shards: StreamedShards, seed: int, workers: int = 1, window: int = 0) -> None:
        self.shards, self.seed, self.window = replace(shards, when_missing="raise"), seed, window
        self._position: tuple[int, ShardId, float] | None = None  # epoch, shard being read, tokens still needed
        self._requested: dict[Task, float] = {}  # time of each request
        self._closing = threading.Event()
        context = multiprocessing.get_context("spawn")  # forking a process that runs torch's threads could deadlock
        self._queues = {"fetch": context.SimpleQueue(), "tokenize": context.SimpleQueue()}
        maker = replace(shards, when_missing="make")
        self._processes = [
            context.Process(target=_work, args=(self._queues[kind], maker), daemon=True)
            for kind in ("fetch", *["tokenize"] * workers)
        ]
        for process in self._processes:
            process.start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def set_position(self, epoch: int, shard: ShardId, tokens_left: float) -> None:
        """Sets the shard that is being read, and the tokens that the run still needs, from that shard's beginning."""
        self._position = epoch, shard, tokens_left + self.window  # the loader reads ahead of the last step, too

    def close(self) -> None:
        """Ends the processes. Unfinished results are discarded: the cache holds only complete ones."""
        self._closing.set()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    # ------------------------------------------------------------------------------------- in a thread

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL_SECONDS):
            if self._position is not None:
                try:
                    self._request_following(*self._position)
                except NotReady as missing:  # a resumed run whose text shard is not on this machine
                    self._request(("fetch", missing.text_shard))
                    self._request(("tokenize", self._position[1]))
            if (dead := next((p for p in self._processes if not p.is_alive()), None)) is not None:
                if not self._closing.is_set():
                    self._fail_all(f"a process that prepares the text ended (exit code {dead.exitcode})")
                return

    def _request_following(self, epoch: int, shard: ShardId, tokens_left: float) -> None:
        """Requests shards until enough are ready or requested, and the text shards that the run will reach."""
        order = self.shards.text_shard_order(self.seed, epoch)
        spans = self.shards.span_order(self.seed, epoch, shard[0])
        if self._is_ready(shard):  # its size gives an estimate of the text shards still needed
            shards_left = tokens_left / max(1, self.shards.size(shard)) + spans.index(shard[1])
            count = 1 + int(min(TEXT_SHARDS_AHEAD, shards_left // len(spans)))
            for text_shard in order[order.index(shard[0]) :][:count]:
                self._request(("fetch", text_shard))
        ready = unfinished = 0  # tokens in finished shards, and number of unfinished shards
        for number, (at_epoch, following) in enumerate(self._walk(epoch, shard)):
            if self._is_ready(following):
                ready += self.shards.size(following)
            else:
                self._request(("tokenize", following))
                unfinished += 1
            enough = number >= SHARDS_AHEAD and ready >= self.window
            if enough or ready > tokens_left or unfinished > 2 * len(self._processes) or at_epoch > epoch + 1:
                return

    def _walk(self, epoch: int, shard: ShardId) -> Iterator[tuple[int, ShardId]]:
        """The shard and those after it with their epochs, up to the first text shard that is missing; requests it."""
        current: ShardId | None = shard
        while True:
            if current is not None:
                yield epoch, current
            try:
                current = self.shards.after(self.seed, epoch, current)
            except NotReady as missing:
                self._request(("fetch", missing.text_shard))
                return
            epoch += current is None

    def _is_ready(self, shard: ShardId) -> bool:
        return self.shards.shard_folder(shard).is_dir()

    def _request(self, task: Task) -> None:
        target = _target(self.shards, task)
        requested = self._requested.get(task)
        if requested is not None and error_path(target).exists() and time.monotonic() - requested > RETRY_SECONDS:
            error_path(target).unlink(missing_ok=True)
            requested = None
        if requested is None and not target.exists():
            self._requested[task] = time.monotonic()
            self._queues[task[0]].put(task)

    def _fail_all(self, why: str) -> None:
        """Writes an error for every unfinished task, so that readers stop waiting."""
        for task in self._requested:
            if not _target(self.shards, task).exists():
                _write_error(_target(self.shards, task), why)


class PrefetchProgress:
    """Callback of the training loader: reports to a prefetcher how far training has read.

    Args:
        prefetcher: the prefetcher.
        stream: that training reads.
        first: the segment that contains ``start``, or an earlier one. The first call reports it, as ``stream`` could
            not find it before it is tokenized.
        start: position in the stream of the first batch.
        tokens_per_batch: tokens that one batch of every rank takes from the stream.
        end: returns the position at the end of the run.
    """

    def __init__(
        self,
        prefetcher: Prefetcher,
        stream: TokenStream,
        first: Segment,
        start: int,
        tokens_per_batch: int,
        end: Callable[[], float],
    ) -> None:
        self.prefetcher, self.stream, self.first = prefetcher, stream, first
        self.start, self.tokens_per_batch, self.end = start, tokens_per_batch, end

    def __call__(self, batches: int) -> None:
        """Reports the segment of the last batch, after this number of batches."""
        read = max(0, batches - 1) * self.tokens_per_batch
        segment = self.stream.segment_at(self.start + read) if batches else self.first
        self.prefetcher.set_position(segment.epoch, segment.shard, self.end() - segment.start)


def _target(shards: StreamedShards, task: Task) -> Path:
    """The file or folder that a task makes."""
    kind, item = task
    return shards.spans_path(item) if kind == "fetch" else shards.shard_folder(item)


def _write_error(target: Path, why: str) -> None:
    with contextlib.suppress(OSError):
        write_atomically(error_path(target), why)


def _work(tasks: Any, shards: StreamedShards) -> None:
    """Main function of a process: runs tasks until the parent ends."""
    ignore_signals()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # close() kills
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    while True:
        task = tasks.get()
        try:
            kind, item = task
            if kind == "fetch":
                shards.make_spans(item)
            else:
                shards.make_shard(item, threads=1)
        except Exception as error:
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            _write_error(_target(shards, task), "the disk is full: free some space" if full else str(error))
