"""The figure of mean loss against frequency, for each token of the vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.held_out_losses import HeldOutLosses
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.analysis.model.point_labels import LabelPlacer
from nanochat.analysis.model.token_labels import drawable, shortened, token_kind, token_label
from nanochat.analysis.style import color, subplots, theme

NAME, TITLE, SECTION = "tokens_by_loss", "Loss and frequency of each token", "Predictions"
MIN_COUNT = 10  # tokens that occur less often are left out, as their means are too noisy
TABLE_ROWS = 25  # of the tokens with the lowest loss, and of those with the highest
GROUPS = (  # one colour each, for the results of token_kind
    ("words with a leading space", ("word",)),
    ("inside words", ("inside a word",)),
    ("capitals", ("capitals",)),
    ("digits", ("digits",)),
    ("punctuation, spaces and others", ("punctuation", "blank", "bytes", "special", "unused")),
)


@dataclass(frozen=True)
class TokenStats:
    """Statistics of each token of the vocabulary as a target.

    Attributes:
        count: (vocabulary,), number of occurrences.
        mean: (vocabulary,), mean loss in nats; NaN if it does not occur.
        error: (vocabulary,), standard error of the mean; NaN if it occurs less than twice.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    error: NDArray[np.float64]


def loss_by_token(losses: HeldOutLosses, vocab_size: int) -> TokenStats:
    """Means over all occurrences of each token as a target."""
    count = np.bincount(losses.token, minlength=vocab_size)
    total = np.bincount(losses.token, losses.nats, vocab_size)
    mean = np.divide(total, count, out=np.full(vocab_size, math.nan), where=count > 0)
    squares = np.bincount(losses.token, (losses.nats - mean[losses.token]) ** 2, vocab_size)
    divisor = count * (count - 1.0)
    variance = np.divide(squares, divisor, out=np.full(vocab_size, math.nan), where=divisor > 0)
    return TokenStats(count, mean, np.sqrt(variance))


def figure(loaded: LoadedModel) -> Figure:
    """Mean loss against frequency, and a table of the tokens with the lowest and the highest loss."""
    tokenizer = loaded.model.tokenizer
    stats = loss_by_token(loaded.losses, tokenizer.vocab_size)
    total = int(stats.count.sum())
    frequent = np.flatnonzero(stats.count >= MIN_COUNT)
    if not len(frequent):
        raise ValueError(f"no token occurs {MIN_COUNT} times in the held-out text")
    names = {int(token): token_label(tokenizer, int(token)) for token in frequent}
    kinds = {int(token): token_kind(tokenizer, int(token)) for token in frequent}

    def draw() -> MplFigure:
        fig, axes = subplots(height=5.2)
        axes.set_xscale("log")
        for index, (name, members) in enumerate(GROUPS):
            tokens = [token for token in names if kinds[token] in members]
            if tokens:
                frequency = stats.count[tokens] / total
                axes.scatter(frequency, stats.mean[tokens], s=16, color=color(index), label=name, alpha=0.8)
        ends = np.array([stats.count[frequent].min(), stats.count[frequent].max()]) / total
        axes.plot(ends, -np.log(ends), "--", color=theme().muted, linewidth=1.2, label="predicted from frequency alone")
        axes.set_xlabel("frequency of the token (share of all tokens)")
        axes.set_ylabel("mean loss (nats)")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.3%}".rstrip("0%").rstrip(".") + "%")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.04)
        placer = LabelPlacer(fig, axes)
        for token in tokens_to_label(stats, frequent, total):
            placer.place(stats.count[token] / total, stats.mean[token], drawable(shortened(names[token], 14)))
        fig.legend(loc="outside lower center", ncols=2, fontsize=9)
        return fig

    order = frequent[np.argsort(stats.mean[frequent], kind="stable")]
    listed = order if len(order) <= 2 * TABLE_ROWS else np.concatenate((order[:TABLE_ROWS], order[-TABLE_ROWS:]))
    total_loss = loaded.losses.nats.sum()
    cells: list[list[Cell]] = [
        [
            names[int(t)],
            int(stats.count[t]),
            round(float(stats.mean[t]), 3),
            round(float(stats.error[t]), 3),
            round(-math.log(stats.count[t] / total), 3),
            round(float(100 * stats.mean[t] * stats.count[t] / total_loss), 2),
        ]
        for t in listed
    ]
    columns = ["token", "count", "mean loss (nats)", "standard error", "loss from frequency alone (nats)"]
    caption = (
        "Each dot is a token of the vocabulary as a prediction target. A model that predicts every token from its "
        "frequency alone would be on the dashed line; the further a token is below it, the more the context helps to "
        f"predict it. {loaded.losses_description}; tokens that occur at least {MIN_COUNT} times. The table lists the "
        f"{TABLE_ROWS} tokens with the lowest and the {TABLE_ROWS} with the highest mean loss, and their shares of the "
        "total loss."
    )
    table = Table([*columns, "share of the total loss (%)"], cells)
    return Figure(NAME, TITLE, loaded.with_note(caption), draw, table, section=SECTION)


def tokens_to_label(stats: TokenStats, frequent: NDArray[np.int64], total: int, limit: int = 60) -> list[int]:
    """The tokens to label, in order of priority: in turn those far below or above the line, high, low, and frequent."""
    gap = -np.log(stats.count[frequent] / total) - stats.mean[frequent]
    keys = (-gap, gap, stats.mean[frequent], -stats.mean[frequent], -stats.count[frequent])
    orders = [np.argsort(key, kind="stable") for key in keys]
    chosen = dict.fromkeys(int(frequent[order[rank]]) for rank in range(len(frequent)) for order in orders)
    return list(chosen)[:limit]
