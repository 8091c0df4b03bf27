"""Fetching and tokenizing ahead, in processes of their own, so that a step of training never waits for text.

One process fetches shards, others turn spans into tokens. They are given tasks and leave their results in the cache,
whole or not at all, where whoever needs them finds them: nothing has to be sent back, a crash loses nothing, and the
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
from nanochat.data.tokens.shards import NotReady, Piece, StreamedPieces, error_path
from nanochat.data.tokens.workers import end_with_parent, ignore_warnings

SHARDS_AHEAD = 2  # fetched before they are needed
PIECES_AHEAD = 2  # tokenized before they are needed
LOOK_SECONDS = 0.2  # between two looks at what is done and what comes next
RETRY_SECONDS = 60.0  # after a task that failed, if nobody needs its result yet
NICENESS = 5  # training goes first

Task = tuple[str, Any]  # "shard" and its number, or "piece" and which


class Ahead:
    """Makes the pieces of a large corpus before they are needed, until it is closed.

    Args:
        pieces: of the corpus.
        seed: of the order in which they will be needed.
        workers: processes that tokenize, at least one.
        window: tokens that are read before a step needs them; so many are made ready, or two pieces if that is more.
    """

    def __init__(self, pieces: StreamedPieces, seed: int, workers: int = 1, window: int = 0) -> None:
        self.pieces, self.seed, self.window = replace(pieces, when_missing="raise"), seed, window
        self._at: tuple[int, Piece, float] | None = None  # epoch, piece that is being read, tokens still needed
        self._asked: dict[Task, float] = {}  # when
        self._closing = threading.Event()
        context = multiprocessing.get_context("spawn")  # forking a process that runs torch's threads could hang
        self._queues = {"shard": context.SimpleQueue(), "piece": context.SimpleQueue()}
        maker = replace(pieces, when_missing="make")
        self._processes = [
            context.Process(target=_work, args=(self._queues[kind], maker), daemon=True)
            for kind in ("shard", *["piece"] * workers)
        ]
        for process in self._processes:
            process.start()
        self._thread = threading.Thread(target=self._look_ahead, daemon=True)
        self._thread.start()

    def reading(self, epoch: int, piece: Piece, tokens_left: float) -> None:
        """Says which piece is being read, and how many tokens the run still needs, counted from its beginning."""
        self._at = epoch, piece, tokens_left + self.window  # batches are read before it is known that none is needed

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
                except NotReady as missing:  # a run goes on where not even the shard is here
                    self._ask(("shard", missing.shard))
                    self._ask(("piece", self._at[1]))
            if (dead := next((p for p in self._processes if not p.is_alive()), None)) is not None:
                if not self._closing.is_set():
                    self._give_up(f"a process that prepares the text ended (exit code {dead.exitcode})")
                return

    def _ask_for_what_follows(self, epoch: int, piece: Piece, tokens_left: float) -> None:
        """Asks for pieces until enough are ready or asked for, and for the shards that the run will come to."""
        order, spans = self.pieces.shard_order(self.seed, epoch), self.pieces.span_order(self.seed, epoch, piece[0])
        if self._is_ready(piece):  # by its size it is reckoned how many more shards are needed
            pieces_left = tokens_left / max(1, self.pieces.size(piece)) + spans.index(piece[1])
            shards = 1 + int(min(SHARDS_AHEAD, pieces_left // len(spans)))
            for shard in order[order.index(piece[0]) :][:shards]:
                self._ask(("shard", shard))
        ready = unfinished = 0  # tokens in finished pieces, and how many pieces are not finished
        for number, (at, following) in enumerate(self._walk(epoch, piece)):
            if self._is_ready(following):
                ready += self.pieces.size(following)
            else:
                self._ask(("piece", following))
                unfinished += 1
            enough = number >= PIECES_AHEAD and ready >= self.window
            if enough or ready > tokens_left or unfinished > 2 * len(self._processes) or at > epoch + 1:
                return

    def _walk(self, epoch: int, piece: Piece) -> Iterator[tuple[int, Piece]]:
        """The piece and those after it with their epochs, as far as their shards are here; asks for the next shard."""
        at: Piece | None = piece
        while True:
            if at is not None:
                yield epoch, at
            try:
                at = self.pieces.after(self.seed, epoch, at)
            except NotReady as missing:
                self._ask(("shard", missing.shard))
                return
            epoch += at is None

    def _is_ready(self, piece: Piece) -> bool:
        return self.pieces.piece_folder(piece).is_dir()

    def _ask(self, task: Task) -> None:
        target = _target(self.pieces, task)
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
            if not _target(self.pieces, task).exists():
                _write_error(_target(self.pieces, task), why)


def _target(pieces: StreamedPieces, task: Task) -> Path:
    kind, what = task
    return pieces.spans_path(what) if kind == "shard" else pieces.piece_folder(what)


def _write_error(target: Path, why: str) -> None:
    with contextlib.suppress(OSError):
        write_atomically(error_path(target), why)


def _work(tasks: Any, pieces: StreamedPieces) -> None:
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
            if kind == "shard":
                pieces.make_spans(what)
            else:
                pieces.make_piece(what, threads=1)
        except Exception as error:
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            _write_error(_target(pieces, task), "the disk is full: free some space" if full else str(error))
