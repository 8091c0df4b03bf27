"""Which tokens the model finds easy and which hard, beside how often they come."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.loaded_model import HeldOutLosses, LoadedModel
from nanochat.analysis.model.point_labels import LabelPlacer
from nanochat.analysis.model.token_labels import drawable, shortened, token_kind, token_label
from nanochat.analysis.style import color, subplots, theme

NAME, TITLE, SECTION = "tokens_by_loss", "What the model finds easy and hard", "What it knows"
LEAST = 10  # times that a token must come, for its mean to say anything
SHOWN = 25  # of the easiest and of the hardest in the table
GROUPS = (  # of labels.KINDS, with a colour each
    ("words begun by a blank", ("word",)),
    ("inside words", ("inside a word",)),
    ("capitals", ("capitals",)),
    ("digits", ("digits",)),
    ("punctuation, blanks and the rest", ("punctuation", "blank", "bytes", "special", "unused")),
)


@dataclass(frozen=True)
class TokenStats:
    """Each token of the vocabulary as one to be guessed.

    Attributes:
        count: (vocabulary,), how often it came.
        mean: (vocabulary,), its mean loss in nats; NaN where it never came.
        error: (vocabulary,), the standard error of that; NaN where it came less than twice.
    """

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    error: NDArray[np.float64]


def loss_by_token(losses: HeldOutLosses, vocabulary: int) -> TokenStats:
    """Means over all places where a token was the one to be guessed."""
    count = np.bincount(losses.token, minlength=vocabulary)
    total = np.bincount(losses.token, losses.nats, vocabulary)
    mean = np.divide(total, count, out=np.full(vocabulary, math.nan), where=count > 0)
    squares = np.bincount(losses.token, (losses.nats - mean[losses.token]) ** 2, vocabulary)
    freedom = count * (count - 1.0)
    variance = np.divide(squares, freedom, out=np.full(vocabulary, math.nan), where=freedom > 0)
    return TokenStats(count, mean, np.sqrt(variance))


def figure(loaded: LoadedModel) -> Figure:
    """Mean loss against frequency, and the easiest and hardest tokens in a table."""
    tokenizer = loaded.model.tokenizer
    by = loss_by_token(loaded.losses, tokenizer.vocab_size)
    total = int(by.count.sum())
    frequent = np.flatnonzero(by.count >= LEAST)
    if not len(frequent):
        raise ValueError(f"no token comes {LEAST} times in the held-out text that there is")
    names = {int(token): token_label(tokenizer, int(token)) for token in frequent}
    kinds = {int(token): token_kind(tokenizer, int(token)) for token in frequent}

    def draw() -> MplFigure:
        fig, axes = subplots(height=5.2)
        axes.set_xscale("log")
        for index, (name, members) in enumerate(GROUPS):
            tokens = [token for token in names if kinds[token] in members]
            if tokens:
                axes.scatter(by.count[tokens] / total, by.mean[tokens], s=16, color=color(index), label=name, alpha=0.8)
        ends = np.array([by.count[frequent].min(), by.count[frequent].max()]) / total
        axes.plot(ends, -np.log(ends), "--", color=theme().muted, linewidth=1.2, label="knowing nothing but how often")
        axes.set_xlabel("how often the token comes (share of all tokens)")
        axes.set_ylabel("mean loss (nats)")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.3%}".rstrip("0%").rstrip(".") + "%")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.04)
        placer = LabelPlacer(fig, axes)
        for token in tokens_to_name(by, frequent, total):
            placer.write(by.count[token] / total, by.mean[token], drawable(shortened(names[token], 14)))
        fig.legend(loc="outside lower center", ncols=2, fontsize=9)
        return fig

    order = frequent[np.argsort(by.mean[frequent], token_kind="stable")]
    shown = order if len(order) <= 2 * SHOWN else np.concatenate((order[:SHOWN], order[-SHOWN:]))
    whole = loaded.losses.nats.sum()
    cells: list[list[Cell]] = [
        [
            names[int(t)],
            int(by.count[t]),
            round(float(by.mean[t]), 3),
            round(float(by.error[t]), 3),
            round(-math.log(by.count[t] / total), 3),
            round(float(100 * by.mean[t] * by.count[t] / whole), 2),
        ]
        for t in shown
    ]
    columns = ["token", "times", "mean loss (nats)", "standard error", "by its frequency alone (nats)"]
    caption = (
        "Each dot is a token of the vocabulary as the one to be guessed. On the dashed line would be a model that "
        "knows nothing but how often each token comes; the further below it, the more the words before it give "
        f"the token away. {loaded.losses_description}; tokens that come at least {LEAST} times. The table has "
        f"the {SHOWN} easiest and the {SHOWN} hardest, and what each contributes to the whole loss."
    )
    table = Table([*columns, "of the whole loss (%)"], cells)
    return Figure(NAME, TITLE, loaded.with_note(caption), draw, table, section=SECTION)


def tokens_to_name(by: TokenStats, frequent: NDArray[np.int64], total: int, most: int = 60) -> list[int]:
    """The tokens to name in the picture, the most striking first: far from the line, high, low, or frequent."""
    gap = -np.log(by.count[frequent] / total) - by.mean[frequent]
    keys = (-gap, gap, by.mean[frequent], -by.mean[frequent], -by.count[frequent])
    orders = [np.argsort(key, token_kind="stable") for key in keys]
    taken = dict.fromkeys(int(frequent[order[place]]) for place in range(len(frequent)) for order in orders)
    return list(taken)[:most]
