"""Muon's step: momentum, then the nearest matrix whose directions all have the same strength."""

from __future__ import annotations

import torch
from torch import Tensor

# Keller Jordan's quintic (kellerjordan.github.io/posts/muon): its slope at zero is steep, so that five rounds lift
# even weak directions; it does not converge to 1 but hovers between 0.7 and 1.2, which serves training as well.
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Replaces the singular values of each matrix by about 1, with matrix products alone (Newton-Schulz).

    A gradient's momentum is dominated by a few directions. Muon gives every direction the same say.

    Args:
        matrices: (count, rows, columns): matrices of one shape go through together.

    Returns:
        The same shape and dtype.
    """
    a, b, c = QUINTIC
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices  # the products below are between the shorter sides
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # now no singular value is above 1
    for _ in range(STEPS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b A + c A^2
        x = torch.baddbmm(x, polynomial, x, beta=a)  # a X + (b A + c A^2) X
    return x.mT if tall else x


def muon_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    momentums: list[Tensor],
    lr: float,
    momentum: float,
    weight_decay: float,
    dtype: torch.dtype,
) -> None:
    """One step of Muon with Nesterov momentum, in place, for matrices of one shape.

    The update is scaled by ``sqrt(max(1, rows / columns))``, so that a learning rate found for square matrices
    serves tall ones as well.

    Args:
        parameters: matrices of one shape.
        gradients: theirs.
        momentums: running averages of the gradients; changed in place.
        lr: learning rate: about how far each direction of a matrix moves.
        momentum: weight of the past in the average, from 0 to 1.
        weight_decay: fraction of the weight taken away per unit of learning rate.
        dtype: precision of the matrix products (the result is rounded to float32 weights anyway).
    """
    rows, columns = parameters[0].shape
    torch._foreach_lerp_(momentums, gradients, 1 - momentum)
    nesterov = torch._foreach_lerp(gradients, momentums, momentum)
    update = orthogonalize(torch.stack(nesterov).to(dtype)).to(parameters[0].dtype)
    if weight_decay:
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
    scale = max(1.0, rows / columns) ** 0.5
    torch._foreach_add_(parameters, list(update.unbind()), alpha=-lr * scale)
