"""The figure of the loss by position in the row: how much the model gains from a longer context."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray

from nanochat.analysis.figure import Figure, Table
from nanochat.analysis.model.held_out_losses import HeldOutLosses
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.analysis.statistics import NORMAL95
from nanochat.analysis.style import color, subplots, theme
from nanochat.data.tokens.held_out_rows import HeldOut

NAME, TITLE, SECTION = "loss_by_position", "Loss by position in the row", "Predictions"
MID_DOCUMENT_FRACTION = 0.75  # of the token budget, for the rows that start in the middle of a document
MIN_MID_DOCUMENT_ROWS = 8  # with fewer of them there is no second curve


@dataclass(frozen=True)
class PositionBins:
    """Mean losses over ranges of positions.

    Attributes:
        first: (bins,), the first position of each bin.
        last: (bins,), the last position.
        count: (bins,), number of tokens.
        mean: (bins,), loss in nats per token; NaN for an empty bin.
        error: (bins,), standard error of the mean; NaN with tokens of fewer than two rows.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    error: NDArray[np.float64]


def bin_edges(longest: int) -> NDArray[np.int64]:
    """The first position of each bin, 1, 2, 3, 4, 6, 8, 12, 16, ... up to ``longest``, and then ``longest + 1``."""
    starts = [1, *(start for power in range(1, 64) for start in (2**power, 3 * 2 ** (power - 1)) if start < longest)]
    return np.array([*sorted(set(starts)), longest + 1])


def loss_by_position(losses: HeldOutLosses, edges: NDArray[np.int64]) -> PositionBins:
    """The mean loss in each bin of positions, with a standard error that allows for correlation within rows.

    The mean over the tokens of a bin is a ratio of two sums over rows, of losses and of tokens. Its variance is
    ``R / (R - 1) * sum_r (losses_r - mean * tokens_r)^2 / tokens^2`` over the R rows with a token in the bin (the
    ratio estimator with rows as clusters: Cochran, Sampling Techniques, 1977, chapter 6).

    Args:
        losses: losses of held-out tokens.
        edges: (bins + 1,), from :func:`bin_edges`.
    """
    bin_of = np.searchsorted(edges, losses.position, side="right") - 1
    inside = (bin_of >= 0) & (bin_of < len(edges) - 1)
    row, nats, bin_of = losses.row[inside], losses.nats[inside], bin_of[inside]
    bins = len(edges) - 1
    count = np.bincount(bin_of, minlength=bins)
    mean = np.full(bins, math.nan)
    np.divide(np.bincount(bin_of, nats, bins), count, out=mean, where=count > 0)
    error = np.full(bins, math.nan)
    for index in range(bins):
        selected = bin_of == index
        rows, row_index = np.unique(row[selected], return_inverse=True)
        if len(rows) > 1:
            residuals = np.bincount(row_index, nats[selected]) - mean[index] * np.bincount(row_index)
            error[index] = math.sqrt(len(rows) / (len(rows) - 1) * (residuals**2).sum()) / count[index]
    return PositionBins(edges[:-1], edges[1:] - 1, count, mean, error)


def mid_document_rows(rows: HeldOut, bos: int, max_tokens: int) -> list[int]:
    """Rows of full length that start in the middle of a document, where the kind of text is the same at all positions.

    Args:
        rows: held-out rows.
        bos: id of ``<|bos|>``.
        max_tokens: tokens in total.
    """
    full = np.flatnonzero(rows.sizes == rows.length)
    return [int(row) for row in full if int(rows.example(int(row))[0][0]) != bos][: max_tokens // rows.length]


def figure(loaded: LoadedModel) -> Figure:
    """The mean loss at each position of a row."""
    losses, trained_length = loaded.losses, loaded.row_length
    longest = int(losses.position.max())
    edges = bin_edges(longest)
    all_rows = loss_by_position(losses, edges)
    rows, mid_rows = loaded.text.rows, []
    if longest == rows.length:
        mid_rows = mid_document_rows(rows, loaded.model.tokenizer.bos, loaded.token_budget(MID_DOCUMENT_FRACTION))
    mid = loss_by_position(loaded.losses_of(mid_rows), edges) if len(mid_rows) >= MIN_MID_DOCUMENT_ROWS else None
    beyond_training = trained_length is not None and trained_length < longest

    def draw() -> MplFigure:
        fig, (axes, below) = subplots(2, 1, height=4.8, sharex=True, height_ratios=(4, 1))
        series = [(all_rows, "all rows", 0)]
        series += [(mid, "rows from the middle of long documents", 1)] if mid is not None else []
        for bins, name, index in series:
            centre = np.sqrt(bins.first * bins.last)
            axes.plot(centre, bins.mean, "o-", markersize=3.5, color=color(index), label=name)
            band = NORMAL95 * bins.error
            axes.fill_between(centre, bins.mean - band, bins.mean + band, color=color(index), alpha=0.18, linewidth=0)
        if beyond_training:
            for each in (axes, below):
                each.axvline(trained_length, color=theme().muted, linestyle="--", linewidth=1)
            axes.annotate(
                f"training rows: {trained_length:,} tokens ",
                (trained_length, 0.02),
                xycoords=("data", "axes fraction"),
                ha="right",
                va="bottom",
                color=theme().muted,
                fontsize=9,
            )
        axes.set_ylabel("loss (nats per token)")
        fig.legend(loc="outside upper left", ncols=2)
        below.bar(edges[:-1], all_rows.count, np.diff(edges), align="edge", color=theme().muted, alpha=0.55)
        below.set_yscale("log")
        below.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
        below.set_ylabel("tokens\nper bin", fontsize=9)
        below.set_xscale("log", base=2)
        below.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        below.set_xlabel("context: tokens of the row before the prediction")
        return fig

    columns = ["context from (tokens)", "to", "predictions", "loss (nats/token)", "standard error"]
    columns += ["loss in the middle of documents (nats/token)"] if mid is not None else []
    cells = [
        [
            *(int(v) for v in (all_rows.first[i], all_rows.last[i], all_rows.count[i])),
            *(None if math.isnan(v) else round(float(v), 4) for v in (all_rows.mean[i], all_rows.error[i])),
            *([] if mid is None else [round(float(mid.mean[i]), 4)]),
        ]
        for i in range(len(all_rows.mean))
    ]
    caption = (
        "Where the curve falls, the model uses the additional context; where it is flat, a longer context does not "
        f"help. {loaded.losses_description}; the bands are 95 % confidence intervals (clustered by row), the bars show "
        "the number of tokens per bin."
    )
    if mid is not None:
        caption += (
            " Documents start with a particular kind of text, and late positions only occur in long documents. The "
            f"second curve, of {len(mid_rows):,} rows that start in the middle of a document, shows the effect of "
            "context alone."
        )
    if beyond_training:
        caption += (
            f" Positions to the right of the dashed line do not occur in training rows ({trained_length:,} tokens)."
        )
    return Figure(NAME, TITLE, loaded.with_note(caption), draw, Table(columns, cells), section=SECTION)
