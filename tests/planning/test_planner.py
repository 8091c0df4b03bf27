"""The search: what fits into the time, what is best, and what the file says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nanochat.planning.candidate_timing import Timing, between
from nanochat.planning.candidates import CPU_SEARCH, Candidate
from nanochat.planning.config_file import configuration
from nanochat.planning.law import fit_law
from nanochat.planning.measured_runs import block_parameters, bundled_runs, bytes_per_token
from nanochat.planning.planner import ENDING_SECONDS, VAL_TOKENS, Planner

POINTS, _ = bundled_runs()
LAW = fit_law([point.size for point in POINTS], [point.score for point in POINTS])


def synthetic_timing(candidate: Candidate, accelerator: str, precision: str, compiled: bool) -> Timing:
    """A machine of 50 GFLOP/s; compiled, a fifth faster."""
    seconds = 6 * (candidate.block_parameters + 1.5 * candidate.vocab_size * candidate.width) / 5e10
    step = seconds * candidate.tokens_per_step + 1e-3
    return Timing(step * (0.8 if compiled else 1), seconds / 3, 1e9, 10**7, candidate.block_parameters)


def planner(minutes: float, **options: object) -> Planner:
    defaults = {"law": LAW, "points": POINTS, "unique_bytes": 21e6, "accelerator": "cpu", "precision": "32-true"}
    made = Planner(minutes, **{**defaults, "compiled": False, "say": print, "time_it": synthetic_timing, **options})  # type: ignore[arg-type]
    made.startup = 8.0
    return made


def test_measured_runs_are_what_they_say() -> None:
    assert len(POINTS) >= 12
    assert {point.size.vocab_size for point in POINTS} >= {512, 2048}
    assert LAW.error < 0.04
    assert block_parameters(4, 256) == 4 * (4 * 256**2 + 8 * 256**2)
    assert 1.5 < bytes_per_token(POINTS, 512) < bytes_per_token(POINTS, 700) < bytes_per_token(POINTS, 2048) < 4


def test_the_steps_are_those_that_fit_into_the_time() -> None:
    timing = Timing(0.05, 1e-5, 1e9, 10**7, 10**6)
    proposal = planner(2).propose(Candidate(4), timing)
    assert proposal is not None
    held_out = 21e6 / 0.95 * 0.05 / bytes_per_token(POINTS, 512)
    assert proposal.final_seconds == pytest.approx(held_out * 1.25e-5)  # a quarter more than timed, as `fit` reckons
    assert proposal.final_seconds < 12  # a tenth of the time may go to it
    left = 120 - 8 - ENDING_SECONDS - 4 * VAL_TOKENS * 1e-5 - held_out * 1.25e-5
    assert proposal.steps == int(left / (0.05 * 1.03))
    assert proposal.tokens == 512 * proposal.steps
    slow_to_score = planner(2).propose(Candidate(4), timing._replace(token_seconds=1e-4))
    assert slow_to_score is not None
    assert slow_to_score.steps == int((120 - 8 - ENDING_SECONDS - 4 * VAL_TOKENS * 1e-4 - 12) / (0.05 * 1.03))
    assert planner(0.15).propose(Candidate(4), timing) is None  # nine seconds: the start takes eight
    assert planner(2).propose(Candidate(4), timing._replace(memory=1e15)) is None


def test_more_time_means_a_better_score_and_no_smaller_model() -> None:
    best = [planner(minutes).search(CPU_SEARCH)[0] for minutes in (1, 30, 600)]
    scores = [proposal.score.value for proposal in best]
    assert scores == sorted(scores, reverse=True)
    depths = [proposal.candidate.depth for proposal in best]
    assert depths == sorted(depths)
    assert depths[0] < depths[-1]


def test_the_first_proposal_is_the_best() -> None:
    proposals = planner(5).search(CPU_SEARCH)
    assert proposals[0].score.value == min(p.score.value for p in proposals)
    assert len({p.candidate for p in proposals}) == len(proposals)
    compiled = planner(5, compiled=True).search(CPU_SEARCH)[0]
    assert compiled.timing.step_seconds == pytest.approx(
        0.8 * synthetic_timing(compiled.candidate, "", "", False).step_seconds
    )


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing can be trained in 0.05 minutes here"):
        planner(0.05).search(CPU_SEARCH)


def test_a_timing_between_two_vocabularies() -> None:
    low, high = Timing(0.1, 1e-5, 1e9, 100, 50), Timing(0.4, 4e-5, 2e9, 400, 200)
    middle = between(1024, (512, low), (2048, high))
    assert middle.step_seconds == pytest.approx(0.2)
    assert middle.parameters == 200


def test_the_file_is_a_configuration_of_fit(tmp_path: Path) -> None:
    from nanochat.data.text_data import TextDataModule
    from nanochat.training.language_model import LanguageModel

    proposal = planner(5).search(CPU_SEARCH)[0]
    text = configuration(proposal, 5, "mine", "configs/mine.yaml", "embedded", "a machine", "cuda", "python cli.py")
    content = yaml.safe_load(text)
    data = TextDataModule(**content["data"])
    assert data.tokens_per_step() == proposal.candidate.tokens_per_step
    module = LanguageModel(**content["model"], vocab_size=data.vocab_size, context=data.context)
    assert module.gpt.config.n_embd == proposal.candidate.width
    assert content["model"] | proposal.candidate.model == content["model"]
    assert content["plan"] == {"minutes": 5}
    assert content["trainer"] == {"accelerator": "cuda", "devices": 1}
    assert f"--trainer.max_steps={proposal.steps}" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_a_disturbed_timing_is_taken_again() -> None:
    asked: list[Candidate] = []

    def disturbed(candidate: Candidate, accelerator: str, precision: str, compiled: bool) -> Timing:
        asked.append(candidate)
        timing = synthetic_timing(candidate, accelerator, precision, compiled)
        late = candidate.vocab_size == 2048 and asked.count(candidate) == 1  # ten times too long, at first
        return timing._replace(step_seconds=timing.step_seconds * 10) if late else timing

    quiet, noisy = planner(5), planner(5, time_it=disturbed)
    assert noisy.search(CPU_SEARCH)[0].candidate == quiet.search(CPU_SEARCH)[0].candidate
    assert asked.count(Candidate(2, 2048)) == 2
    assert not noisy.busy


def test_a_machine_that_is_never_quiet_is_said_to_be_busy() -> None:
    def wild(candidate: Candidate, accelerator: str, precision: str, compiled: bool) -> Timing:
        timing = synthetic_timing(candidate, accelerator, precision, compiled)
        return timing._replace(busy=True)

    made = planner(5, time_it=wild)
    made.search(CPU_SEARCH)
    assert made.busy
