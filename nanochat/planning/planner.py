"""The search of ``plan``: times candidates on this machine, forecasts their val/bpb, and ranks them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil
import torch

from nanochat.planning.candidate_timing import Timing, interpolate, time_candidate
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

HELD_OUT = 0.05  # approximate share of a corpus that is held out
VAL_TOKENS, VALIDATIONS = 8192, 4  # during the run, as in configs/tiny.yaml
OPENING_SECONDS = 2.0  # `fit` parses its options and opens the corpus, in addition to the imports
COMPILE_CACHE_SECONDS = 5.0  # `fit` loads a compiled model from the cache
CLEARLY_WORSE = 1.01  # the search ends at a depth whose forecast is this much above the best
TIMING_SECONDS = 40.0  # after this time, no larger model is timed
TRIES = 3  # timings of a pair of vocabularies that is not plausible
PLAUSIBLE_RATIO = (0.9, 2.0)  # step time with the larger timed vocabulary / with the smaller

TimeCandidate = Callable[[Candidate, str, str, bool], Timing | None]


def plausible(smaller: Timing, larger: Timing) -> bool:
    """Whether two timings of a model with different vocabularies fit together, and neither was disturbed."""
    low, high = PLAUSIBLE_RATIO
    return low <= larger.step_seconds / smaller.step_seconds <= high and not (smaller.busy or larger.busy)


@dataclass(frozen=True)
class Proposal:
    """A candidate with its forecast.

    Attributes:
        candidate: the model and its batch size.
        timing: of the candidate on this machine.
        steps: training steps that fit into the time.
        forecast: of the final val/bpb.
        scoring_seconds: to score all held-out text at the end. Up to a tenth of the time is reserved for it; the run
            takes longer by the rest.
        extrapolated: whether the run is far larger than the measured ones.
    """

    candidate: Candidate
    timing: Timing
    steps: int
    forecast: Forecast
    scoring_seconds: float
    extrapolated: bool

    @property
    def tokens(self) -> int:
        return self.steps * self.candidate.tokens_per_step


@dataclass
class Planner:
    """The search.

    Attributes:
        minutes: duration of the run, from the command to its end.
        law: forecasts scores.
        runs: measured runs, for the bytes per token of each vocabulary.
        unique_bytes: size of the training text; infinite for a stream.
        accelerator: "cpu", "cuda" or "mps".
        precision: as the Trainer takes it.
        compiled: whether the run will be compiled.
        log: prints a line of progress.
        timer: times a candidate.
        busy: whether other programs seemed to use the machine during the timing.
    """

    minutes: float
    law: Law
    runs: list[MeasuredRun]
    unique_bytes: float
    accelerator: str
    precision: str
    compiled: bool
    log: Callable[[str], object]
    timer: TimeCandidate = time_candidate
    busy: bool = False

    def __post_init__(self) -> None:
        # `fit` takes as long to start as this process has
        self.startup = time.time() - psutil.Process().create_time() + OPENING_SECONDS

    def search(self, space: SearchSpace) -> list[Proposal]:
        """Proposals that fit into memory and time, the best first.

        Raises:
            ValueError: if there are none.
        """
        proposals: list[Proposal] = []
        started = time.monotonic()
        for depth in space.depths:
            new = self._at_depth(depth, space)
            proposals += new
            best = min((p.forecast.value for p in proposals), default=float("inf"))
            out_of_time = time.monotonic() - started > TIMING_SECONDS
            if proposals and (not new or min(p.forecast.value for p in new) > CLEARLY_WORSE * best or out_of_time):
                break
        if not proposals:
            raise ValueError(
                f"nothing can be trained in {plural(self.minutes, 'minute')}: starting alone takes "
                f"{self.startup:.0f} s; increase --minutes"
            )
        proposals += self._larger_steps(min(proposals, key=lambda p: p.forecast.value), space)
        proposals.sort(key=lambda p: p.forecast.value)
        return self._with_compiled(proposals) if self.compiled else proposals

    def _at_depth(self, depth: int, space: SearchSpace) -> list[Proposal]:
        """Proposals for all vocabularies: two are timed, again if their times are not plausible."""
        candidates = {v: Candidate(depth, v, space.tokens_per_step, space.row_length) for v in space.vocab_sizes}
        low, high = space.timed_vocab_sizes
        timings: dict[int, Timing] = {}
        for vocab_size in (low, high) * TRIES:
            timing = self._timed(candidates[vocab_size])
            if timing is None:
                return []
            timings[vocab_size] = min(timing, timings.get(vocab_size, timing), key=lambda t: t.step_seconds)
            if len(timings) == 2 and plausible(timings[low], timings[high]):
                break
        else:
            self.busy = True
        proposals = [
            self.propose(candidate, interpolate(vocab_size, (low, timings[low]), (high, timings[high])))
            for vocab_size, candidate in candidates.items()
        ]
        return [p for p in proposals if p is not None]

    def _timed(self, candidate: Candidate) -> Timing | None:
        """The timing of a candidate; None if it does not fit into memory."""
        try:
            timing = self.timer(candidate, self.accelerator, self.precision, False)
        except torch.OutOfMemoryError:
            return None
        if timing is not None:
            self.busy |= timing.busy
            speed = candidate.tokens_per_step / timing.step_seconds
            self.log(
                f"  depth {candidate.depth}, width {candidate.width}, vocabulary {candidate.vocab_size:,}: "
                f"{speed:,.0f} tokens/s"
            )
        return timing

    def _larger_steps(self, best: Proposal, space: SearchSpace) -> list[Proposal]:
        """The best candidate with larger steps."""
        proposals = []
        for multiple in space.step_multiples:
            candidate = replace(best.candidate, tokens_per_step=space.tokens_per_step * multiple)
            timing = self._timed(candidate)
            proposal = self.propose(candidate, timing) if timing is not None else None
            if proposal is not None:
                proposals.append(proposal)
        return proposals

    def _with_compiled(self, proposals: list[Proposal]) -> list[Proposal]:
        """All proposals with step times of compiled models: the best is measured, the others scaled alike."""
        best = proposals[0]
        self.log("Compiling the best candidate, as `fit` will (up to a minute; `fit` uses the cached result) ...")
        timing = self.timer(best.candidate, self.accelerator, self.precision, True)
        if timing is None:
            self.compiled = False
            return proposals
        ratio = timing.step_seconds / best.timing.step_seconds
        self.log(
            f"  {best.candidate.tokens_per_step / timing.step_seconds:,.0f} tokens/s instead of "
            f"{best.candidate.tokens_per_step / best.timing.step_seconds:,.0f}"
        )
        scaled = [
            self.propose(p.candidate, p.timing._replace(step_seconds=p.timing.step_seconds * ratio)) for p in proposals
        ]
        return sorted((p for p in scaled if p is not None), key=lambda p: p.forecast.value)

    def propose(self, candidate: Candidate, timing: Timing) -> Proposal | None:
        """The proposal for a candidate; None if it does not fit into memory, or too few steps fit into the time."""
        if self.accelerator == "cpu" and timing.memory > available_memory(torch.device("cpu")):
            return None
        per_token = bytes_per_token(self.runs, candidate.vocab_size)
        # `fit` holds out a fixed part of a stream, which is not known here
        known_bytes = self.unique_bytes if math.isfinite(self.unique_bytes) else 0.0
        held_out_tokens = known_bytes / (1 - HELD_OUT) * HELD_OUT / per_token
        scoring = final_score_seconds(held_out_tokens, timing.token_seconds)
        ending = ENDING_SECONDS + reserved_score_seconds(scoring, self.minutes)
        seconds = 60 * self.minutes - self.startup - ending - (COMPILE_CACHE_SECONDS if self.compiled else 0)
        validation = VAL_TOKENS * timing.token_seconds
        validations = affordable_validations(VALIDATIONS, validation, self.minutes)
        steps = int((seconds - validations * validation) / (timing.step_seconds * STEP_OVERHEAD))
        if steps < MIN_STEPS:
            return None
        seen = steps * candidate.tokens_per_step * per_token
        scale = scale_of(
            candidate.block_parameters, seen, candidate.vocab_size, candidate.tokens_per_step, self.unique_bytes
        )
        return Proposal(candidate, timing, steps, self.law.forecast(scale), scoring, self.law.extrapolates(scale))
