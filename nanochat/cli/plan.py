"""``plan``: proposes the best model for a given time on this machine."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nanochat.cli.errors import UsageError, check_free, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import call
from nanochat.wording import plural

if TYPE_CHECKING:
    from nanochat.planning.planner import Planner, Proposal

MAX_ROWS = 8  # proposals in the table
WIDTH = 80  # columns


def plan(
    minutes: float = 30.0,
    write: str | None = None,
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    corpus: str = "embedded",
    overwrite: bool = False,
    root: str = ".",
) -> None:
    """Times training steps of models of several sizes, and proposes the one with the lowest val/bpb in the given time.

    Args:
        minutes: Duration of the run, from the command to its end.
        write: Write the proposal to this file, such as configs/mine.yaml, for `fit --config`.
        accelerator: The hardware to train on; auto takes an NVIDIA GPU if there is one, else the CPU.
        corpus: The training text, as --data.corpus of `fit`. Forecasts are based on runs on the embedded corpus.
        overwrite: Whether to replace an existing configuration file.
        root: The folder that contains lightning_logs; your own finished runs in it improve the forecast.
    """
    if not minutes > 0:
        raise UsageError(f"--minutes must be above 0, not {minutes:g}")
    if write is not None:
        if Path(write).suffix not in (".yaml", ".yml"):
            raise UsageError(f"--write={write}: the name of a configuration file must end with .yaml")
        check_free(Path(write), "--write", overwrite)
    # imported here, so that --help does not wait for torch
    from nanochat.cli.choices import check_gpu
    from nanochat.data.corpus.corpora import Corpus, open_corpus
    from nanochat.planning.candidates import CPU_SEARCH, GPU_SEARCH
    from nanochat.planning.law import fit_law
    from nanochat.planning.measured_runs import bundled_runs, local_runs
    from nanochat.planning.planner import HELD_OUT, Planner
    from nanochat.training import compiling
    from nanochat.training.console import say
    from nanochat.training.hardware import default_accelerator, default_precision

    chosen = default_accelerator() if accelerator == "auto" else accelerator
    check_gpu(f"--accelerator={accelerator}", chosen)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("nanochat").setLevel(logging.INFO)

    def log(text: str) -> None:
        say(textwrap.fill(text, WIDTH, break_on_hyphens=False))

    log(f"Planning a run of {plural(minutes, 'minute')} on {_machine(chosen)}.")
    log("Timing a few training steps of each size:")
    bundled, measured_corpus = bundled_runs()
    local = local_runs(root, measured_corpus)
    runs = bundled + local
    text = open_corpus(corpus)
    unique_bytes = (1 - HELD_OUT) * text.survey.bytes if isinstance(text, Corpus) else float("inf")
    law = fit_law([run.scale for run in runs], [run.score for run in runs])
    precision, compiled = default_precision(chosen), compiling.should_compile(chosen, minutes)
    planner = Planner(minutes, law, runs, unique_bytes, chosen, precision, compiled, log)
    proposals = planner.search(CPU_SEARCH if chosen == "cpu" else GPU_SEARCH)
    best = proposals[0]
    say(f"\n{format_proposals(proposals[:MAX_ROWS])}\n")
    for line in describe_choice(best, planner):
        log(line)
    for line in describe_forecast(best, planner, len(local), text.fingerprint == measured_corpus):
        log(line)
    if write is None:
        say(f"\nTo train it:\n  {program_name()} plan --minutes={minutes:g} --write=configs/mine.yaml")
        return
    from nanochat.cache import write_atomically
    from nanochat.planning.config_file import config_text

    path = Path(write)
    content = config_text(best, minutes, path.stem, write, corpus, _machine(chosen), chosen, program_name())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    say(f"\nWritten to {write}. To train it:\n  {program_name()} fit --config {write}")


def _machine(accelerator: str) -> str:
    import torch

    from nanochat.training.hardware import describe_device

    return describe_device(torch.device(accelerator))


def format_proposals(proposals: Sequence[Proposal]) -> str:
    """A table with one line per proposal, in 80 columns."""
    from nanochat.text_table import format_table
    from nanochat.training.console import count, size

    head = ["depth", "width", "vocab", "step", "params", "steps", "tokens", "memory", "val/bpb", "(90 %)"]
    rows = [
        [
            *(f"{n:,}" for n in (p.candidate.depth, p.candidate.width, p.candidate.vocab_size)),
            *(f"{p.candidate.tokens_per_step:,}", count(p.timing.parameters), f"{p.steps:,}", count(p.tokens)),
            *(size(p.timing.memory), f"{p.forecast.value:.3f}", f"{p.forecast.low:.2f}-{p.forecast.high:.2f}"),
        ]
        for p in proposals
    ]
    return format_table([head, *rows], right=range(len(head)))


def describe_choice(best: Proposal, planner: Planner) -> list[str]:
    """The best proposal and its duration, in sentences."""
    from nanochat.training.budget.time_estimate import reserved_score_seconds
    from nanochat.training.console import count, duration

    c = best.candidate
    compiled = ", compiled" if planner.compiled else ""
    overtime = best.scoring_seconds - reserved_score_seconds(best.scoring_seconds, planner.minutes)
    return [
        f"Best: depth {c.depth}, a vocabulary of {c.vocab_size:,}, about {best.steps:,} steps of "
        f"{c.tokens_per_step:,} tokens ({count(best.tokens)}) at "
        f"{c.tokens_per_step / best.timing.step_seconds:,.0f} tokens/s, {planner.precision}{compiled}.",
        f"The run takes {duration(60 * planner.minutes + overtime)}, including {duration(best.scoring_seconds)} to "
        "score all held-out text.",
    ]


def describe_forecast(best: Proposal, planner: Planner, num_local: int, same_corpus: bool) -> list[str]:
    """The forecast of the score, its basis and its limits, in sentences."""
    from nanochat.planning.measured_runs import bundled_runs_have_ngrams

    law, forecast = planner.law, best.forecast
    a, b, _, _ = law.exponents
    floor, by_size, by_text = law.coefficients
    formula = f"{floor:.2f} + {by_size:.2g} / N^{a:.2g} + {by_text:.2g} / T^{b:.2g}"
    own = f", {num_local} of them your own" if num_local else ""
    lines = [
        f"Forecast of val/bpb: {forecast.value:.3f} (90 % interval: {forecast.low:.3f} to {forecast.high:.3f}), from "
        f"{formula} (N: million parameters in the blocks, T: megabytes of text), fitted to {law.num_runs} finished "
        f"runs{own}. The typical error for a run outside the fit is {law.error:.1%}."
    ]
    if planner.busy:
        lines.append("Other programs used this machine during the timing; the speeds are those of undisturbed steps.")
    if best.extrapolated:
        lines.append("This run is far larger than the measured runs: the score may lie outside the interval.")
    if bundled_runs_have_ngrams():
        lines.append(
            "The bundled runs are of version 0.1.0, whose n-gram vectors lowered val/bpb: expect a higher score."
        )
    if not same_corpus:
        lines.append("The measured runs used another corpus: your scores will differ, the ranking hardly.")
    return lines


def run(arguments: Sequence[str]) -> int:
    """Runs ``plan``; returns the exit status."""
    return report_errors(lambda: call(plan, arguments, overwrite="Replace an existing configuration file."))
