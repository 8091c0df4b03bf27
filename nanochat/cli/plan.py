"""``plan``: what can be trained here in so many minutes."""

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

SHOWN = 8  # proposals in the table
WIDTH = 80  # columns


def plan(
    minutes: float = 30.0,
    write: str | None = None,
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    corpus: str = "embedded",
    overwrite: bool = False,
    root: str = ".",
) -> None:
    """Times a few real steps at several sizes, and proposes what comes to the lowest val/bpb in the time given.

    Args:
        minutes: That the run is to take, from the command to its end.
        write: A configuration to write, such as configs/mine.yaml, for `fit --config`.
        accelerator: What to train on; auto takes an NVIDIA GPU if there is one, else the CPU.
        corpus: What to train on, as --data.corpus of `fit`. Scores are forecast by runs on the embedded one.
        overwrite: Whether that file may be replaced.
        root: The folder that lightning_logs is in: finished runs of your own make the forecast better.
    """
    if not minutes > 0:
        raise UsageError(f"--minutes must be above 0, not {minutes:g}")
    if write is not None:
        if Path(write).suffix not in (".yaml", ".yml"):
            raise UsageError(f"--write={write}: the name of a configuration ends with .yaml")
        check_free(Path(write), "--write", overwrite)
    # not above: --help does not wait for torch
    from nanochat.cli.choices import check_gpu
    from nanochat.data.corpus.corpora import Corpus, open_corpus
    from nanochat.planning.candidates import CPU_SEARCH, GPU_SEARCH
    from nanochat.planning.law import fit_law
    from nanochat.planning.measured_runs import bundled_runs, local_runs
    from nanochat.planning.planner import HELD_OUT, Planner
    from nanochat.training import compiling
    from nanochat.training.budget.time_estimate import reserved_score_seconds
    from nanochat.training.console import duration, say
    from nanochat.training.hardware import default_accelerator, default_precision

    chosen = default_accelerator() if accelerator == "auto" else accelerator
    check_gpu(f"--accelerator={accelerator}", chosen)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("nanochat").setLevel(logging.INFO)

    def tell(text: str) -> None:
        say(textwrap.fill(text, WIDTH, break_on_hyphens=False))

    tell(f"What can be trained in {plural(minutes, 'minute')} on {_machine(chosen)}?")
    tell("A few steps of each size are timed:")
    points, known_text = bundled_runs()
    text = open_corpus(corpus)
    size = (1 - HELD_OUT) * text.survey.bytes if isinstance(text, Corpus) else float("inf")
    own = local_runs(root, known_text)
    points += own
    law = fit_law([p.size for p in points], [p.score for p in points])
    precision, compiled = default_precision(chosen), compiling.should_compile(chosen, minutes)
    planner = Planner(minutes, law, points, size, chosen, precision, compiled, tell)
    proposals = planner.search(CPU_SEARCH if chosen == "cpu" else GPU_SEARCH)
    best = proposals[0]
    say(f"\n{table(proposals[:SHOWN])}\n")
    tell(f"The choice is the first: {in_words(best, planner)}")
    beyond = best.final_seconds - reserved_score_seconds(best.final_seconds, minutes)
    final = duration(best.final_seconds)
    tell(f"It takes {duration(60 * minutes + beyond)}, {final} of them for the score on all held-out text.")
    for line in sureness(best, planner, len(own), text.fingerprint == known_text):
        tell(line)
    if write is None:
        say(f"\nTo train it:\n  {program_name()} plan --minutes={minutes:g} --write=configs/mine.yaml")
        return
    from nanochat.cache import write_atomically
    from nanochat.planning.config_file import configuration

    path = Path(write)
    content = configuration(best, minutes, path.stem, write, corpus, _machine(chosen), chosen, program_name())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    say(f"\nWritten to {write}. To train it:\n  {program_name()} fit --config {write}")


def _machine(accelerator: str) -> str:
    import torch

    from nanochat.training.hardware import describe_device

    return describe_device(torch.device(accelerator))


def table(proposals: Sequence[Proposal]) -> str:
    """The proposals, a line each, in 80 columns."""
    from nanochat.text_table import format_table
    from nanochat.training.console import count, size

    head = ["depth", "width", "vocab", "step", "params", "steps", "tokens", "memory", "val/bpb", "(90 %)"]
    rows = [
        [
            *(f"{n:,}" for n in (p.candidate.depth, p.candidate.width, p.candidate.vocab_size)),
            *(f"{p.candidate.tokens_per_step:,}", count(p.timing.matmul_parameters), f"{p.steps:,}", count(p.tokens)),
            *(size(p.timing.memory), f"{p.score.value:.3f}", f"{p.score.low:.2f}-{p.score.high:.2f}"),
        ]
        for p in proposals
    ]
    return format_table([head, *rows], right=range(len(head)))


def in_words(best: Proposal, planner: Planner) -> str:
    """The choice in a sentence."""
    from nanochat.training.console import count

    c = best.candidate
    compiled = ", compiled" if planner.compiled else ""
    return (
        f"depth {c.depth}, a vocabulary of {c.vocab_size:,}, about {best.steps:,} steps of {c.tokens_per_step:,} "
        f"tokens ({count(best.tokens)}) at {c.tokens_per_step / best.timing.step_seconds:,.0f} tokens/s, "
        f"{planner.precision}{compiled}."
    )


def sureness(best: Proposal, planner: Planner, own: int, same_text: bool) -> list[str]:
    """What the forecast of the score rests on."""
    law, score = planner.law, best.score
    a, b, _, _ = law.shape
    floor, by_size, by_text = law.factors
    law_text = f"{floor:.2f} + {by_size:.2g} / N^{a:.2g} + {by_text:.2g} / T^{b:.2g}"
    yours = f", {own} of them your own" if own else ""
    lines = [
        f"val/bpb is forecast to be {score.value:.3f}, in nine of ten cases {score.low:.3f} to {score.high:.3f}: by "
        f"{law_text} (N million parameters in the blocks, T megabytes of text), fitted to {law.count} finished "
        f"runs{yours}. It misses a run that it does not know by {law.error:.1%}.",
    ]
    if planner.busy:
        lines.append("Something else was using this machine: the speeds are those of its quiet moments.")
    if best.guessed:
        lines.append("That is far beyond the measured runs, so it is a guess: the true score may lie outside.")
    if not same_text:
        lines.append("These learned from other text than yours: your scores differ, the order of the sizes hardly.")
    return lines


def run(arguments: Sequence[str]) -> int:
    """Runs ``plan``; returns the exit status."""
    return report_errors(lambda: call(plan, arguments, overwrite="Replace the file of --write, if there is one."))
