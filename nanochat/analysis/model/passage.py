"""The figure of a passage of text in which each token is coloured by its loss."""

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
from nanochat.analysis.model.token_labels import LINE_END, SPACE, drawable, token_labels
from nanochat.analysis.style import MONOSPACE, color, hide_axes, subplots, theme

NAME, TITLE, SECTION = "passage", "A passage, coloured by loss", "Predictions"
MAX_NATS = 6.0  # the loss with the strongest colour: a probability of 1 in 400
MAX_OPACITY = 0.65  # of the colour, so that the text on it stays readable
COLUMNS = 84  # characters per line of the drawn figure
MAX_LINES = 40
ORANGE = (222, 98, 28)  # readable behind dark and behind light text


class PassageToken(NamedTuple):
    """A token of the passage.

    Attributes:
        text: its label, with spaces, and with a line break after each line-end symbol.
        nats: its loss; None if it is not a target.
    """

    text: str
    nats: float | None


def passage_tokens(passage: Passage, labels: Sequence[str]) -> list[PassageToken]:
    """The tokens of a passage with their losses; the first one has none.

    Args:
        passage: ids and losses.
        labels: of each id, from :func:`nanochat.analysis.model.token_labels.token_label`.
    """
    texts = [label.replace(SPACE, " ").replace(LINE_END, LINE_END + "\n") for label in labels]
    nats = [float(loss) if scored else None for loss, scored in zip(passage.nats, passage.scored, strict=True)]
    return [PassageToken(text, loss) for text, loss in zip(texts, [None, *nats], strict=True)]


def opacity(nats: float | None) -> float:
    """Opacity of the colour behind a token: 0 for a loss of 0, :data:`MAX_OPACITY` from :data:`MAX_NATS` on."""
    return 0.0 if nats is None else MAX_OPACITY * min(max(nats / MAX_NATS, 0.0), 1.0)


def as_html(tokens: Sequence[PassageToken]) -> str:
    """The passage as HTML: coloured tokens, with the loss as a tooltip, and the colour scale."""
    spans = []
    for token in tokens:
        if token.nats is None:
            spans.append(f'<span style="color:var(--muted)">{html.escape(token.text)}</span>')
            continue
        title = f"{token.nats:.2f} nats: {probability_text(token.nats)}"
        background = _css_color(token.nats)
        spans.append(
            f'<span style="background:{background}" title="{html.escape(title)}">{html.escape(token.text)}</span>'
        )
    scale = "".join(
        f'<span style="background:{_css_color(nats)};padding:0 .6em">{nats:g}{"+" if nats == MAX_NATS else ""}</span>'
        for nats in range(int(MAX_NATS) + 1)
    )
    return (
        '<div style="font-family:ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.6">'
        f"{''.join(spans)}</div><p>loss in nats: {scale}</p>"
    )


def _css_color(nats: float) -> str:
    return f"rgba({ORANGE[0]},{ORANGE[1]},{ORANGE[2]},{opacity(nats):.2f})"


def probability_text(nats: float) -> str:
    """The probability of a token with this loss: "87%", "1 in 250"."""
    probability = math.exp(-nats)
    return f"{probability:.0%}" if probability >= 0.095 else f"1 in {math.exp(nats):,.0f}"


def lay_out(tokens: Sequence[PassageToken], columns: int) -> Iterator[tuple[int, int, PassageToken]]:
    """Line and column of each token in monospace text; a token that does not fit into its line is split."""
    line = column = 0
    for token in tokens:
        for number, rest in enumerate(token.text.split("\n")):
            if number:
                line, column = line + 1, 0
            while rest:
                if column == columns:
                    line, column = line + 1, 0
                text, rest = rest[: columns - column], rest[columns - column :]
                yield line, column, PassageToken(text, token.nats)
                column += len(text)


def figure(loaded: LoadedModel) -> Figure:
    """The passage, as HTML and as a drawn figure."""
    passage, tokenizer = loaded.passage, loaded.model.tokenizer
    labels = token_labels(tokenizer, passage.ids)
    tokens = passage_tokens(passage, labels)
    drawable_tokens = [PassageToken(drawable(token.text), token.nats) for token in tokens]
    placed = [(line, column, token) for line, column, token in lay_out(drawable_tokens, COLUMNS) if line < MAX_LINES]

    def draw() -> MplFigure:
        lines = placed[-1][0] + 1
        fig, (axes, scale) = subplots(2, 1, height=0.19 * lines + 0.55, height_ratios=(lines, 1.6))
        for each in (axes, scale):
            hide_axes(each)
            each.set_xlim(0, COLUMNS)
        axes.set_ylim(lines, 0)
        scale.set_ylim(1, 0)
        cell = dict(ha="center", va="center", fontfamily=MONOSPACE[0], fontsize=9)
        for line, column, token in placed:
            background = to_rgba(color(1), opacity(token.nats))
            axes.add_patch(Rectangle((column, line + 0.04), len(token.text), 0.92, color=background))
            ink = theme().muted if token.nats is None else theme().text
            for index, character in enumerate(token.text):  # one by one, so that columns align at any figure width
                if character != " ":
                    axes.text(column + index + 0.5, line + 0.5, character, color=ink, **cell)
        scale.text(0, 0.65, "loss (nats)", color=theme().muted, fontsize=8, va="center")
        for nats in range(int(MAX_NATS) + 1):
            scale.add_patch(Rectangle((12 + 6 * nats, 0.3), 6, 0.7, color=to_rgba(color(1), opacity(nats))))
            text = f"{nats}+" if nats == MAX_NATS else str(nats)
            scale.text(15 + 6 * nats, 0.65, text, color=theme().text, fontsize=8, ha="center", va="center")
        return fig

    cells = [
        [
            position,
            label,
            None if token.nats is None else round(token.nats, 3),
            None if token.nats is None else probability_text(token.nats),
        ]
        for position, (label, token) in enumerate(zip(labels, tokens, strict=True))
    ]
    scored = passage.nats[passage.scored]
    caption = (
        "The stronger the colour behind a token, the less likely the model found it after all tokens before it: no "
        f"colour is certainty, the strongest is a probability of {probability_text(MAX_NATS)} or less. The text: "
        f"{passage.description}; {scored.mean():.2f} nats per token over {len(scored):,} tokens."
    )
    if not passage.scored.all():
        caption += " Grey text is the user's: it is given to the model, and not scored."
    caption = loaded.with_note(caption) if loaded.options.passage is None else caption
    table = Table(["position", "token", "loss (nats)", "probability"], cells)
    return Figure(NAME, TITLE, caption, draw, table, as_html(tokens), section=SECTION)
