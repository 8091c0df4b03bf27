"""``trace``: explains one forward pass of a model step by step, and one training step."""

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
    """Explains how a model predicts the next token: each operation with its shapes, values and source code.

    Args:
        prompt: The text that the model reads; for a chat model, the user's message.
        name: Take the newest model of the runs with this name; null takes the newest of all.
        ckpt_path: The model: a checkpoint file, a run's folder, or last or best of the newest run.
        layer: The block to explain in detail, from 1.
        train: Whether to add one training step, on a copy of the model; nothing is saved.
        text: The text for the training step; null takes the prompt. For a chat model, the answer to the prompt; null
            takes the model's own answer.
        temperature: Sampling temperature for the next token; null takes the model's default.
        seed: Random seed of the sampling.
        html: Also write the trace to this file, as a self-contained HTML page.
        overwrite: Whether to replace an existing HTML file.
        root: The folder that contains lightning_logs.
    """
    if not prompt.strip():
        raise UsageError("--prompt is empty: give some text")
    if text is not None and not train:
        raise UsageError("--text is the text for the training step: add --train")
    if html is not None:
        check_free(Path(html), "--html", overwrite)
    # imported here, so that --help does not wait for torch
    from nanochat.serving.find_model import resolve_checkpoint
    from nanochat.serving.model import load
    from nanochat.tracing.terminal import new_console, show
    from nanochat.tracing.trace_model import TraceOptions, heading, trace_model

    path = resolve_checkpoint(ckpt_path, name, root, program_name())
    options = TraceOptions(prompt, layer, temperature, seed, train, text)
    model = load(path)
    chapters = trace_model(model, options)
    console = new_console()
    title, *description = heading(model, options)
    console.print(title, markup=False, style="bold")
    for line in description:
        console.print(line, markup=False)
    show(console, chapters)
    if html is not None:
        from nanochat.tracing.page import write_page

        write_page(Path(html), [title, *description], chapters)
        console.print(f"\nWritten to {html}", markup=False)


def run(arguments: Sequence[str]) -> int:
    """Runs ``trace``; returns the exit status."""
    flags = {
        "train": "Add one training step, on a copy of the model; nothing is saved.",
        "overwrite": "Replace an existing HTML file.",
    }
    return report_errors(lambda: call(trace, arguments, **flags))
