"""What the vectors of n-grams bring: the loss with and without each kind of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure as Picture
from torch import Tensor, nn

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.subject import Chosen, Subject, token_losses
from nanochat.analysis.style import canvas, color, theme
from nanochat.data.packing import HeldOut
from nanochat.model import GPT
from nanochat.model.ngrams import NgramEmbedding

NAME, TITLE, SECTION = "ngrams", "What the vectors of n-grams bring", "Inside the model"
SHARE = 0.12  # of the tokens that one pass may read: there are several
LENGTHS = {2: "pairs", 3: "triples"}


def parts(ngrams: NgramEmbedding) -> list[str]:
    """What is added up for each token, in the order of :meth:`NgramEmbedding.rows`."""
    lengths = [LENGTHS.get(length, f"n-grams of {length}") for length in range(2, ngrams.longest + 1)]
    single = range(1, ngrams.rows_per_token - len(lengths) + 1)
    return [*lengths, *("the token before" if back == 1 else f"the token {back} before" for back in single)]


def loss_without(gpt: GPT, rows: HeldOut, bos: int, left_out: Sequence[int]) -> float:
    """The mean loss in nats per token if some of the vectors were 0. The model stays as it is: a hook replaces the sum.

    Args:
        gpt: a model with n-grams.
        rows: all of them are read.
        bos: the id of ``<|bos|>``.
        left_out: which of :func:`parts`.
    """
    ngrams = gpt.ngrams
    assert ngrams is not None
    kept = [part for part in range(ngrams.rows_per_token) if part not in left_out]

    def replace(module: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if not kept:
            return torch.zeros_like(output)
        found = ngrams.rows(*inputs)[..., kept]
        return torch.nn.functional.embedding(found, ngrams.table).sum(-2)

    return _loss_with(ngrams, replace, gpt, rows, bos)


def loss_without_counts(gpt: GPT, rows: HeldOut, bos: int) -> float:
    """The same, without what was counted of the tokens that follow some others; arguments as above."""
    assert gpt.counted is not None
    return _loss_with(gpt.counted, lambda counted, _, output: counted.shares.expand_as(output), gpt, rows, bos)


def _loss_with(module: nn.Module, replace: Callable[..., Tensor], gpt: GPT, rows: HeldOut, bos: int) -> float:
    """The mean loss while a hook replaces what a part of the model returns."""
    handle = module.register_forward_hook(replace)
    try:
        return float(token_losses(gpt, rows, bos).nats.mean())
    finally:
        handle.remove()


def figure(subject: Subject) -> Figure:
    """Bars: the loss of the whole model, without one part, without all, and without what was counted."""
    gpt, rows = subject.gpt, subject.text.rows
    if gpt.ngrams is None:
        raise ValueError("the model has no n-grams (--model.ngrams=1)")
    names = parts(gpt.ngrams)
    chosen = Chosen(rows, range(rows.first(subject.tokens(SHARE))))
    everything = list(range(len(names)))
    asked = {"the whole model": [], **{f"without {name}": [part] for part, name in enumerate(names)}}
    if len(names) > 1:
        asked["without all of them"] = everything
    bos = subject.model.tokenizer.bos
    losses = {name: loss_without(gpt, chosen, bos, left_out) for name, left_out in asked.items()}
    if gpt.counted is not None:
        losses["without what was counted"] = loss_without_counts(gpt, chosen, bos)
    used = float((gpt.ngrams.table.abs().amax(1) > 0).float().mean())

    def draw() -> Picture:
        picture, axes = canvas(height=0.5 * len(losses) + 1.1)
        shades = [color(0), *([color(1)] * (len(losses) - 1))]
        bars = axes.barh(list(losses), list(losses.values()), color=shades, height=0.62)
        axes.bar_label(bars, fmt="%.2f", padding=4, color=theme().text, fontsize=10)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("loss (nats per token)")
        axes.margins(x=0.1)
        return picture

    whole = losses["the whole model"]
    cells: list[list[Cell]] = [[name, round(loss, 4), round(loss - whole, 4)] for name, loss in losses.items()]
    reading = (
        "The mean loss on held-out text if some of the vectors that are added to a token's own were 0, or if what was "
        "counted beforehand, and what repeats say, were not added. The longer a bar, the more the rest of the model "
        "relies on what is left out; it has not learned to do without, so one trained without would probably do "
        "better. "
        f"{chosen.predictions:,} tokens of {subject.text.words}; "
        f"training has touched {used:.0%} of the table's {len(gpt.ngrams.table):,} rows."
    )
    table = Table(["", "loss (nats/token)", "more than the whole"], cells)
    return Figure(NAME, TITLE, subject.remarked(reading), draw, table, section=SECTION)
