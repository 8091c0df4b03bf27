"""Row-wise Adagrad, for tables of which a step reads a few rows only."""

from __future__ import annotations

from torch import Tensor

EPS = 1e-10


def step_rows(table: Tensor, gradient: Tensor, strength: Tensor, lr: float) -> None:
    """Moves each row that was looked up against its gradient, in place; all others stay as they are.

    Adagrad (Duchi et al. 2011) with one learning rate for each row (as for the embeddings of DLRM, arXiv 1906.00091):
    ``G += mean(g^2)``, ``row -= lr g / sqrt(G)``. A row takes its first step in full, and smaller ones the more often
    it is looked up. It needs one number of state for a row; Adam's averages would be two rows, and would fade while
    a row waits for its next turn.

    Args:
        table: (rows, width).
        gradient: the same shape, dense or sparse.
        strength: (rows,): G; changed in place.
        lr: learning rate.
    """
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        strength[rows] += values.square().mean(-1)
        table.index_add_(0, rows, values * (-lr / (strength[rows].sqrt() + EPS)).unsqueeze(1))
    else:  # a row that was not looked up has no gradient, and so stays where it is
        strength += gradient.square().mean(-1)
        table.addcmul_(gradient, (-lr / (strength.sqrt() + EPS)).unsqueeze(1))
