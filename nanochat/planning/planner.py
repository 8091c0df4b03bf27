"""Times sizes on this machine, forecasts what each comes to in the time given, and chooses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil
import torch

from nanochat.planning.candidate_timing import Timing, between, time_candidate
from nanochat.planning.candidates import Candidate, SearchSpace
from nanochat.planning.law import Forecast, Law
from nanochat.planning.measured_runs import MeasuredRun, bytes_per_token, scale_of
from nanochat.training.budget.time_estimate import (
    ENDING_SECONDS,
    MIN_STEPS,
    STEP_OVERHEAD,
    affordable_validations,
    final_score_seconds,
    reserved_score_seconds,
)
from nanochat.training.hardware import available_memory
from nanochat.wording import plural

HELD_OUT = 0.05  # of a corpus, about
VAL_TOKENS, VALIDATIONS = 8192, 4  # on the way, as tiny has them
PARSING = 2.0  # seconds that `fit` needs to read its options and open the text, besides what is imported here
READING_COMPILED = 5.0  # seconds until a model that was compiled before is ready
CLEARLY_WORSE = 1.01  # a depth whose forecast is that much above the best one ends the search
TIMING_SECONDS = 40.0  # after so long, no larger size is timed

TRIES = 3  # where two timings cannot both be right, as when another program had the processor during one of them
RATIO = (0.9, 2.0)  # of the time of a step with the largest timed vocabulary to that with the smallest

TimeIt = Callable[[Candidate, str, str, bool], Timing | None]


def plausible(smaller: Timing, larger: Timing) -> bool:
    """Whether a step with a larger vocabulary takes about as much longer as it must, and neither was disturbed."""
    return RATIO[0] <= larger.step_seconds / smaller.step_seconds <= RATIO[1] and not (smaller.busy or larger.busy)


@dataclass(frozen=True)
class Proposal:
    """A candidate with all that is forecast of it.

    Attributes:
        candidate: what is to be trained.
        timing: of it on this machine.
        steps: that fit into the time.
        score: val/bpb at the end.
        final_seconds: of the time given, for the score on all of the held-out text: a tenth of it at most, and what
            goes beyond comes on top.
        guessed: whether it lies far beyond what was measured.
    """

    candidate: Candidate
    timing: Timing
    steps: int
    score: Forecast
    final_seconds: float
    guessed: bool

    @property
    def tokens(self) -> int:
        return self.steps * self.candidate.tokens_per_step


@dataclass
class Planner:
    """The search.

    Attributes:
        minutes: that a run may take, from the command to its end.
        law: by which scores are forecast.
        points: measured runs, which know how many bytes a token stands for.
        unique_bytes: of different text to train on.
        accelerator: "cpu", "cuda" or "mps".
        precision: as the Trainer takes it.
        compiled: whether the run will be compiled.
        say: tells what is going on.
        time_it: times a candidate.
    """

    minutes: float
    law: Law
    points: list[MeasuredRun]
    unique_bytes: float
    accelerator: str
    precision: str
    compiled: bool
    say: Callable[[str], object]
    time_it: TimeIt = time_candidate

    busy: bool = False  # whether something else took much of the machine while steps were timed

    def __post_init__(self) -> None:
        self.startup = time.time() - psutil.Process().create_time() + PARSING

    def search(self, field: SearchSpace) -> list[Proposal]:
        """Proposals, the best first; those that do not fit into memory or into the time are left out.

        Raises:
            ValueError: if none fits.
        """
        found: list[Proposal] = []
        began = time.monotonic()
        for depth in field.depths:
            new = self._at_depth(depth, field)
            found += new
            best = min((p.score.value for p in found), default=float("inf"))
            too_slow = time.monotonic() - began > TIMING_SECONDS
            if found and (not new or min(p.score.value for p in new) > CLEARLY_WORSE * best or too_slow):
                break
        if not found:
            raise ValueError(
                f"nothing can be trained in {plural(self.minutes, 'minute')} here: the start alone takes "
                f"{self.startup:.0f} s; give it more --minutes"
            )
        best_so_far = min(found, key=lambda p: p.score.value)
        found += self._larger_steps(best_so_far, field)
        found.sort(key=lambda p: p.score.value)
        return self._with_compiled(found) if self.compiled else found

    def _at_depth(self, depth: int, field: SearchSpace) -> list[Proposal]:
        sizes = [Candidate(depth, v, field.step, field.row_length) for v in field.vocabularies]
        low, high = field.timed
        ends = {c.vocab_size: c for c in sizes if c.vocab_size in field.timed}
        timings: dict[int, Timing] = {}
        for vocab_size in (low, high) * TRIES:
            timing = self._timed(ends[vocab_size])
            if timing is None:
                return []
            before = timings.get(vocab_size, timing)
            timings[vocab_size] = min(timing, before, key=lambda t: t.step_seconds)
            if len(timings) == 2 and plausible(timings[low], timings[high]):
                break
        else:
            self.busy = True
        times = [between(c.vocab_size, (low, timings[low]), (high, timings[high])) for c in sizes]
        return [p for c, t in zip(sizes, times, strict=True) if (p := self.propose(c, t)) is not None]

    def _timed(self, candidate: Candidate) -> Timing | None:
        try:
            timing = self.time_it(candidate, self.accelerator, self.precision, False)
        except torch.OutOfMemoryError:
            return None
        if timing is not None:
            self.busy |= timing.busy
            speed = candidate.tokens_per_step / timing.step_seconds
            self.say(
                f"  depth {candidate.depth}, width {candidate.width}, vocabulary {candidate.vocab_size:,}: "
                f"{speed:,.0f} tokens/s"
            )
        return timing

    def _larger_steps(self, best: Proposal, field: SearchSpace) -> list[Proposal]:
        larger = [replace(best.candidate, tokens_per_step=field.step * times) for times in field.larger]
        proposals = []
        for candidate in larger:
            timing = self._timed(candidate)
            proposal = self.propose(candidate, timing) if timing is not None else None
            if proposal is not None:
                proposals.append(proposal)
        return proposals

    def _with_compiled(self, found: list[Proposal]) -> list[Proposal]:
        """The best one is compiled and timed again; others are taken to gain as much."""
        best = found[0]
        self.say(
            "Compiling the best of them, as a run of this length does (up to a minute; it is kept for the run) ..."
        )
        timing = self.time_it(best.candidate, self.accelerator, self.precision, True)
        if timing is None:
            self.compiled = False
            return found
        gain = timing.step_seconds / best.timing.step_seconds
        self.say(
            f"  {best.candidate.tokens_per_step / timing.step_seconds:,.0f} tokens/s instead of "
            f"{best.candidate.tokens_per_step / best.timing.step_seconds:,.0f}"
        )
        again = [self.propose(p.candidate, p.timing._replace(step_seconds=p.timing.step_seconds * gain)) for p in found]
        return sorted((p for p in again if p is not None), key=lambda p: p.score.value)

    def propose(self, candidate: Candidate, timing: Timing) -> Proposal | None:
        """What a candidate comes to; None if it does not fit into memory, or not ten of its steps into the time."""
        if self.accelerator == "cpu" and timing.memory > available_memory(torch.device("cpu")):
            return None
        per_token = bytes_per_token(self.points, candidate.vocab_size)
        known = self.unique_bytes if math.isfinite(self.unique_bytes) else 0.0  # a stream says what is held out of it
        final = final_score_seconds(known / (1 - HELD_OUT) * HELD_OUT / per_token, timing.token_seconds)
        ending = ENDING_SECONDS + reserved_score_seconds(final, self.minutes)
        seconds = 60 * self.minutes - self.startup - ending - (READING_COMPILED if self.compiled else 0)
        one = VAL_TOKENS * timing.token_seconds
        validations = affordable_validations(VALIDATIONS, one, self.minutes)
        steps = int((seconds - validations * one) / (timing.step_seconds * STEP_OVERHEAD))
        if steps < MIN_STEPS:
            return None
        seen, step = steps * candidate.tokens_per_step * per_token, candidate.tokens_per_step
        size = scale_of(candidate.block_parameters, seen, candidate.vocab_size, step, self.unique_bytes)
        return Proposal(candidate, timing, steps, self.law.forecast(size), final, self.law.beyond(size))
