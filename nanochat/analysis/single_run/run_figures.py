"""All figures of one run, and what stands above them in its page."""

from __future__ import annotations

import time

from nanochat.analysis.figure import Figure, FigureSpec, ModelOptions
from nanochat.analysis.history import History
from nanochat.analysis.page import Fact
from nanochat.analysis.single_run import learning_rates, losses, parameters_and_memory, speed
from nanochat.analysis.single_run.other_curves import REINFORCE, other_curves
from nanochat.analysis.units import scientific
from nanochat.training.console import count, duration, size

WHAT = {"pretrain": "Pretraining", "chat": "Fine-tuning", REINFORCE: "Reinforcement learning"}
TRAINED_ON_TOKENS = ("pretrain", "middle", "chat")  # the stages whose steps `step_time` can take


def run_figures(history: History, options: ModelOptions, quick: bool) -> list[FigureSpec]:
    """The figures of a run, in the order of the page.

    Args:
        history: of the run.
        options: for those that need the model.
        quick: leaves out those that need the model or take steps with it.
    """

    def step_time() -> Figure:
        from nanochat.analysis.single_run.step_time import step_time  # Lightning: seconds to import

        return step_time(history, options.device)

    found = [FigureSpec("loss", "The loss falls as the model learns", lambda: losses.loss(history), "Learning")]
    if history.run.stage == REINFORCE:
        found = other_curves(history)  # its loss is none of a prediction
    found += [
        FigureSpec("bpb", "Bits per byte, held out and in training", lambda: losses.bits_per_byte(history), "Learning"),
        FigureSpec(
            "rates",
            "Learning rates and the gradient's length",
            lambda: learning_rates.learning_rates(history),
            "Learning",
        ),
        *(other_curves(history) if history.run.stage != REINFORCE else ()),
    ]
    if not quick:
        from nanochat.analysis.model import model_figures

        found += model_figures(history.run, options)
    found += [
        FigureSpec("speed", "How fast it trained", lambda: speed.speed(history), "Speed and memory"),
        FigureSpec("run_time", "Where the time of the run went", lambda: speed.run_time(history), "Speed and memory"),
    ]
    if not quick and history.run.stage in TRAINED_ON_TOKENS:
        found.append(FigureSpec("step_time", "Where the time of a step goes", step_time, "Speed and memory"))
    return [
        *found,
        FigureSpec(
            "parameters", "Parameters by part", lambda: parameters_and_memory.parameters(history), "Speed and memory"
        ),
        FigureSpec(
            "memory",
            "What the memory was taken up by",
            lambda: parameters_and_memory.memory(history),
            "Speed and memory",
        ),
    ]


def description(history: History) -> str:
    """What the run was, in a sentence or two."""
    run, gpt = history.run, history.gpt
    words = [WHAT.get(run.stage, run.stage.capitalize())]
    if gpt is not None:
        words.append(f"of {gpt.num_parameters:,} parameters ({gpt.config.n_layer} layers, {gpt.config.n_embd} wide)")
    if corpus := run.summary.get("corpus") or history.setting("data", "corpus"):
        words.append(f"from {corpus}" if run.stage == "pretrain" else f"with {corpus}")
    if device := run.summary.get("device"):
        words.append(f"on {device} in {run.summary.get('precision')}")
    date = time.strftime("%d %B %Y", time.localtime(run.started)).lstrip("0") if run.started else ""
    return " ".join(words) + (f", {date}." if date else ".")


def facts(history: History) -> list[Fact]:
    """The numbers at the head of the page."""
    summary, found = history.run.summary, []
    if history.bpb is not None:
        note = f"on {'all' if len(history.curve('val/bpb_all').x) else 'a part of the'} held-out text"
        found.append(Fact("bits per byte", f"{history.bpb:.4f}", note))
    if history.steps is not None:
        found.append(Fact("steps", f"{history.steps:,}"))
    if history.tokens:
        found.append(Fact("tokens", count(history.tokens)))
    if history.flops:
        found.append(Fact("compute", f"{scientific(history.flops)} FLOPs"))
    if seconds := summary.get("seconds"):
        found.append(Fact("time", duration(seconds)))
    if speed := summary.get("tokens_per_second"):
        mfu = summary.get("mfu")
        found.append(Fact("speed", f"{speed:,.0f} tokens/s", f"{mfu:.0%} of the machine's peak" if mfu else ""))
    if memory := summary.get("peak_gpu_memory_bytes") or summary.get("peak_memory_bytes"):
        found.append(Fact("memory", size(memory)))
    return found


def warnings(history: History) -> list[str]:
    """What a reader of the page must know about the run."""
    run, found = history.run, []
    if not run.complete:
        found.append("This run has not come to its end: it was interrupted, or it is still training.")
    assert history.columns is not None  # they have been read, and damage was found
    return found + [f"{problem[0].upper()}{problem[1:]}." for problem in run.problems]
