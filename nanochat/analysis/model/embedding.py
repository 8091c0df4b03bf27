"""The figure of the token embedding in two dimensions, with each token's nearest neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure as MplFigure
from torch import Tensor

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.analysis.model.point_labels import LabelPlacer
from nanochat.analysis.model.token_labels import drawable, shortened, token_kind, token_label
from nanochat.analysis.model.tokens_by_loss import GROUPS, loss_by_token
from nanochat.analysis.style import color, subplots

NAME, TITLE, SECTION = "embedding", "The token embedding in two dimensions", "Inside the model"
MAX_POINTS = 3_000  # tokens that are shown, the most frequent ones
MAX_LABELS = 110
NEIGHBOURS, TABLE_ROWS = 5, 60  # neighbours per token in the table, and tokens


class Plane(NamedTuple):
    """The projection onto the first two principal components.

    Attributes:
        points: (vectors, 2), coordinates.
        shares: (2,), the fraction of the variance that each component explains.
    """

    points: Tensor
    shares: Tensor


def principal_plane(vectors: Tensor) -> Plane:
    """The first two principal components, from a singular value decomposition of the centred vectors.

    Args:
        vectors: (vectors, width).
    """
    centred = vectors.float() - vectors.float().mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    variance = values.square()
    return Plane(left[:, :2] * values[:2], variance[:2] / variance.sum().clamp(min=1e-30))


def nearest_neighbours(vectors: Tensor, indices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest vectors by cosine similarity, without the vector itself.

    Args:
        vectors: (vectors, width).
        indices: (queries,), the vectors whose neighbours are returned.
        count: neighbours per query.

    Returns:
        Cosine similarities and indices, both (queries, count), the nearest first.
    """
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
    cosines = unit[indices] @ unit.T
    cosines[torch.arange(len(indices)), indices] = -torch.inf
    best = cosines.topk(min(count, len(vectors) - 1))
    return best.values, best.indices


def figure(loaded: LoadedModel) -> Figure:
    """The tokens of the held-out text, projected onto their first two principal components."""
    tokenizer = loaded.model.tokenizer
    count = loss_by_token(loaded.losses, tokenizer.vocab_size).count
    by_frequency = np.argsort(-count, kind="stable")
    tokens = by_frequency[: min(int((count > 0).sum()), MAX_POINTS)]
    if len(tokens) < 3:
        raise ValueError("fewer than three different tokens occur in the held-out text")
    vectors = loaded.gpt.wte.weight.detach().cpu()[torch.from_numpy(tokens)]
    plane = principal_plane(vectors)
    names = [token_label(tokenizer, int(token)) for token in tokens]
    kinds = [token_kind(tokenizer, int(token)) for token in tokens]
    points = plane.points.numpy()

    def draw() -> MplFigure:
        fig, axes = subplots(width=8.4, height=6.4)
        for index, (name, members) in enumerate(GROUPS):
            chosen = [i for i, kind in enumerate(kinds) if kind in members]
            if chosen:
                axes.scatter(points[chosen, 0], points[chosen, 1], s=13, color=color(index), label=name, alpha=0.75)
        axes.set_xlabel(f"first component ({float(plane.shares[0]):.1%} of the variance)")
        axes.set_ylabel(f"second component ({float(plane.shares[1]):.1%})")
        fig.legend(loc="outside lower center", ncols=3, fontsize=9)
        placer = LabelPlacer(fig, axes, size=8)
        placed = 0
        for i, name in enumerate(names):
            placed += placer.place(points[i, 0], points[i, 1], drawable(shortened(name, 12)))
            if placed == MAX_LABELS:
                break
        return fig

    listed = torch.arange(min(TABLE_ROWS, len(tokens)))
    cosines, nearest = nearest_neighbours(vectors, listed, NEIGHBOURS)
    cells: list[list[Cell]] = [
        [
            names[i],
            int(count[tokens[i]]),
            *(f"{names[int(n)]}  {float(c):.2f}" for c, n in zip(cosines[i], nearest[i], strict=True)),
            *([None] * (NEIGHBOURS - nearest.size(1))),
        ]
        for i in range(len(listed))
    ]
    caption = (
        "Each dot is a token; nearby tokens have similar embedding vectors, as far as two dimensions can show: they "
        f"hold {float(plane.shares.sum()):.1%} of the variance of {vectors.size(1)}. The table lists the nearest "
        "neighbours in all dimensions, by cosine similarity (1: the same direction). Of the "
        f"{tokenizer.vocab_size:,} tokens of the vocabulary, these are the {len(tokens):,} most frequent in "
        f"{loaded.losses_description}."
    )
    columns = ["token", "count", *(f"neighbour {n + 1}, cosine" for n in range(NEIGHBOURS))]
    return Figure(NAME, TITLE, loaded.with_note(caption), draw, Table(columns, cells), section=SECTION)
