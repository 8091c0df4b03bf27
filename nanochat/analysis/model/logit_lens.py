"""What each layer would already answer: for one text, and as the mean loss over many."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Rectangle

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.attention import evenly_spaced
from nanochat.analysis.model.loaded_model import HeldOutSubset, LoadedModel, sentence
from nanochat.analysis.model.residual_stream import logits_by_depth, mean_loss_by_depth
from nanochat.analysis.model.token_labels import drawable, shortened, token_label, token_labels
from nanochat.analysis.style import MONOSPACE, color, hide_axes, readable_on, subplots, theme

SECTION = "Inside the model"
LENS, LENS_TITLE = "logit_lens", "What each layer would already answer"
DEPTH, DEPTH_TITLE = "loss_by_depth", "How far the model has come after each layer"
POSITIONS = 13  # of the text
LINES = 13  # layers that are shown at most
SHARE = 0.2  # of the tokens that one pass may read


def _depth_name(depth: int) -> str:
    return f"after layer {depth}" if depth else "embedding"


def logit_lens(loaded: LoadedModel) -> Figure:
    """The likeliest token after each layer, at each place of a text."""
    tokenizer = loaded.model.tokenizer
    ids, description = sentence(loaded, POSITIONS + 1)
    if not loaded.passage.scored.all() and loaded.options.passage is None:  # the beginning of an answer
        begin = int(loaded.passage.scored.argmax())
        ids = torch.from_numpy(loaded.passage.ids[: begin + POSITIONS + 1])
        description = f"Where the answer begins in {loaded.passage.description}."
    positions = range(max(0, len(ids) - 1 - POSITIONS), len(ids) - 1)
    logits = logits_by_depth(loaded.gpt, ids[None, :-1].to(loaded.options.device))[:, 0]
    chances = logits.softmax(-1)[:, positions.start :]  # (depth + 1, places, vocabulary)
    best, which = chances.topk(3)
    depths = evenly_spaced(len(chances), LINES)
    targets = ids[positions.start + 1 :].tolist()

    def draw() -> MplFigure:
        lines, columns = len(depths), len(targets)
        fig, axes = subplots(width=0.72 * columns + 1.4, height=0.34 * (lines + 3) + 0.3)
        hide_axes(axes)
        axes.set_xlim(-1.9, columns)
        axes.set_ylim(-1.6, lines + 0.9)
        write = dict(ha="center", va="center", fontfamily=MONOSPACE[0], fontsize=9.5)
        for line, depth in enumerate(depths):
            note = dict(ha="right", va="center", fontsize=9.5, color=theme().muted)
            axes.text(-0.1, line + 0.5, _depth_name(depth), **note)
            for column, target in enumerate(targets):
                share, token = float(best[depth, column, 0]), int(which[depth, column, 0])
                back = theme().sequential_map(share)
                right = token == target
                box = Rectangle((column + 0.03, line + 0.05), 0.94, 0.9, facecolor=back)
                if right:
                    box.set(edgecolor=color(2), linewidth=2.2)
                axes.add_patch(box)
                text = drawable(shortened(token_label(tokenizer, token), 8))
                weight = "bold" if right else "normal"
                axes.text(column + 0.5, line + 0.5, text, color=readable_on(back), weight=weight, **write)
        for column, (before, target) in enumerate(zip(ids[positions.start : -1].tolist(), targets, strict=True)):
            names = [drawable(shortened(token_label(tokenizer, token), 8)) for token in (before, target)]
            axes.text(column + 0.5, -0.4, names[0], color=theme().text, **write)
            axes.text(column + 0.5, lines + 0.4, names[1], color=color(2), weight="bold", **write)
        for y, text in ((-0.4, "read"), (lines + 0.4, "what follows")):
            axes.text(-0.1, y, text, ha="right", va="center", fontsize=9.5, color=theme().text)
        for place in range(11):  # the scale
            axes.add_patch(Rectangle((2 + 0.4 * place, -1.5), 0.4, 0.4, facecolor=theme().sequential_map(place / 10)))
        for x, text, side in ((1.9, "probability 0", "right"), (6.5, "1", "left")):
            axes.text(x, -1.3, text, ha=side, va="center", fontsize=9, color=theme().muted)
        return fig

    cells: list[list[Cell]] = []
    for column, target in enumerate(targets):
        for depth in range(len(chances)):
            tops = [
                f"{token_label(tokenizer, int(token))} {float(share):.0%}"
                for share, token in zip(best[depth, column], which[depth, column], strict=True)
            ]
            read = token_labels(tokenizer, ids[positions.start + column][None].tolist())[0]
            mine = round(float(chances[depth, column, target]), 4)
            cells.append([column + 1, read, _depth_name(depth), *tops, token_label(tokenizer, target), mine])
    caption = (
        "From bottom to top, the token that the model would hold for the likeliest if its head were asked after each "
        "layer (its last norm and soft cap included; the top line is its answer). The stronger the colour, the surer "
        "it is; framed is what really follows. Below, the token that has just been read. "
        f"{_layers(len(chances), len(depths))}{description}"
    )
    columns_ = ["place", "read", "depth", "1st", "2nd", "3rd", "what follows", "its probability"]
    caption = loaded.with_note(caption) if loaded.options.passage is None else caption
    return Figure(LENS, LENS_TITLE, caption, draw, Table(columns_, cells), section=SECTION)


def _layers(all_: int, shown: int) -> str:
    return "" if shown == all_ else f"Of {all_ - 1} layers, evenly spread ones are shown. "


def loss_by_depth(loaded: LoadedModel) -> Figure:
    """The mean loss of held-out tokens if the head is asked after each layer."""
    rows = loaded.text.rows
    chosen = HeldOutSubset(rows, range(rows.first(loaded.tokens(SHARE))))
    losses, tokens = mean_loss_by_depth(loaded.gpt, chosen, loaded.model.tokenizer.bos)
    nothing = math.log(loaded.gpt.vocab_size)
    names = ["embedding", *(str(depth) for depth in range(1, len(losses)))]

    def draw() -> MplFigure:
        fig, axes = subplots()
        axes.plot(range(len(losses)), losses, "o-", color=color(0))
        axes.axhline(nothing, color=theme().muted, linestyle="--", linewidth=1.2)
        note = dict(color=theme().muted, fontsize=9, ha="right", va="bottom", textcoords="offset points")
        axes.annotate("all tokens equally likely", (len(losses) - 1, nothing), (0, 3), **note)
        if len(losses) <= 14:
            for depth, value in enumerate(losses.tolist()):
                above = dict(textcoords="offset points", ha="center", fontsize=9)
                axes.annotate(f"{value:.2f}", (depth, value), (0, 7), color=theme().text, **above)
        ticks = evenly_spaced(len(losses), 14)
        axes.set_xticks(ticks, [names[tick] for tick in ticks])
        axes.set_xlabel("the head is asked after layer")
        axes.set_ylabel("loss (nats per token)")
        axes.set_ylim(0, max(nothing, float(losses.max())) * 1.12)
        return fig

    caption = (
        "The mean loss on held-out text if the model ended after each layer, its last norm and soft cap included: how "
        "much of the answer is there by then. The last point is the model's own loss. Early layers are not trained to "
        f"be read like this, and may write what only later ones understand. "
        f"{tokens:,} tokens of {loaded.text.description}."
    )
    cells: list[list[Cell]] = [[_depth_name(depth), round(float(value), 4)] for depth, value in enumerate(losses)]
    table = Table(["depth", "loss (nats/token)"], cells)
    return Figure(DEPTH, DEPTH_TITLE, loaded.with_note(caption), draw, table, section=SECTION)
