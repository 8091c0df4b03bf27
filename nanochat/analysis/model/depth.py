"""What each layer would already answer: for one text, and as the mean loss over many."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure as Picture
from matplotlib.patches import Rectangle

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.attention import spread
from nanochat.analysis.model.labels import drawable, label, labels, shortened
from nanochat.analysis.model.lens import logits_by_depth, loss_by_depth
from nanochat.analysis.model.subject import Chosen, Subject, sentence
from nanochat.analysis.style import MONOSPACE, blank, canvas, color, readable_on, theme

SECTION = "Inside the model"
LENS, LENS_TITLE = "logit_lens", "What each layer would already answer"
DEPTH, DEPTH_TITLE = "loss_by_depth", "How far the model has come after each layer"
PLACES = 13  # of the text
LINES = 13  # layers that are shown at most
SHARE = 0.2  # of the tokens that one pass may read


def _depth_name(depth: int) -> str:
    return f"after layer {depth}" if depth else "embedding"


def lens(subject: Subject) -> Figure:
    """The likeliest token after each layer, at each place of a text."""
    tokenizer = subject.model.tokenizer
    ids, words = sentence(subject, PLACES + 1)
    if not subject.passage.asked.all() and subject.options.passage is None:  # the beginning of an answer
        begin = int(subject.passage.asked.argmax())
        ids = torch.from_numpy(subject.passage.ids[: begin + PLACES + 1])
        words = f"Where the answer begins in {subject.passage.words}."
    places = range(max(0, len(ids) - 1 - PLACES), len(ids) - 1)
    logits = logits_by_depth(subject.gpt, ids[None, :-1].to(subject.options.device))[:, 0]
    chances = logits.softmax(-1)[:, places.start :]  # (depth + 1, places, vocabulary)
    best, which = chances.topk(3)
    depths = spread(len(chances), LINES)
    targets = ids[places.start + 1 :].tolist()

    def draw() -> Picture:
        lines, columns = len(depths), len(targets)
        picture, axes = canvas(width=0.72 * columns + 1.4, height=0.34 * (lines + 3) + 0.3)
        blank(axes)
        axes.set_xlim(-1.9, columns)
        axes.set_ylim(-1.6, lines + 0.9)
        write = dict(ha="center", va="center", fontfamily=MONOSPACE[0], fontsize=9.5)
        for line, depth in enumerate(depths):
            note = dict(ha="right", va="center", fontsize=9.5, color=theme().muted)
            axes.text(-0.1, line + 0.5, _depth_name(depth), **note)
            for column, target in enumerate(targets):
                share, token = float(best[depth, column, 0]), int(which[depth, column, 0])
                back = theme().from_nothing(share)
                right = token == target
                box = Rectangle((column + 0.03, line + 0.05), 0.94, 0.9, facecolor=back)
                if right:
                    box.set(edgecolor=color(2), linewidth=2.2)
                axes.add_patch(box)
                text = drawable(shortened(label(tokenizer, token), 8))
                weight = "bold" if right else "normal"
                axes.text(column + 0.5, line + 0.5, text, color=readable_on(back), weight=weight, **write)
        for column, (before, target) in enumerate(zip(ids[places.start : -1].tolist(), targets, strict=True)):
            names = [drawable(shortened(label(tokenizer, token), 8)) for token in (before, target)]
            axes.text(column + 0.5, -0.4, names[0], color=theme().text, **write)
            axes.text(column + 0.5, lines + 0.4, names[1], color=color(2), weight="bold", **write)
        for y, text in ((-0.4, "read"), (lines + 0.4, "what follows")):
            axes.text(-0.1, y, text, ha="right", va="center", fontsize=9.5, color=theme().text)
        for place in range(11):  # the scale
            axes.add_patch(Rectangle((2 + 0.4 * place, -1.5), 0.4, 0.4, facecolor=theme().from_nothing(place / 10)))
        for x, text, side in ((1.9, "probability 0", "right"), (6.5, "1", "left")):
            axes.text(x, -1.3, text, ha=side, va="center", fontsize=9, color=theme().muted)
        return picture

    cells: list[list[Cell]] = []
    for column, target in enumerate(targets):
        for depth in range(len(chances)):
            tops = [
                f"{label(tokenizer, int(token))} {float(share):.0%}"
                for share, token in zip(best[depth, column], which[depth, column], strict=True)
            ]
            read = labels(tokenizer, ids[places.start + column][None].tolist())[0]
            mine = round(float(chances[depth, column, target]), 4)
            cells.append([column + 1, read, _depth_name(depth), *tops, label(tokenizer, target), mine])
    reading = (
        "From bottom to top, the token that the model would hold for the likeliest if its head were asked after each "
        "layer (its last norm and soft cap included; the top line is its answer). The stronger the colour, the surer "
        "it is; framed is what really follows. Below, the token that has just been read. "
        f"{_layers(len(chances), len(depths))}{words}"
    )
    columns_ = ["place", "read", "depth", "1st", "2nd", "3rd", "what follows", "its probability"]
    reading = subject.remarked(reading) if subject.options.passage is None else reading
    return Figure(LENS, LENS_TITLE, reading, draw, Table(columns_, cells), section=SECTION)


def _layers(all_: int, shown: int) -> str:
    return "" if shown == all_ else f"Of {all_ - 1} layers, evenly spread ones are shown. "


def by_depth(subject: Subject) -> Figure:
    """The mean loss of held-out tokens if the head is asked after each layer."""
    rows = subject.text.rows
    chosen = Chosen(rows, range(rows.first(subject.tokens(SHARE))))
    losses, tokens = loss_by_depth(subject.gpt, chosen, subject.model.tokenizer.bos)
    nothing = math.log(subject.gpt.vocab_size)
    names = ["embedding", *(str(depth) for depth in range(1, len(losses)))]

    def draw() -> Picture:
        picture, axes = canvas()
        axes.plot(range(len(losses)), losses, "o-", color=color(0))
        axes.axhline(nothing, color=theme().muted, linestyle="--", linewidth=1.2)
        note = dict(color=theme().muted, fontsize=9, ha="right", va="bottom", textcoords="offset points")
        axes.annotate("all tokens equally likely", (len(losses) - 1, nothing), (0, 3), **note)
        if len(losses) <= 14:
            for depth, value in enumerate(losses.tolist()):
                above = dict(textcoords="offset points", ha="center", fontsize=9)
                axes.annotate(f"{value:.2f}", (depth, value), (0, 7), color=theme().text, **above)
        ticks = spread(len(losses), 14)
        axes.set_xticks(ticks, [names[tick] for tick in ticks])
        axes.set_xlabel("the head is asked after layer")
        axes.set_ylabel("loss (nats per token)")
        axes.set_ylim(0, max(nothing, float(losses.max())) * 1.12)
        return picture

    reading = (
        "The mean loss on held-out text if the model ended after each layer, its last norm and soft cap included: how "
        "much of the answer is there by then. The last point is the model's own loss. Early layers are not trained to "
        f"be read like this, and may write what only later ones understand. {tokens:,} tokens of {subject.text.words}."
    )
    cells: list[list[Cell]] = [[_depth_name(depth), round(float(value), 4)] for depth, value in enumerate(losses)]
    table = Table(["depth", "loss (nats/token)"], cells)
    return Figure(DEPTH, DEPTH_TITLE, subject.remarked(reading), draw, table, section=SECTION)
