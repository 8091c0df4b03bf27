"""Runs the engine in a thread: requests are batched, and each receives the updates of its own texts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling

log = logging.getLogger(__name__)


class QueueFull(Exception):
    """The maximum number of texts is running or queued."""


class WorkerError(Exception):
    """A text cannot be finished, through no fault of the client. The message gives the reason."""


class Update(NamedTuple):
    """Progress of one text.

    Attributes:
        text_index: the index of the text within its job.
        parts: new text, as (kind, text) pairs (:meth:`Generation.take`).
        finished: the finish reason, or None while the text is unfinished.
    """

    text_index: int
    parts: list[tuple[str, str]]
    finished: str | None


class Job:
    """The texts of one request. All of them start together.

    A job belongs to the event loop in which it was created. The worker's thread sends updates to that loop, and they
    are kept here until the client takes them: a slow client delays no other, and the buffer never holds more than the
    complete texts.

    Args:
        prompts: the token ids of each prompt.
        settings: sampling settings.
        max_tokens: the limit of new tokens per text; None for as many as the context has room for.
        seed: the same seed gives the same texts.
        stop: stop sequences. They are not part of the text.
        count: the number of texts per prompt.

    Attributes:
        generations: the texts, in the order of their prompts; empty while the job is queued.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        settings: Sampling | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        count: int = 1,
    ) -> None:
        self.prompts, self.settings, self.max_tokens = prompts, settings, max_tokens
        self.seed, self.stop, self.count = seed, stop, count
        self.generations: list[Generation] = []
        self.loop = asyncio.get_running_loop()
        self._updates: list[Update] = []
        self._failure: str | None = None
        self._arrived = asyncio.Event()

    @property
    def size(self) -> int:
        """The number of texts."""
        return len(self.prompts) * self.count

    def receive(self, updates: Sequence[Update], failure: str | None = None) -> None:
        """Adds updates, or a failure that ends the job. Call it in the event loop's thread only."""
        self._updates += updates
        self._failure = failure or self._failure
        self._arrived.set()

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Yields the updates since the previous iteration, until every text is finished.

        Raises:
            WorkerError: if the texts cannot be finished.
        """
        unfinished = self.size
        while unfinished:
            await self._arrived.wait()
            self._arrived.clear()
            updates, self._updates = self._updates, []
            if updates:
                unfinished -= sum(update.finished is not None for update in updates)
                yield updates
            if self._failure is not None:
                raise WorkerError(self._failure)


class Worker:
    """Steps the engine in a thread of its own. Jobs join the running batch as soon as there is a free slot.

    Args:
        engine: used by this thread only.
        max_concurrency: the number of texts that are decoded at the same time.
        max_queue: the number of texts that may wait for a slot.
    """

    def __init__(self, engine: Engine, max_concurrency: int = 32, max_queue: int = 64) -> None:
        self.engine, self.max_concurrency, self.max_queue = engine, max_concurrency, max_queue
        self._queue: deque[Job] = deque()
        self._running: dict[int, tuple[Job, int, Generation]] = {}  # unfinished texts, by id() of the generation
        self._cancelled: list[Job] = []
        self._stop_reason: str | None = None
        self._changed = threading.Condition()  # guards all of the above
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the worker accepts jobs."""
        return self._thread.is_alive() and self._stop_reason is None

    @property
    def load(self) -> tuple[int, int]:
        """The number of running and of queued texts."""
        with self._changed:
            return len(self._running), self._queued()

    def submit(self, job: Job) -> None:
        """Adds a job to the queue.

        Raises:
            QueueFull: if the queue is full.
            WorkerError: if the worker has stopped.
        """
        with self._changed:
            if not self.alive:
                raise WorkerError(self._stop_reason or "the engine has stopped")
            if len(self._running) + self._queued() + job.size > self.max_concurrency + self.max_queue:
                raise QueueFull
            self._queue.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Ends a running or queued job; its slots are free before the next step. A finished job is left as it is."""
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
            elif any(generation.finished is None for generation in job.generations) or not job.generations:
                self._cancelled.append(job)
            self._changed.notify()

    def stop(self, reason: str = "the server is stopping") -> None:
        """Ends all jobs and the thread, after the current step at the latest."""
        with self._changed:
            self._stop_reason = reason
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _queued(self) -> int:
        """The number of queued texts. The caller holds the lock."""
        return sum(job.size for job in self._queue)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._stop_reason or self._running or self._queue or self._cancelled):
                    self._changed.wait()
                if self._stop_reason is not None:
                    jobs = [*self._queue, *dict.fromkeys(job for job, _, _ in self._running.values())]
                    self._queue.clear()
                    self._running.clear()
                    break
                self._end_cancelled()
                admitted = self._admit()
            for job in admitted:
                self._start(job)
            self._step()
        _send({job: [] for job in jobs}, self._stop_reason)

    def _end_cancelled(self) -> None:
        for job in self._cancelled:
            for generation in job.generations:
                self.engine.cancel(generation)
                self._running.pop(id(generation), None)
        self._cancelled.clear()

    def _admit(self) -> list[Job]:
        """Removes jobs from the queue, first in, first out, while there are free slots for all of their texts."""
        admitted: list[Job] = []
        free = self.max_concurrency - len(self._running)
        while self._queue and self._queue[0].size <= free:
            job = self._queue.popleft()
            free -= job.size
            admitted.append(job)
        return admitted

    def _start(self, job: Job) -> None:
        try:
            generations = [
                generation
                for prompt in job.prompts
                for generation in self.engine.start(
                    prompt, job.settings, job.max_tokens, job.seed, job.stop, count=job.count
                )
            ]
        except Exception as error:  # jobs are validated by their creator: this is a lack of memory, or a bug
            log.exception("a text could not be started")
            _send({job: []}, "the server is out of memory" if isinstance(error, MemoryError) else "the engine failed")
            return
        with self._changed:
            job.generations = generations
            self._running.update({id(g): (job, index, g) for index, g in enumerate(generations)})

    def _step(self) -> None:
        try:
            changed = self.engine.step()
        except Exception:  # the running texts are invalid now, but later ones are not affected
            log.exception("the engine failed")
            self.engine.active.clear()
            with self._changed:
                jobs = list(dict.fromkeys(job for job, _, _ in self._running.values()))
                self._running.clear()
            _send({job: [] for job in jobs}, "the engine failed")
            return
        updates: dict[Job, list[Update]] = {}
        with self._changed:
            for generation in changed:
                if id(generation) not in self._running:
                    continue
                job, index, _ = self._running[id(generation)]
                parts = generation.take()
                if parts or generation.finished is not None:
                    updates.setdefault(job, []).append(Update(index, parts, generation.finished))
                if generation.finished is not None:
                    del self._running[id(generation)]
        _send(updates)


def _send(updates: Mapping[Job, list[Update]], failure: str | None = None) -> None:
    """Passes updates to their jobs, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in updates:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the event loop is closed, and its clients are gone
            loop.call_soon_threadsafe(_deliver, {job: updates[job] for job in jobs}, failure)


def _deliver(updates: Mapping[Job, list[Update]], failure: str | None) -> None:
    for job, new in updates.items():
        job.receive(new, failure)
