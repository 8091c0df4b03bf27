"""Muon's step: momentum, Newton-Schulz orthogonalisation, update."""

from __future__ import annotations

import torch
from torch import Tensor

# Keller Jordan's quintic (kellerjordan.github.io/posts/muon): its slope at zero is steep, so that five iterations raise
# even small singular values; it does not converge to 1 but stays between 0.7 and 1.2, which trains as well.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5
EPS = 1e-7  # a matrix of zeros stays one


def band_rows(rows: int, band: int | None) -> int:
    """Rows that are orthogonalized together: a band if it divides the matrix's rows, else all."""
    return band if band is not None and rows % band == 0 else rows


def orthogonalize(matrices: Tensor, band: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Replaces the singular values of each matrix by about 1, with matrix products alone (Newton-Schulz).

    A few directions dominate the momentum of the gradient. Muon gives all directions the same weight.

    The cost for a whole matrix grows with the cube of its width. Cut into bands of rows, each treated as a matrix of
    its own, it costs a fraction of that, and small models learn at least as well from it (benchmarks/README.md; Khaled
    et al. 2025, arXiv 2510.16981, do the same with the parts of a matrix on different devices).

    Args:
        matrices: (count, rows, columns), all of one shape.
        band: rows in a band, if that divides the rows; None for whole matrices.
        dtype: precision of the products, where it makes them faster; that of the matrices if None.

    Returns:
        The same shape and dtype.
    """
    together = band_rows(matrices.size(-2), band)
    if together < matrices.size(-2):
        return orthogonalize(matrices.reshape(-1, together, matrices.size(-1)), None, dtype).view_as(matrices)
    dtype = dtype or matrices.dtype
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices  # the products below are between the shorter sides
    oblong = x.size(-1) >= 2 * x.size(-2) and (dtype == torch.float32 or x.device.type == "cpu")
    x = _iterate_gram(x) if oblong else _iterate(x.to(dtype)).to(x.dtype)
    return x.mT if tall else x


def _iterate(x: Tensor) -> Tensor:
    """Five iterations of ``X <- a X + b (X X^T) X + c (X X^T)^2 X``."""
    a, b, c = QUINTIC
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + EPS)  # now no singular value is above 1
    for _ in range(STEPS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b A + c A^2
        x = torch.baddbmm(x, polynomial, x, beta=a)  # a X + (b A + c A^2) X
    return x


def _iterate_gram(x: Tensor) -> Tensor:
    """The same five iterations for matrices at least twice as long as wide, in about half as many operations.

    Each iteration multiplies X from the left by a polynomial in ``A = X X^T``, and so multiplies A by the square of
    that polynomial, since all of these commute. So the iterations need only A, a square of the shorter side, and X
    enters at the end. A's eigenvalues are the squares of X's singular values, too small for bfloat16: A and the
    polynomials are in float32 whatever X is. On a CPU this still takes half the time of iterations in bfloat16; GPUs
    were not compared. The trace of A is the squared norm of X.
    """
    a, b, c = QUINTIC
    exact = x.float()
    gram = exact @ exact.mT
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].sqrt() + EPS
    gram /= size.square()  # now no singular value is above 1
    product: Tensor | None = None  # of the polynomials so far
    for step in range(STEPS):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial if product is None else polynomial @ product
        if step < STEPS - 1:
            gram = gram @ (polynomial @ polynomial)
    assert product is not None
    return (product / size).to(x.dtype) @ x


def nesterov(gradients: list[Tensor], momentums: list[Tensor], momentum: float) -> Tensor:
    """Updates the momentum buffers in place and returns Nesterov's look-ahead.

    Args:
        gradients: matrices of one shape, (rows, columns).
        momentums: running averages of the gradients; changed in place.
        momentum: weight of the past in the average, from 0 to 1.

    Returns:
        (count, rows, columns)
    """
    torch._foreach_lerp_(momentums, gradients, 1 - momentum)
    look_ahead = torch.empty(len(gradients), *gradients[0].shape, dtype=gradients[0].dtype, device=gradients[0].device)
    for out, gradient, average in zip(look_ahead, gradients, momentums, strict=True):
        torch.lerp(gradient, average, momentum, out=out)
    return look_ahead


def apply_update(
    parameters: list[Tensor], updates: list[Tensor], rows: int, columns: int, lr: float, weight_decay: float
) -> None:
    """Subtracts the scaled updates from matrices of one shape, in place.

    The update is scaled by ``sqrt(max(1, rows / columns))``, so that a learning rate found for square matrices
    serves tall ones as well. (The squares of a scaled update then sum to the number of a matrix's rows, whatever its
    shape and its bands.)

    Args:
        parameters: the matrices, or the rows of them that this process holds.
        updates: orthogonalized, of the same sizes.
        rows: rows that were orthogonalized together: a whole matrix, or a band.
        columns: columns of a matrix.
        lr: learning rate.
        weight_decay: decoupled, per unit of learning rate.
    """
    if weight_decay:
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
    torch._foreach_add_(parameters, updates, alpha=-lr * max(1.0, rows / columns) ** 0.5)
