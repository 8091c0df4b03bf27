"""What the model wrote at fixed prompts while it was trained, by step: as TensorBoard's files have kept it."""

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

NAME, TITLE, SECTION = "samples", "What it wrote, as training went on", "What it knows"
TAG = "sample/text_summary"  # what TensorBoard makes of the name that nanochat/training/samples.py gives
INDENT = "    "  # of nanochat.training.console.as_markdown
SHOWN = 10  # steps in the picture
COLUMNS, LINES = 96, 4  # letters and lines of each in the picture


class Sample(NamedTuple):
    """What the model wrote.

    Attributes:
        step: after how many steps.
        text: the prompt and what followed it, or the answer to a question.
        bpb: the bits per byte of that moment; None if they are not known.
    """

    step: int
    text: str
    bpb: float | None


def read_samples(folder: Path) -> dict[int, str]:
    """The texts in a run's TensorBoard files by their steps; where a step was taken again, the later text."""
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
    """The texts with the score of the same validation, which the log has one step earlier: it counts them from 0."""
    steps, values = run.curve("val/bpb")
    scores = {int(step) + 1: value for step, value in zip(steps, values, strict=True)}
    return [Sample(step, text, scores.get(step)) for step, text in texts.items()]


def figure(loaded: LoadedModel) -> Figure:
    """The texts, one below the other."""
    samples = with_scores(loaded.run, read_samples(loaded.run.folder))
    if not samples:
        raise ValueError("the run's TensorBoard files hold no texts that it wrote")
    every = -(-len(samples) // SHOWN)
    shown = [sample for place, sample in enumerate(reversed(samples)) if place % every == 0][::-1]
    blocks = [(sample, wrapped(drawable(sample.text), COLUMNS, LINES)) for sample in shown]

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

    what = "the same question, always answered" if loaded.run.stage in ("chat", "reinforce") else "the same beginning,"
    settings = loaded.run.config.get("samples") or {}
    scored = settings.get("prompt") or settings.get("question")
    quoted = f' ("{scored}")' if scored else ""
    caption = (
        f"After each validation the model was given {what.split(',')[0]}{quoted}, with the same seed: what "
        "changes from line to line is what it has learned. Beside it the bits per byte of the same moment."
    )
    if every > 1:
        caption += f" The picture has every {every}th of {len(samples)} texts, the table all of them."
    cells: list[list[Cell]] = [[s.step, None if s.bpb is None else round(s.bpb, 4), s.text] for s in samples]
    return Figure(NAME, TITLE, caption, draw, Table(["step", "val/bpb", "text"], cells), as_html(samples), SECTION)


def wrapped(text: str, columns: int, most: int) -> list[str]:
    """A text in lines of equal letters, at most so many; what is left out is shown by dots."""
    lines: list[str] = []
    for line in text.strip().split("\n"):
        lines += [line[place : place + columns] for place in range(0, max(len(line), 1), columns)]
    lines = [line for line in lines if line.strip()] or ["(nothing)"]
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][: columns - 3] + "..."]


def as_html(samples: list[Sample]) -> str:
    """All texts as a table, the line ends kept."""
    rows = "".join(
        f'<tr><td style="vertical-align:top;white-space:nowrap">{sample.step:,}</td>'
        f'<td style="vertical-align:top">{"" if sample.bpb is None else f"{sample.bpb:.3f}"}</td>'
        f'<td style="text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;font-family:ui-monospace,monospace">'
        f"{html.escape(sample.text)}</td></tr>"
        for sample in samples
    )
    return f"<table><tr><th>step</th><th>val/bpb</th><th>text</th></tr>{rows}</table>"
