"""The engine at work for many at once: one thread steps it, and each request hears of its own texts."""

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
    """As many texts are in work or waiting as there may be."""


class WorkerError(Exception):
    """A text cannot be written to its end, which is not the client's fault; the message says why."""


class Update(NamedTuple):
    """What has come of one text: which of the job's it is, new parts of it, and why it ended, if it has."""

    number: int
    parts: list[tuple[str, str]]
    finished: str | None


class Job:
    """The texts that one request asks for, all of which begin together.

    Its own thread is the event loop's that it was made in; the worker's thread sends there what is new. That waits
    here until the client takes it, so that one who reads slowly holds up nobody. It is never more than whole texts.

    Args:
        prompts: token ids of each prompt.
        settings: how tokens are chosen.
        max_tokens: how many to add to each at most; None for as many as there is room for.
        seed: the same seed gives the same texts.
        stop: texts before which to end.
        count: how many texts for each prompt.

    Attributes:
        generations: the texts, those of the first prompt first; none as long as the job is waiting.
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
        self._news: list[Update] = []
        self._failure: str | None = None
        self._arrived = asyncio.Event()

    @property
    def size(self) -> int:
        """The number of texts."""
        return len(self.prompts) * self.count

    def hear(self, news: Sequence[Update], failure: str | None = None) -> None:
        """Takes in what is new; in the event loop's thread."""
        self._news += news
        self._failure = failure or self._failure
        self._arrived.set()

    async def news(self) -> AsyncIterator[list[Update]]:
        """All that has come since the last time, until every text is finished.

        Raises:
            WorkerError: if the texts will not be.
        """
        unfinished = self.size
        while unfinished:
            await self._arrived.wait()
            self._arrived.clear()
            news, self._news = self._news, []
            if news:
                unfinished -= sum(one.finished is not None for one in news)
                yield news
            if self._failure is not None:
                raise WorkerError(self._failure)


class Worker:
    """Runs the engine in a thread of its own: jobs begin as soon as there is a place, and are decoded together.

    Args:
        engine: nobody else may use it.
        at_once: texts that are in work at a time.
        waiting: texts that may wait for a place.
    """

    def __init__(self, engine: Engine, at_once: int = 32, waiting: int = 64) -> None:
        self.engine, self.at_once, self.most_waiting = engine, at_once, waiting
        self._waiting: deque[Job] = deque()
        self._running: dict[int, tuple[Job, int, Generation]] = {}  # unfinished texts, by the generation's id()
        self._cancelled: list[Job] = []
        self._stopping: str | None = None
        self._changed = threading.Condition()  # guards all of the above
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it takes jobs."""
        return self._thread.is_alive() and self._stopping is None

    @property
    def load(self) -> tuple[int, int]:
        """Texts in work, and texts that wait."""
        with self._changed:
            return len(self._running), sum(job.size for job in self._waiting)

    def submit(self, job: Job) -> None:
        """Puts a job in the queue.

        Raises:
            QueueFull: if the queue is full.
            WorkerError: if the server is stopping.
        """
        with self._changed:
            if self._stopping is not None or not self._thread.is_alive():
                raise WorkerError(self._stopping or "the engine has stopped")
            if (
                len(self._running) + sum(one.size for one in self._waiting) + job.size
                > self.at_once + self.most_waiting
            ):
                raise QueueFull
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Ends a job wherever it is; its places are free before the next step. Nothing happens if it has ended."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
            elif any(generation.finished is None for generation in job.generations) or not job.generations:
                self._cancelled.append(job)
            self._changed.notify()

    def stop(self, why: str = "the server is stopping") -> None:
        """Ends all jobs and the thread, within a step."""
        with self._changed:
            self._stopping = why
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._stopping or self._running or self._waiting or self._cancelled):
                    self._changed.wait()
                if self._stopping is not None:
                    jobs = [*self._waiting, *dict.fromkeys(job for job, _, _ in self._running.values())]
                    self._waiting.clear()
                    self._running.clear()
                    break
                self._end_cancelled()
                admitted = self._admit()
            for job in admitted:
                self._begin(job)
            self._step()
        _send({job: [] for job in jobs}, self._stopping)

    def _end_cancelled(self) -> None:
        for job in self._cancelled:
            for generation in job.generations:
                self.engine.cancel(generation)
                self._running.pop(id(generation), None)
        self._cancelled.clear()

    def _admit(self) -> list[Job]:
        """Takes jobs out of the queue, in their order, as long as there are places."""
        admitted: list[Job] = []
        free = self.at_once - len(self._running)
        while self._waiting and self._waiting[0].size <= free:
            job = self._waiting.popleft()
            free -= job.size
            admitted.append(job)
        return admitted

    def _begin(self, job: Job) -> None:
        try:
            generations = [
                generation
                for prompt in job.prompts
                for generation in self.engine.start(
                    prompt, job.settings, job.max_tokens, job.seed, job.stop, count=job.count
                )
            ]
        except Exception as error:  # whoever makes a job checks it before: what fails here is memory, or a mistake
            log.exception("a text could not be begun")
            _send({job: []}, "the memory does not suffice" if isinstance(error, MemoryError) else "the engine failed")
            return
        with self._changed:
            job.generations = generations
            self._running.update({id(g): (job, index, g) for index, g in enumerate(generations)})

    def _step(self) -> None:
        try:
            changed = self.engine.step()
        except Exception:  # no text can be trusted any more, but the next ones can
            log.exception("the engine failed")
            self.engine.active.clear()
            with self._changed:
                jobs = list(dict.fromkeys(job for job, _, _ in self._running.values()))
                self._running.clear()
            _send({job: [] for job in jobs}, "the engine failed")
            return
        news: dict[Job, list[Update]] = {}
        with self._changed:
            for generation in changed:
                if id(generation) not in self._running:
                    continue
                job, index, _ = self._running[id(generation)]
                parts = generation.take()
                if parts or generation.finished is not None:
                    news.setdefault(job, []).append(Update(index, parts, generation.finished))
                if generation.finished is not None:
                    del self._running[id(generation)]
        _send(news)


def _send(news: Mapping[Job, list[Update]], failure: str | None = None) -> None:
    """Wakes each event loop once, however many of its jobs there are news for."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in news:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and whoever asked with it
            loop.call_soon_threadsafe(_deliver, {job: news[job] for job in jobs}, failure)


def _deliver(news: Mapping[Job, list[Update]], failure: str | None) -> None:
    for job, some in news.items():
        job.hear(some, failure)
