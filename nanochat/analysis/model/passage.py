"""A passage of text, each token coloured by how much it surprised the model."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Picture
from matplotlib.patches import Rectangle

from nanochat.analysis.figure import Figure, Table
from nanochat.analysis.model.labels import drawable, labels
from nanochat.analysis.model.subject import Passage, Subject
from nanochat.analysis.style import MONOSPACE, blank, canvas, color, theme

NAME, TITLE, SECTION = "passage", "A passage, coloured by loss", "What it knows"
MOST = 6.0  # nats from which on the colour is the strongest: a probability of 1 in 400
STRONGEST = 0.65  # opacity of the colour behind a token: what is written on it must be readable
COLUMNS = 84  # letters in a line of the picture
LINES = 40  # at most
ORANGE = (222, 98, 28)  # behind dark and behind light letters


class Piece(NamedTuple):
    """A token as it is written.

    Attributes:
        text: visible characters; a line end has its sign, and a line end after it.
        nats: its loss; None for what was not asked for.
    """

    text: str
    nats: float | None


def pieces(passage: Passage, names: Sequence[str]) -> list[Piece]:
    """The tokens of a passage, each with its loss; the first one has none.

    Args:
        passage: ids and losses.
        names: of each id, as :func:`nanochat.analysis.model.labels.label` writes it.
    """
    end = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
    texts = [name.replace("\N{OPEN BOX}", " ").replace(end, end + "\n") for name in names]
    nats = [float(n) if asked else None for n, asked in zip(passage.nats, passage.asked, strict=True)]
    return [Piece(text, loss) for text, loss in zip(texts, [None, *nats], strict=True)]


def strength(nats: float | None) -> float:
    """How strongly a token is coloured: from 0 for what is certain to 1 from :data:`MOST` nats on."""
    return 0.0 if nats is None else min(max(nats / MOST, 0.0), 1.0)


def as_html(parts: Sequence[Piece]) -> str:
    """The passage as HTML: each token with a colour behind it, and its loss where the pointer rests on it."""
    spans = []
    for part in parts:
        if part.nats is None:
            spans.append(f'<span style="color:var(--muted)">{html.escape(part.text)}</span>')
            continue
        back = f"rgba({ORANGE[0]},{ORANGE[1]},{ORANGE[2]},{STRONGEST * strength(part.nats):.2f})"
        title = f"{part.nats:.2f} nats: {chance(part.nats)}"
        spans.append(f'<span style="background:{back}" title="{html.escape(title)}">{html.escape(part.text)}</span>')
    scale = "".join(
        f'<span style="background:rgba({ORANGE[0]},{ORANGE[1]},{ORANGE[2]},{STRONGEST * strength(nats):.2f});'
        f'padding:0 .6em">{nats:g}{"+" if nats == MOST else ""}</span>'
        for nats in range(int(MOST) + 1)
    )
    return (
        '<div style="font-family:ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.6">'
        f"{''.join(spans)}</div><p>loss in nats: {scale}</p>"
    )


def chance(nats: float) -> str:
    """The probability behind a loss: "87%", "1 in 250"."""
    share = math.exp(-nats)
    return f"{share:.0%}" if share >= 0.095 else f"1 in {math.exp(nats):,.0f}"


def laid_out(parts: Sequence[Piece], columns: int) -> Iterator[tuple[int, int, Piece]]:
    """Lines and columns for the parts of a passage in letters of equal width; a part that crosses a line is split."""
    line = column = 0
    for part in parts:
        for number, rest in enumerate(part.text.split("\n")):
            if number:
                line, column = line + 1, 0
            while rest:
                if column == columns:
                    line, column = line + 1, 0
                now, rest = rest[: columns - column], rest[columns - column :]
                yield line, column, Piece(now, part.nats)
                column += len(now)


def figure(subject: Subject) -> Figure:
    """The passage, as HTML and as a picture."""
    passage, tokenizer = subject.passage, subject.model.tokenizer
    names = labels(tokenizer, passage.ids)
    parts = pieces(passage, names)
    drawn = [Piece(drawable(part.text), part.nats) for part in parts]
    placed = [(line, column, piece) for line, column, piece in laid_out(drawn, COLUMNS) if line < LINES]

    def draw() -> Picture:
        lines = placed[-1][0] + 1
        picture, (axes, scale) = canvas(2, 1, height=0.19 * lines + 0.55, height_ratios=(lines, 1.6))
        for each in (axes, scale):
            blank(each)
            each.set_xlim(0, COLUMNS)
        axes.set_ylim(lines, 0)
        scale.set_ylim(1, 0)
        back = color(1)
        for line, column, piece in placed:
            axes.add_patch(
                Rectangle(
                    (column, line + 0.04), len(piece.text), 0.92, color=to_rgba(back, STRONGEST * strength(piece.nats))
                )
            )
            ink = theme().muted if piece.nats is None else theme().text
            for place, letter in enumerate(piece.text):  # each in its own cell, whatever the width of the picture
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
            scale.add_patch(Rectangle((12 + 6 * nats, 0.3), 6, 0.7, color=to_rgba(back, STRONGEST * strength(nats))))
            note = f"{nats}+" if nats == MOST else str(nats)
            scale.text(15 + 6 * nats, 0.65, note, color=theme().text, fontsize=8, ha="center", va="center")
        return picture

    cells = [
        [
            place,
            name,
            None if part.nats is None else round(part.nats, 3),
            None if part.nats is None else chance(part.nats),
        ]
        for place, (name, part) in enumerate(zip(names, parts, strict=True))
    ]
    asked = passage.nats[passage.asked]
    reading = (
        f"The stronger the colour behind a token, the less the model expected it after all that stands before it: none "
        f"is certainty, the strongest is less than {chance(MOST)}. This is {passage.words}; "
        f"{asked.mean():.2f} nats per token over {len(asked):,} tokens."
    )
    if not passage.asked.all():
        reading += " What is grey is given, not guessed."
    reading = subject.remarked(reading) if subject.options.passage is None else reading
    table = Table(["place", "token", "loss (nats)", "probability"], cells)
    return Figure(NAME, TITLE, reading, draw, table, as_html(parts), section=SECTION)
