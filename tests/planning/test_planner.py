"""The search of ``plan``, and the configuration file that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nanochat.planning.candidate_timing import Timing, interpolate
from nanochat.planning.candidates import CPU_SEARCH, Candidate
from nanochat.planning.config_file import config_text
from nanochat.planning.law import fit_law
from nanochat.planning.measured_runs import bundled_runs, bytes_per_token
from nanochat.planning.planner import ENDING_SECONDS, VAL_TOKENS, Planner

RUNS, _ = bundled_runs()
LAW = fit_law([run.scale for run in RUNS], [run.score for run in RUNS])


def synthetic_timing(candidate: Candidate, accelerator: str, precision: str, compiled: bool) -> Timing:
    """A machine of 50 GFLOP/s; compiled, a fifth faster."""
    seconds = 6 * (candidate.block_parameters + 1.5 * candidate.vocab_size * candidate.width) / 5e10
    step = seconds * candidate.tokens_per_step + 1e-3
    return Timing(step * (0.8 if compiled else 1), seconds / 3, 1e9, 10**7)


def planner(minutes: float, **options: object) -> Planner:
    defaults = {"law": LAW, "runs": RUNS, "unique_bytes": 21e6, "accelerator": "cpu", "precision": "32-true"}
    made = Planner(minutes, **{**defaults, "compiled": False, "log": print, "timer": synthetic_timing, **options})  # type: ignore[arg-type]
    made.startup = 8.0
    return made


def test_steps_fit_into_the_time() -> None:
    timing = Timing(0.05, 1e-5, 1e9, 10**7)
    proposal = planner(2).propose(Candidate(4), timing)
    assert proposal is not None
    held_out = 21e6 / 0.95 * 0.05 / bytes_per_token(RUNS, 512)
    assert proposal.scoring_seconds == pytest.approx(held_out * 1.25e-5)  # a quarter more than timed, as in `fit`
    assert proposal.scoring_seconds < 12  # within the tenth of the time that is reserved for it
    left = 120 - 8 - ENDING_SECONDS - 4 * VAL_TOKENS * 1e-5 - held_out * 1.25e-5
    assert proposal.steps == int(left / (0.05 * 1.03))
    assert proposal.tokens == 512 * proposal.steps
    slow_to_score = planner(2).propose(Candidate(4), timing._replace(token_seconds=1e-4))
    assert slow_to_score is not None
    assert slow_to_score.steps == int((120 - 8 - ENDING_SECONDS - 4 * VAL_TOKENS * 1e-4 - 12) / (0.05 * 1.03))
    assert planner(0.15).propose(Candidate(4), timing) is None  # nine seconds, of which the start takes eight
    assert planner(2).propose(Candidate(4), timing._replace(memory=1e15)) is None


def test_more_time_gives_better_scores_and_larger_models() -> None:
    best = [planner(minutes).search(CPU_SEARCH)[0] for minutes in (1, 30, 600)]
    scores = [proposal.forecast.value for proposal in best]
    assert scores == sorted(scores, reverse=True)
    depths = [proposal.candidate.depth for proposal in best]
    assert depths == sorted(depths)
    assert depths[0] < depths[-1]


def test_proposals_are_ranked() -> None:
    proposals = planner(5).search(CPU_SEARCH)
    assert proposals[0].forecast.value == min(p.forecast.value for p in proposals)
    assert len({p.candidate for p in proposals}) == len(proposals)
    compiled = planner(5, compiled=True).search(CPU_SEARCH)[0]
    assert compiled.timing.step_seconds == pytest.approx(
        0.8 * synthetic_timing(compiled.candidate, "", "", False).step_seconds
    )


def test_too_little_time() -> None:
    with pytest.raises(ValueError, match="nothing can be trained in 0.05 minutes: starting alone takes 8 s"):
        planner(0.05).search(CPU_SEARCH)


def test_interpolated_timing() -> None:
    low, high = Timing(0.1, 1e-5, 1e9, 100), Timing(0.4, 4e-5, 2e9, 400)
    middle = interpolate(1024, (512, low), (2048, high))
    assert middle.step_seconds == pytest.approx(0.2)
    assert middle.parameters == 200


def test_configuration_file_is_valid_for_fit(tmp_path: Path) -> None:
    from nanochat.data.text_data import TextDataModule
    from nanochat.training.language_model import LanguageModel

    proposal = planner(5).search(CPU_SEARCH)[0]
    text = config_text(proposal, 5, "mine", "configs/mine.yaml", "embedded", "a machine", "cuda", "python cli.py")
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


def test_implausible_timing_is_repeated() -> None:
    calls: list[Candidate] = []

    def disturbed(candidate: Candidate, accelerator: str, precision: str, compiled: bool) -> Timing:
        calls.append(candidate)
        timing = synthetic_timing(candidate, accelerator, precision, compiled)
        slow = candidate.vocab_size == 2048 and calls.count(candidate) == 1  # ten times too slow, at the first try
        return timing._replace(step_seconds=timing.step_seconds * 10) if slow else timing

    quiet, noisy = planner(5), planner(5, timer=disturbed)
    assert noisy.search(CPU_SEARCH)[0].candidate == quiet.search(CPU_SEARCH)[0].candidate
    assert calls.count(Candidate(2, 2048)) == 2
    assert not noisy.busy


def test_busy_machine() -> None:
    def busy_timing(candidate: Candidate, accelerator: str, precision: str, compiled: bool) -> Timing:
        timing = synthetic_timing(candidate, accelerator, precision, compiled)
        return timing._replace(busy=True)

    made = planner(5, timer=busy_timing)
    made.search(CPU_SEARCH)
    assert made.busy
