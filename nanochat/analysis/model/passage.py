"""A passage of text, each token coloured by how much it surprised the model."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Rectangle

from nanochat.analysis.figure import Figure, Table
from nanochat.analysis.model.loaded_model import LoadedModel, Passage
from nanochat.analysis.model.token_labels import drawable, token_labels
from nanochat.analysis.style import MONOSPACE, color, hide_axes, subplots, theme

NAME, TITLE, SECTION = "passage", "A passage, coloured by loss", "What it knows"
MOST = 6.0  # nats from which on the colour is the strongest: a probability of 1 in 400
STRONGEST = 0.65  # opacity of the colour behind a token: what is written on it must be readable
COLUMNS = 84  # letters in a line of the picture
LINES = 40  # at most
ORANGE = (222, 98, 28)  # behind dark and behind light letters


class PassageToken(NamedTuple):
    """A token as it is written.

    Attributes:
        text: visible characters; a line end has its sign, and a line end after it.
        nats: its loss; None for what was not asked for.
    """

    text: str
    nats: float | None


def passage_tokens(passage: Passage, names: Sequence[str]) -> list[PassageToken]:
    """The tokens of a passage, each with its loss; the first one has none.

    Args:
        passage: ids and losses.
        names: of each id, as :func:`nanochat.analysis.model.token_labels.label` writes it.
    """
    end = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
    texts = [name.replace("\N{OPEN BOX}", " ").replace(end, end + "\n") for name in names]
    nats = [float(n) if scored else None for n, scored in zip(passage.nats, passage.scored, strict=True)]
    return [PassageToken(text, loss) for text, loss in zip(texts, [None, *nats], strict=True)]


def color_strength(nats: float | None) -> float:
    """How strongly a token is coloured: from 0 for what is certain to 1 from :data:`MOST` nats on."""
    return 0.0 if nats is None else min(max(nats / MOST, 0.0), 1.0)


def as_html(tokens: Sequence[PassageToken]) -> str:
    """The passage as HTML: each token with a colour behind it, and its loss where the pointer rests on it."""
    spans = []
    for token in tokens:
        if token.nats is None:
            spans.append(f'<span style="color:var(--muted)">{html.escape(token.text)}</span>')
            continue
        back = f"rgba({ORANGE[0]},{ORANGE[1]},{ORANGE[2]},{STRONGEST * color_strength(token.nats):.2f})"
        title = f"{token.nats:.2f} nats: {probability_text(token.nats)}"
        spans.append(f'<span style="background:{back}" title="{html.escape(title)}">{html.escape(token.text)}</span>')
    scale = "".join(
        f'<span style="background:rgba({ORANGE[0]},{ORANGE[1]},{ORANGE[2]},{STRONGEST * color_strength(nats):.2f});'
        f'padding:0 .6em">{nats:g}{"+" if nats == MOST else ""}</span>'
        for nats in range(int(MOST) + 1)
    )
    return (
        '<div style="font-family:ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.6">'
        f"{''.join(spans)}</div><p>loss in nats: {scale}</p>"
    )


def probability_text(nats: float) -> str:
    """The probability behind a loss: "87%", "1 in 250"."""
    share = math.exp(-nats)
    return f"{share:.0%}" if share >= 0.095 else f"1 in {math.exp(nats):,.0f}"


def lay_out(tokens: Sequence[PassageToken], columns: int) -> Iterator[tuple[int, int, PassageToken]]:
    """Lines and columns for the parts of a passage in letters of equal width; a part that crosses a line is split."""
    line = column = 0
    for token in tokens:
        for number, rest in enumerate(token.text.split("\n")):
            if number:
                line, column = line + 1, 0
            while rest:
                if column == columns:
                    line, column = line + 1, 0
                now, rest = rest[: columns - column], rest[columns - column :]
                yield line, column, PassageToken(now, token.nats)
                column += len(now)


def figure(loaded: LoadedModel) -> Figure:
    """The passage, as HTML and as a picture."""
    passage, tokenizer = loaded.passage, loaded.model.tokenizer
    names = token_labels(tokenizer, passage.ids)
    tokens = passage_tokens(passage, names)
    drawn = [PassageToken(drawable(token.text), token.nats) for token in tokens]
    placed = [(line, column, token) for line, column, token in lay_out(drawn, COLUMNS) if line < LINES]

    def draw() -> MplFigure:
        lines = placed[-1][0] + 1
        fig, (axes, scale) = subplots(2, 1, height=0.19 * lines + 0.55, height_ratios=(lines, 1.6))
        for each in (axes, scale):
            hide_axes(each)
            each.set_xlim(0, COLUMNS)
        axes.set_ylim(lines, 0)
        scale.set_ylim(1, 0)
        back = color(1)
        for line, column, token in placed:
            axes.add_patch(
                Rectangle(
                    (column, line + 0.04),
                    len(token.text),
                    0.92,
                    color=to_rgba(back, STRONGEST * color_strength(token.nats)),
                )
            )
            ink = theme().muted if token.nats is None else theme().text
            for place, letter in enumerate(token.text):  # each in its own cell, whatever the width of the picture
                if letter != " ":
                    axes.text(
                        column + place + 0.5,
                        line + 0.5,
                        letter,
                        color=ink,
                        ha="center",
                        va="center",
                        fontfamily=MONOSPACE[0],
                        fontsize=9,
                    )
        scale.text(0, 0.65, "loss (nats)", color=theme().muted, fontsize=8, va="center")
        for nats in range(int(MOST) + 1):
            scale.add_patch(
                Rectangle((12 + 6 * nats, 0.3), 6, 0.7, color=to_rgba(back, STRONGEST * color_strength(nats)))
            )
            note = f"{nats}+" if nats == MOST else str(nats)
            scale.text(15 + 6 * nats, 0.65, note, color=theme().text, fontsize=8, ha="center", va="center")
        return fig

    cells = [
        [
            place,
            name,
            None if token.nats is None else round(token.nats, 3),
            None if token.nats is None else probability_text(token.nats),
        ]
        for place, (name, token) in enumerate(zip(names, tokens, strict=True))
    ]
    scored = passage.nats[passage.scored]
    caption = (
        f"The stronger the colour behind a token, the less the model expected it after all that stands before it: none "
        f"is certainty, the strongest is less than {probability_text(MOST)}. This is {passage.description}; "
        f"{scored.mean():.2f} nats per token over {len(scored):,} tokens."
    )
    if not passage.scored.all():
        caption += " What is grey is given, not guessed."
    caption = loaded.with_note(caption) if loaded.options.passage is None else caption
    table = Table(["place", "token", "loss (nats)", "probability"], cells)
    return Figure(NAME, TITLE, caption, draw, table, as_html(tokens), section=SECTION)
