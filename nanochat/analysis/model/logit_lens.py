"""Figures of the logit lens: the prediction after each layer for one text, and the mean loss over many."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Rectangle

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.held_out_losses import HeldOutSubset
from nanochat.analysis.model.loaded_model import LoadedModel, sentence
from nanochat.analysis.model.residual_stream import logits_by_depth, mean_loss_by_depth
from nanochat.analysis.model.token_labels import drawable, shortened, token_label
from nanochat.analysis.style import MONOSPACE, color, evenly_spaced, hide_axes, readable_on, subplots, theme

SECTION = "Inside the model"
LENS, LENS_TITLE = "logit_lens", "Logit lens: the prediction after each layer"
DEPTH, DEPTH_TITLE = "loss_by_depth", "Loss after each layer"
MAX_PREDICTIONS = 13  # columns
MAX_LINES = 13  # layers that are shown
FRACTION = 0.2  # of the token budget, as the head is applied after every layer


def _depth_name(depth: int) -> str:
    return f"after layer {depth}" if depth else "embedding"


def logit_lens(loaded: LoadedModel) -> Figure:
    """The most likely token after each layer, at each position of a text."""
    tokenizer = loaded.model.tokenizer
    ids, description = sentence(loaded, MAX_PREDICTIONS + 1)
    if not loaded.passage.scored.all() and loaded.options.passage is None:
        start = int(loaded.passage.scored.argmax())
        ids = torch.from_numpy(loaded.passage.ids[: start + MAX_PREDICTIONS + 1])
        description = f"The text: the start of the answer in {loaded.passage.description}."
    positions = range(max(0, len(ids) - 1 - MAX_PREDICTIONS), len(ids) - 1)
    logits = logits_by_depth(loaded.gpt, ids[None, :-1].to(loaded.options.device))[:, 0]
    probabilities = logits.softmax(-1)[:, positions.start :]  # (n_layer + 1, predictions, vocabulary)
    top_probabilities, top_tokens = probabilities.topk(3)
    depths = evenly_spaced(len(probabilities), MAX_LINES)
    inputs = ids[positions.start : -1].tolist()
    targets = ids[positions.start + 1 :].tolist()

    def draw() -> MplFigure:
        lines, columns = len(depths), len(targets)
        fig, axes = subplots(width=0.72 * columns + 1.4, height=0.34 * (lines + 3) + 0.3)
        hide_axes(axes)
        axes.set_xlim(-1.9, columns)
        axes.set_ylim(-1.6, lines + 0.9)
        style = dict(ha="center", va="center", fontfamily=MONOSPACE[0], fontsize=9.5)
        for line, depth in enumerate(depths):
            note = dict(ha="right", va="center", fontsize=9.5, color=theme().muted)
            axes.text(-0.1, line + 0.5, _depth_name(depth), **note)
            for column, target in enumerate(targets):
                probability = float(top_probabilities[depth, column, 0])
                token = int(top_tokens[depth, column, 0])
                background = theme().sequential_map(probability)
                correct = token == target
                box = Rectangle((column + 0.03, line + 0.05), 0.94, 0.9, facecolor=background)
                if correct:
                    box.set(edgecolor=color(2), linewidth=2.2)
                axes.add_patch(box)
                text = drawable(shortened(token_label(tokenizer, token), 8))
                weight = "bold" if correct else "normal"
                axes.text(column + 0.5, line + 0.5, text, color=readable_on(background), weight=weight, **style)
        for column, (token, target) in enumerate(zip(inputs, targets, strict=True)):
            names = [drawable(shortened(token_label(tokenizer, each), 8)) for each in (token, target)]
            axes.text(column + 0.5, -0.4, names[0], color=theme().text, **style)
            axes.text(column + 0.5, lines + 0.4, names[1], color=color(2), weight="bold", **style)
        for y, text in ((-0.4, "input"), (lines + 0.4, "target")):
            axes.text(-0.1, y, text, ha="right", va="center", fontsize=9.5, color=theme().text)
        for step in range(11):  # the colour scale
            axes.add_patch(Rectangle((2 + 0.4 * step, -1.5), 0.4, 0.4, facecolor=theme().sequential_map(step / 10)))
        for x, text, side in ((1.9, "probability 0", "right"), (6.5, "1", "left")):
            axes.text(x, -1.3, text, ha=side, va="center", fontsize=9, color=theme().muted)
        return fig

    cells: list[list[Cell]] = []
    for column, (token, target) in enumerate(zip(inputs, targets, strict=True)):
        for depth in range(len(probabilities)):
            top = [
                f"{token_label(tokenizer, int(candidate))} {float(probability):.0%}"
                for probability, candidate in zip(
                    top_probabilities[depth, column], top_tokens[depth, column], strict=True
                )
            ]
            target_probability = round(float(probabilities[depth, column, target]), 4)
            names = [token_label(tokenizer, each) for each in (token, target)]
            cells.append([column + 1, names[0], _depth_name(depth), *top, names[1], target_probability])
    caption = (
        "From bottom to top: the most likely next token if the output head is applied after each layer, with the "
        "model's last norm and soft cap. The top line is the model's prediction. A stronger colour is a higher "
        "probability; a frame marks the correct token. "
        f"{_selection(len(probabilities) - 1, len(depths) - 1)}{description}"
    )
    columns = ["prediction", "input", "depth", "1st", "2nd", "3rd", "target", "probability of the target"]
    caption = loaded.with_note(caption) if loaded.options.passage is None else caption
    return Figure(LENS, LENS_TITLE, caption, draw, Table(columns, cells), section=SECTION)


def _selection(layers: int, shown: int) -> str:
    return "" if shown == layers else f"{shown} of {layers} layers are shown, evenly spaced. "


def loss_by_depth(loaded: LoadedModel) -> Figure:
    """The mean loss on held-out text if the output head is applied after each layer."""
    rows = loaded.text.rows
    subset = HeldOutSubset(rows, range(rows.first(loaded.token_budget(FRACTION))))
    losses, tokens = mean_loss_by_depth(loaded.gpt, subset, loaded.model.tokenizer.bos)
    uniform_loss = math.log(loaded.gpt.vocab_size)
    names = ["embedding", *(str(depth) for depth in range(1, len(losses)))]

    def draw() -> MplFigure:
        fig, axes = subplots()
        axes.plot(range(len(losses)), losses, "o-", color=color(0))
        axes.axhline(uniform_loss, color=theme().muted, linestyle="--", linewidth=1.2)
        note = dict(color=theme().muted, fontsize=9, ha="right", va="bottom", textcoords="offset points")
        axes.annotate("uniform prediction", (len(losses) - 1, uniform_loss), (0, 3), **note)
        if len(losses) <= 14:
            for depth, value in enumerate(losses.tolist()):
                above = dict(textcoords="offset points", ha="center", fontsize=9)
                axes.annotate(f"{value:.2f}", (depth, value), (0, 7), color=theme().text, **above)
        ticks = evenly_spaced(len(losses), 14)
        axes.set_xticks(ticks, [names[tick] for tick in ticks])
        axes.set_xlabel("output head applied after layer")
        axes.set_ylabel("loss (nats per token)")
        axes.set_ylim(0, max(uniform_loss, float(losses.max())) * 1.12)
        return fig

    caption = (
        "The mean loss on held-out text if the output head is applied after each layer, with the model's last norm "
        "and soft cap. The last point is the model's own loss. Early layers are not trained for this: they may write "
        "features that only later layers read, so the loss may rise at first. "
        f"{tokens:,} tokens of {loaded.text.description}."
    )
    cells: list[list[Cell]] = [[_depth_name(depth), round(float(value), 4)] for depth, value in enumerate(losses)]
    table = Table(["depth", "loss (nats/token)"], cells)
    return Figure(DEPTH, DEPTH_TITLE, loaded.with_note(caption), draw, table, section=SECTION)
