"""The embedding in two dimensions, and which tokens lie near each other."""

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

NAME, TITLE, SECTION = "embedding", "The embedding in two dimensions", "Inside the model"
DOTS = 3_000  # tokens that are shown at most, the most frequent ones
NAMED = 110  # of them with a name, where there is room
NEIGHBOURS, LISTED = 5, 60  # of each token in the table, and how many tokens it has


class Plane(NamedTuple):
    """The two directions in which vectors differ most.

    Attributes:
        points: (vectors, 2), where each vector lies on the plane.
        shares: (2,), of the whole variance: what each direction explains.
    """

    points: Tensor
    shares: Tensor


def principal_plane(vectors: Tensor) -> Plane:
    """Principal components by a singular value decomposition of the centred vectors.

    Args:
        vectors: (vectors, width).
    """
    centred = vectors.float() - vectors.float().mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    variance = values.square()
    return Plane(left[:, :2] * values[:2], variance[:2] / variance.sum().clamp(min=1e-30))


def neighbours(vectors: Tensor, of: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest vectors by the cosine of the angle between them, the vector itself left out.

    Args:
        vectors: (vectors, width).
        of: (some,), numbers of those whose neighbours are wanted.
        count: of neighbours.

    Returns:
        Cosines and numbers of the vectors, both (some, count), the nearest first.
    """
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
    cosines = unit[of] @ unit.T
    cosines[torch.arange(len(of)), of] = -torch.inf
    best = cosines.topk(min(count, len(vectors) - 1))
    return best.values, best.indices


def figure(loaded: LoadedModel) -> Figure:
    """The tokens that come in the held-out text, on the plane of their two principal components."""
    tokenizer = loaded.model.tokenizer
    count = loss_by_token(loaded.losses, tokenizer.vocab_size).count
    order = np.argsort(-count, token_kind="stable")
    tokens = order[: min(int((count > 0).sum()), DOTS)]
    if len(tokens) < 3:
        raise ValueError("too few tokens come in the held-out text")
    vectors = loaded.gpt.wte.weight.detach().cpu()[torch.from_numpy(tokens)]
    points, shares = principal_plane(vectors)
    names = [token_label(tokenizer, int(token)) for token in tokens]
    kinds = [token_kind(tokenizer, int(token)) for token in tokens]
    at = points.numpy()

    def draw() -> MplFigure:
        fig, axes = subplots(width=8.4, height=6.4)
        for index, (name, members) in enumerate(GROUPS):
            chosen = [place for place, its in enumerate(kinds) if its in members]
            if chosen:
                axes.scatter(at[chosen, 0], at[chosen, 1], s=13, color=color(index), label=name, alpha=0.75)
        axes.set_xlabel(f"first component ({float(shares[0]):.1%} of the variance)")
        axes.set_ylabel(f"second component ({float(shares[1]):.1%})")
        fig.legend(loc="outside lower center", ncols=3, fontsize=9)
        placer = LabelPlacer(fig, axes, size=8)
        written = 0
        for place in range(len(tokens)):
            written += placer.write(at[place, 0], at[place, 1], drawable(shortened(names[place], 12)))
            if written == NAMED:
                break
        return fig

    listed = torch.arange(min(LISTED, len(tokens)))
    cosines, near = neighbours(vectors, listed, NEIGHBOURS)
    cells: list[list[Cell]] = [
        [
            names[place],
            int(count[tokens[place]]),
            *(f"{names[int(n)]}  {float(c):.2f}" for c, n in zip(cosines[place], near[place], strict=True)),
            *([None] * (NEIGHBOURS - near.size(1))),
        ]
        for place in range(len(listed))
    ]
    caption = (
        "Each dot is a token; two that lie near each other are alike to the model, as far as two dimensions "
        f"can show: these hold {float(shares.sum()):.1%} of the variance of {vectors.size(1)}. The table has nearest "
        "neighbours in all dimensions, by the cosine of the angle (1: the same direction). Tokens that come in "
        f"{loaded.losses_description}: of {tokenizer.vocab_size:,} in the vocabulary, the {len(tokens):,} most "
        "frequent."
    )
    columns = ["token", "times", *(f"neighbour {n + 1}, cosine" for n in range(NEIGHBOURS))]
    return Figure(NAME, TITLE, loaded.with_note(caption), draw, Table(columns, cells), section=SECTION)
