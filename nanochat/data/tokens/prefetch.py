"""Fetching and tokenizing ahead, in processes of their own, so that a step of training never waits for text.

One process fetches text shards, others turn spans into tokens. They are given tasks and leave their results in the
cache, whole or not at all, where every process finds them: nothing has to be sent back, a crash loses nothing, and the
processes of all ranks and workers see the same. What goes wrong is written down beside the result that is missing.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanochat.cache import write_atomically
from nanochat.data.tokens.shards import NotReady, ShardId, StreamedShards, error_path
from nanochat.data.tokens.workers import end_with_parent, ignore_warnings

TEXT_SHARDS_AHEAD = 2  # fetched before they are needed
SHARDS_AHEAD = 2  # tokenized before they are needed
LOOK_SECONDS = 0.2  # between two looks at what is done and what comes next
RETRY_SECONDS = 60.0  # after a task that failed, if nobody needs its result yet
NICENESS = 5  # training goes first

Task = tuple[str, Any]  # "fetch" and the number of a text shard, or "tokenize" and a shard


class Prefetcher:
    """Makes the shards of a large corpus before they are needed, until it is closed.

    Args:
        shards: of the corpus.
        seed: of the order in which they will be needed.
        workers: processes that tokenize, at least one.
        window: tokens that are read before a step needs them; so many are made ready, or two shards if that is more.
    """

    def __init__(self, shards: StreamedShards, seed: int, workers: int = 1, window: int = 0) -> None:
        self.shards, self.seed, self.window = replace(shards, when_missing="raise"), seed, window
        self._at: tuple[int, ShardId, float] | None = None  # epoch, shard that is being read, tokens still needed
        self._asked: dict[Task, float] = {}  # when
        self._closing = threading.Event()
        context = multiprocessing.get_context("spawn")  # forking a process that runs torch's threads could hang
        self._queues = {"fetch": context.SimpleQueue(), "tokenize": context.SimpleQueue()}
        maker = replace(shards, when_missing="make")
        self._processes = [
            context.Process(target=_work, args=(self._queues[kind], maker), daemon=True)
            for kind in ("fetch", *["tokenize"] * workers)
        ]
        for process in self._processes:
            process.start()
        self._thread = threading.Thread(target=self._look_ahead, daemon=True)
        self._thread.start()

    def reading(self, epoch: int, shard: ShardId, tokens_left: float) -> None:
        """Says which shard is being read, and how many tokens the run still needs, counted from its beginning."""
        self._at = epoch, shard, tokens_left + self.window  # batches are read before it is known that none is needed

    def close(self) -> None:
        """Ends the processes; what they were making is dropped, as nothing half-made is ever kept."""
        self._closing.set()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    # ------------------------------------------------------------------------------------- in a thread

    def _look_ahead(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            if self._at is not None:
                try:
                    self._ask_for_what_follows(*self._at)
                except NotReady as missing:  # a run goes on where not even the text shard is here
                    self._ask(("fetch", missing.text_shard))
                    self._ask(("tokenize", self._at[1]))
            if (dead := next((p for p in self._processes if not p.is_alive()), None)) is not None:
                if not self._closing.is_set():
                    self._give_up(f"a process that prepares the text ended (exit code {dead.exitcode})")
                return

    def _ask_for_what_follows(self, epoch: int, shard: ShardId, tokens_left: float) -> None:
        """Asks for shards until enough are ready or asked for, and for the text shards that the run will come to."""
        order, spans = (
            self.shards.text_shard_order(self.seed, epoch),
            self.shards.span_order(self.seed, epoch, shard[0]),
        )
        if self._is_ready(shard):  # by its size it is reckoned how many more text shards are needed
            shards_left = tokens_left / max(1, self.shards.size(shard)) + spans.index(shard[1])
            text_shards = 1 + int(min(TEXT_SHARDS_AHEAD, shards_left // len(spans)))
            for text_shard in order[order.index(shard[0]) :][:text_shards]:
                self._ask(("fetch", text_shard))
        ready = unfinished = 0  # tokens in finished shards, and how many shards are not finished
        for number, (at, following) in enumerate(self._walk(epoch, shard)):
            if self._is_ready(following):
                ready += self.shards.size(following)
            else:
                self._ask(("tokenize", following))
                unfinished += 1
            enough = number >= SHARDS_AHEAD and ready >= self.window
            if enough or ready > tokens_left or unfinished > 2 * len(self._processes) or at > epoch + 1:
                return

    def _walk(self, epoch: int, shard: ShardId) -> Iterator[tuple[int, ShardId]]:
        """The shard and those after it with their epochs, as far as their text is here; asks for the next one."""
        at: ShardId | None = shard
        while True:
            if at is not None:
                yield epoch, at
            try:
                at = self.shards.after(self.seed, epoch, at)
            except NotReady as missing:
                self._ask(("fetch", missing.text_shard))
                return
            epoch += at is None

    def _is_ready(self, shard: ShardId) -> bool:
        return self.shards.shard_folder(shard).is_dir()

    def _ask(self, task: Task) -> None:
        target = _target(self.shards, task)
        asked = self._asked.get(task)
        if asked is not None and error_path(target).exists() and time.monotonic() - asked > RETRY_SECONDS:
            error_path(target).unlink(missing_ok=True)
            asked = None
        if asked is None and not target.exists():
            self._asked[task] = time.monotonic()
            self._queues[task[0]].put(task)

    def _give_up(self, why: str) -> None:
        """Tells whoever waits for something that it will not come."""
        for task in self._asked:
            if not _target(self.shards, task).exists():
                _write_error(_target(self.shards, task), why)


def _target(shards: StreamedShards, task: Task) -> Path:
    kind, what = task
    return shards.spans_path(what) if kind == "fetch" else shards.shard_folder(what)


def _write_error(target: Path, why: str) -> None:
    with contextlib.suppress(OSError):
        write_atomically(error_path(target), why)


def _work(tasks: Any, shards: StreamedShards) -> None:
    """What a process does: one task after the other, until its parent is gone."""
    ignore_warnings()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # close() kills
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    threading.Thread(target=end_with_parent, daemon=True).start()
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    while True:
        task = tasks.get()
        try:
            kind, what = task
            if kind == "fetch":
                shards.make_spans(what)
            else:
                shards.make_shard(what, threads=1)
        except Exception as error:
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            _write_error(_target(shards, task), "the disk is full: free some space" if full else str(error))
