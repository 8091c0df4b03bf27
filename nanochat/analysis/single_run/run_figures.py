"""The figures of one run, and the text at the top of its page."""

from __future__ import annotations

import time

from nanochat.analysis.figure import Figure, FigureSpec, ModelOptions
from nanochat.analysis.history import History
from nanochat.analysis.page import Fact
from nanochat.analysis.single_run import learning_rates, losses, speed
from nanochat.analysis.single_run.other_curves import REINFORCE, other_curves
from nanochat.analysis.single_run.parameters_and_memory import memory, parameters
from nanochat.analysis.units import scientific
from nanochat.training.console import count, duration, size

STAGE_NAMES = {"pretrain": "Pretraining", "chat": "Fine-tuning", REINFORCE: "Reinforcement learning"}
TIMED_STAGES = ("pretrain", "middle", "chat")  # the stages whose steps `step_time` can time


def run_figures(history: History, options: ModelOptions, quick: bool) -> list[FigureSpec]:
    """The figures of a run, in the order of the page.

    Args:
        history: the run's curves.
        options: options of the figures that load the model.
        quick: whether to skip the figures that load the model or time steps.
    """

    def step_time() -> Figure:
        from nanochat.analysis.single_run.step_time import step_time  # imports Lightning, which takes seconds

        return step_time(history, options.device)

    # In reinforcement learning the loss is not that of predictions: its curve is shown with the rewards.
    found = [FigureSpec("loss", "Training loss", lambda: losses.loss(history), "Learning")]
    if history.run.stage == REINFORCE:
        found = other_curves(history)
    title = "Bits per byte, in training and on held-out text"
    found += [
        FigureSpec("bpb", title, lambda: losses.bits_per_byte(history), "Learning"),
        FigureSpec("rates", "Learning rates and gradient norm", lambda: learning_rates.rates(history), "Learning"),
        *(other_curves(history) if history.run.stage != REINFORCE else ()),
    ]
    if not quick:
        from nanochat.analysis.model import model_figures

        found += model_figures(history.run, options)
    found += [
        FigureSpec("speed", "Training speed", lambda: speed.speed(history), "Speed and memory"),
        FigureSpec("run_time", "Where the time of the run went", lambda: speed.run_time(history), "Speed and memory"),
    ]
    if not quick and history.run.stage in TIMED_STAGES:
        found.append(FigureSpec("step_time", "Where the time of a step goes", step_time, "Speed and memory"))
    return [
        *found,
        FigureSpec("parameters", "Parameters and FLOPs by component", lambda: parameters(history), "Speed and memory"),
        FigureSpec("memory", "Peak memory by use", lambda: memory(history), "Speed and memory"),
    ]


def description(history: History) -> str:
    """One line: stage, model, corpus, device and date."""
    run, gpt = history.run, history.gpt
    found = []
    if gpt is not None:
        found.append(f"{gpt.num_parameters:,} parameters ({gpt.config.n_layer} layers, width {gpt.config.n_embd})")
    if corpus := run.summary.get("corpus") or history.setting("data", "corpus"):
        found.append(f"corpus {corpus}")
    if device := run.summary.get("device"):
        found.append(f"{device} in {run.summary.get('precision')}")
    if run.started:
        found.append(time.strftime("%d %B %Y", time.localtime(run.started)).lstrip("0"))
    stage = STAGE_NAMES.get(run.stage, run.stage.capitalize())
    return f"{stage}: {', '.join(found)}." if found else f"{stage}."


def facts(history: History) -> list[Fact]:
    """The numbers at the top of the page."""
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
    if tokens_per_second := summary.get("tokens_per_second"):
        mfu = summary.get("mfu")
        found.append(Fact("speed", f"{tokens_per_second:,.0f} tokens/s", f"{mfu:.0%} MFU" if mfu else ""))
    if peak := summary.get("peak_gpu_memory_bytes") or summary.get("peak_memory_bytes"):
        found.append(Fact("peak memory", size(peak)))
    return found


def warnings(history: History) -> list[str]:
    """Caveats of the run: unfinished training, and damaged files."""
    run, found = history.run, []
    if not run.complete:
        found.append("This run is not finished: it was interrupted, or it is still training.")
    assert history.columns is not None  # reads metrics.csv, which may add to run.problems
    return found + [f"{problem[0].upper()}{problem[1:]}." for problem in run.problems]
