"""Loss by position: how much the model gains from each token more that it has read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray

from nanochat.analysis.figure import Figure, Table
from nanochat.analysis.model.loaded_model import HeldOutLosses, LoadedModel
from nanochat.analysis.style import color, subplots, theme
from nanochat.data.tokens.held_out_rows import HeldOut

NAME, TITLE, SECTION = "loss_by_position", "Loss by position in the row", "What it knows"
NORMAL = 1.96  # standard errors on each side of a mean that hold 95 % of a normal distribution


@dataclass(frozen=True)
class PositionBins:
    """Means over places, each a stretch of the row.

    Attributes:
        first: (bins,), the first place of each.
        last: (bins,), the last one.
        count: (bins,), tokens behind each mean.
        mean: (bins,), loss in nats per token; NaN where there is none.
        error: (bins,), the mean's standard error; NaN where fewer than two rows are behind it.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    error: NDArray[np.float64]


def position_bins(longest: int) -> NDArray[np.int64]:
    """Where bins begin, 1, 2, 3, 4, 6, 8, 12, 16, ... up to ``longest``, and where the last one ends, plus one."""
    starts = [1, *(start for power in range(1, 64) for start in (2**power, 3 * 2 ** (power - 1)) if start < longest)]
    return np.array([*sorted(set(starts)), longest + 1])


def loss_by_position(losses: HeldOutLosses, edges: NDArray[np.int64]) -> PositionBins:
    """The mean loss in each stretch of places, with a standard error that knows that the tokens of a row are alike.

    A mean over all tokens of a bin is a ratio of two sums over rows, of losses and of tokens; its variance is
    ``R / (R - 1) * sum_r (losses_r - mean * tokens_r)^2 / tokens^2`` over the R rows that have a token there (the
    ratio estimator: Cochran, Sampling Techniques, 1977, chapter 6; rows are the clusters).

    Args:
        losses: of held-out tokens.
        edges: as :func:`stretches` returns them.
    """
    which = np.searchsorted(edges, losses.position, side="right") - 1
    inside = (which >= 0) & (which < len(edges) - 1)
    row, nats, which = losses.row[inside], losses.nats[inside], which[inside]
    bins = len(edges) - 1
    count = np.bincount(which, minlength=bins)
    mean = np.full(bins, math.nan)
    np.divide(np.bincount(which, nats, bins), count, out=mean, where=count > 0)
    error = np.full(bins, math.nan)
    for index in range(bins):
        here = which == index
        rows_here, at = np.unique(row[here], return_inverse=True)
        if len(rows_here) > 1:
            rest = np.bincount(at, nats[here]) - mean[index] * np.bincount(at)
            error[index] = math.sqrt(len(rest) / (len(rest) - 1) * (rest**2).sum()) / count[index]
    return PositionBins(edges[:-1], edges[1:] - 1, count, mean, error)


def mid_document_rows(rows: HeldOut, bos: int, tokens: int) -> list[int]:
    """Rows of full length that begin in the middle of a document: there the text is of one kind at each place.

    Args:
        rows: of held-out text.
        bos: the id of ``<|bos|>``.
        tokens: how many they may have together.
    """
    full = np.flatnonzero(rows.sizes == rows.length)
    return [int(row) for row in full if int(rows.example(int(row))[0][0]) != bos][: tokens // rows.length]


def figure(loaded: LoadedModel) -> Figure:
    """The mean loss at each place of a row."""
    losses, trained = loaded.losses, loaded.row_length
    longest = int(losses.position.max())
    edges = position_bins(longest)
    every = loss_by_position(losses, edges)
    rows = loaded.text.rows
    mid_rows = (
        mid_document_rows(rows, loaded.model.tokenizer.bos, loaded.tokens(0.75)) if longest == rows.length else []
    )
    same = loss_by_position(loaded.losses_of_rows(mid_rows), edges) if len(mid_rows) >= 8 else None

    def draw() -> MplFigure:
        fig, (axes, below) = subplots(2, 1, height=4.8, sharex=True, height_ratios=(4, 1))
        series = [(every, "all rows", 0)]
        series += [(same, "rows from the middle of long documents", 1)] if same is not None else []
        for bins, name, index in series:
            middle = np.sqrt(bins.first * bins.last)
            axes.plot(middle, bins.mean, "o-", markersize=3.5, color=color(index), label=name)
            band = NORMAL * bins.error
            axes.fill_between(middle, bins.mean - band, bins.mean + band, color=color(index), alpha=0.18, linewidth=0)
        if trained is not None and trained < longest:
            for each in (axes, below):
                each.axvline(trained, color=theme().muted, linestyle="--", linewidth=1)
            axes.annotate(
                f"rows of training: {trained:,} ",
                (trained, 0.02),
                xycoords=("data", "axes fraction"),
                ha="right",
                va="bottom",
                color=theme().muted,
                fontsize=9,
            )
        axes.set_ylabel("loss (nats per token)")
        fig.legend(loc="outside upper left", ncols=2)
        below.bar(edges[:-1], every.count, np.diff(edges), align="edge", color=theme().muted, alpha=0.55)
        below.set_yscale("log")
        below.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
        below.set_ylabel("tokens\nin the bin", fontsize=9)
        below.set_xscale("log", base=2)
        below.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        below.set_xlabel("tokens of the row that the model has read before it guesses")
        return fig

    columns = ["tokens read, from", "to", "predictions", "loss (nats/token)", "standard error"]
    columns += ["loss amid documents (nats/token)"] if same is not None else []
    cells = [
        [
            *(int(v) for v in (every.first[i], every.last[i], every.count[i])),
            *(None if math.isnan(v) else round(float(v), 4) for v in (every.mean[i], every.error[i])),
            *([] if same is None else [round(float(same.mean[i]), 4)]),
        ]
        for i in range(len(every.mean))
    ]
    caption = (
        "Where the curve falls, the model makes use of what it has read; where it is flat, more context no longer "
        f"helps it. {loaded.losses_description}; the bands are 95 % confidence (by rows), the bars below say how many "
        "tokens are behind each point."
    )
    if same is not None:
        caption += (
            " The beginning of a document is text of its own kind, and late places are those of long documents: the "
            f"second curve, of {len(mid_rows):,} rows that begin in the middle of one, shows what context alone "
            "is worth."
        )
    if trained is not None and trained < longest:
        caption += f" To the right of the dashed line are places that no row of the training had ({trained:,} tokens)."
    return Figure(NAME, TITLE, loaded.with_note(caption), draw, Table(columns, cells), section=SECTION)
