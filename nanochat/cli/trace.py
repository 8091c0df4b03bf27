"""``trace``: one forward pass of a model step by step, and one step of its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nanochat.cli.errors import UsageError, check_free, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import call

PROMPT = "What is a list?"


def trace(
    prompt: str = PROMPT,
    name: str | None = None,
    ckpt_path: str | None = None,
    layer: int = 1,
    train: bool = False,
    text: str | None = None,
    temperature: float | None = None,
    seed: int = 0,
    html: str | None = None,
    overwrite: bool = False,
    root: str = ".",
) -> None:
    """Shows how a model makes the next token of a text: each stage with shapes, numbers, and the code that computes it.

    Args:
        prompt: What the model reads; a chat model reads it as a question.
        name: Of the runs to take the newest model from; null takes the newest of all.
        ckpt_path: The model: a file, a run's folder, or last or best of the newest run.
        layer: The block that is shown in detail, from 1.
        train: Whether to show one step of training as well, on a copy: nothing is saved.
        text: What that step learns: of a base model, a text instead of the prompt; of a chat model, the answer to the
            prompt, instead of the one that it gives itself.
        temperature: At which the next token is drawn; null takes the one that suits the model.
        seed: Of the draws.
        html: A file to write the trace to as well, as a page that needs nothing else.
        overwrite: Whether that file may be replaced.
        root: The folder that lightning_logs is in.
    """
    if not prompt.strip():
        raise UsageError("there is no text in --prompt")
    if text is not None and not train:
        raise UsageError("--text says what a step of training learns: it goes with --train")
    if html is not None:
        check_free(Path(html), "--html", overwrite)
    # not above: --help does not wait for torch
    from nanochat.serving.find_model import resolve_checkpoint
    from nanochat.serving.model import load
    from nanochat.tracing.terminal import new_console, show
    from nanochat.tracing.trace_model import TraceOptions, title, trace_model

    path = resolve_checkpoint(ckpt_path, name, root, program_name())
    asked = TraceOptions(prompt, layer, temperature, seed, train, text)
    model = load(path)
    parts = trace_model(model, asked)
    console = new_console()
    lines = title(model, asked)
    for line in lines:
        console.print(line, markup=False, style="bold" if line is lines[0] else "")
    show(console, parts)
    if html is not None:
        from nanochat.tracing.page import write_page

        write_page(Path(html), lines, parts)
        console.print(f"\nWritten to {html}", markup=False)


def run(arguments: Sequence[str]) -> int:
    """Runs ``trace``; returns the exit status."""
    flags = {
        "train": "Show one step of training as well, on a copy: nothing is saved.",
        "overwrite": "Replace the file of --html, if there is one.",
    }
    return report_errors(lambda: call(trace, arguments, **flags))
