"""The figure of the texts that the model generated during training, read from the run's TensorBoard events."""

from __future__ import annotations

import html
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure as MplFigure

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.analysis.model.token_labels import drawable
from nanochat.analysis.style import MONOSPACE, hide_axes, subplots, theme
from nanochat.runs import EVENTS, Run

NAME, TITLE, SECTION = "samples", "Samples during training", "Predictions"
TAG = "sample/text_summary"  # the tag of the text "sample" of nanochat/training/callbacks/samples.py
INDENT = "    "  # of nanochat.training.console.as_markdown
MAX_SAMPLES = 10  # in the drawn figure
COLUMNS, MAX_LINES = 96, 4  # characters per line, and lines per sample, in the drawn figure


class Sample(NamedTuple):
    """A text that the model generated.

    Attributes:
        step: number of completed steps.
        text: the prompt and its continuation, or the answer to a question.
        bpb: bits per byte of the validation at that step; None if not known.
    """

    step: int
    text: str
    bpb: float | None


def read_samples(folder: Path) -> dict[int, str]:
    """The samples in a run's TensorBoard files, by step; if a resumed run repeated a step, its later sample."""
    from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
        EventFileLoader,
    )

    found: dict[int, str] = {}
    files = [path for path in folder.iterdir() if EVENTS.match(path.name)]
    for path in sorted(files, key=lambda path: path.name):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == TAG and value.tensor.string_val:
                    text = value.tensor.string_val[0].decode("utf-8", errors="replace")
                    found[event.step] = "\n".join(line.removeprefix(INDENT) for line in text.split("\n"))
    return dict(sorted(found.items()))


def with_scores(run: Run, texts: dict[int, str]) -> list[Sample]:
    """The samples with the score of the same validation. (metrics.csv counts steps from 0, samples from 1.)"""
    steps, values = run.curve("val/bpb")
    scores = {int(step) + 1: value for step, value in zip(steps, values, strict=True)}
    return [Sample(step, text, scores.get(step)) for step, text in texts.items()]


def figure(loaded: LoadedModel) -> Figure:
    """The samples, one below the other."""
    run = loaded.run
    samples = with_scores(run, read_samples(run.folder))
    if not samples:
        raise ValueError("the run's TensorBoard files contain no samples")
    stride = -(-len(samples) // MAX_SAMPLES)
    shown = samples[::-1][::stride][::-1]
    blocks = [(sample, wrapped(drawable(sample.text), COLUMNS, MAX_LINES)) for sample in shown]

    def draw() -> MplFigure:
        heights = [max(len(lines), 2) + 1.0 for _, lines in blocks]
        fig, axes = subplots(width=8.4, height=0.185 * sum(heights) + 0.2)
        hide_axes(axes)
        axes.set_xlim(0, 100)
        axes.set_ylim(sum(heights), 0)
        top = 0.2
        for (sample, lines), height in zip(blocks, heights, strict=True):
            axes.text(13, top, f"step {sample.step:,}", ha="right", va="top", fontsize=9, weight="bold")
            if sample.bpb is not None:
                note = f"{sample.bpb:.3f} bpb"
                axes.text(13, top + 1.1, note, ha="right", va="top", fontsize=8.5, color=theme().muted)
            for number, line in enumerate(lines):
                axes.text(16, top + number, line, va="top", fontsize=8.5, fontfamily=MONOSPACE[0])
            axes.axhline(top + height - 0.55, color=theme().grid, linewidth=0.8)
            top += height
        return fig

    noun = "question" if run.stage in ("chat", "reinforce") else "prompt"
    settings = run.config.get("samples") or {}
    prompt = settings.get("prompt") or settings.get("question")
    quoted = f' ("{prompt}")' if prompt else ""
    caption = (
        f"After each validation, the model generated a text from the same {noun}{quoted} with the same random seed, so "
        "differences between the texts come from training. On the left: the step, and the bits per byte of that "
        "validation."
    )
    if stride > 1:
        caption += f" The figure shows one in {stride} of {len(samples)} texts, the table all of them."
    cells: list[list[Cell]] = [[s.step, None if s.bpb is None else round(s.bpb, 4), s.text] for s in samples]
    return Figure(NAME, TITLE, caption, draw, Table(["step", "val/bpb", "text"], cells), as_html(samples), SECTION)


def wrapped(text: str, columns: int, max_lines: int) -> list[str]:
    """A text in lines of at most ``columns`` characters; if it has more than ``max_lines``, the last ends with dots."""
    lines: list[str] = []
    for line in text.strip().split("\n"):
        lines += [line[start : start + columns] for start in range(0, max(len(line), 1), columns)]
    lines = [line for line in lines if line.strip()] or ["(empty)"]
    return lines if len(lines) <= max_lines else [*lines[: max_lines - 1], lines[max_lines - 1][: columns - 3] + "..."]


def as_html(samples: list[Sample]) -> str:
    """All samples as an HTML table, with their line breaks."""
    rows = "".join(
        f'<tr><td style="vertical-align:top;white-space:nowrap">{sample.step:,}</td>'
        f'<td style="vertical-align:top">{"" if sample.bpb is None else f"{sample.bpb:.3f}"}</td>'
        f'<td style="text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;font-family:ui-monospace,monospace">'
        f"{html.escape(sample.text)}</td></tr>"
        for sample in samples
    )
    return f"<table><tr><th>step</th><th>val/bpb</th><th>text</th></tr>{rows}</table>"
