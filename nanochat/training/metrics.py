"""Bits per byte, a loss that does not depend on the vocabulary, and the norm of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from torchmetrics import Metric

from nanochat.model import IGNORE


class BitsPerByte(Metric):
    """Summed cross-entropy in bits, divided by the number of UTF-8 bytes of the predicted tokens.

    The loss per token is not comparable between vocabularies, since longer tokens are harder to predict; bits per byte
    are. Special tokens add neither to the loss nor to the bytes. Sums are in float64, and are added up over devices.

    Args:
        token_bytes: the number of bytes of each token id, 0 for special tokens.

    Example:
        >>> metric = BitsPerByte([1, 2, 0])
        >>> metric.update(torch.tensor([math.log(2), math.log(8), 5.0]), torch.tensor([0, 1, 2]))
        >>> metric.compute()  # (1 bit + 3 bits) / (1 byte + 2 bytes); the special token adds nothing
        tensor(1.3333, dtype=torch.float64)
    """

    higher_is_better = False
    full_state_update = False
    nats: Tensor
    bytes: Tensor

    def __init__(self, token_bytes: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("token_bytes", torch.tensor(token_bytes), persistent=False)
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("bytes", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, losses: Tensor, targets: Tensor) -> None:
        """Adds predictions.

        Args:
            losses: the cross-entropy of each target, in nats, of any shape.
            targets: their token ids, of the same shape, or ``IGNORE``.
        """
        assert isinstance(self.token_bytes, Tensor)
        sizes = torch.where(targets == IGNORE, 0, self.token_bytes[targets.clamp(min=0)])
        self.nats += torch.where(sizes > 0, losses, 0.0).sum(dtype=torch.float64)
        self.bytes += sizes.sum()

    def compute(self) -> Tensor:
        """Bits per byte of all predictions so far; NaN if there were none."""
        return self.nats / (math.log(2) * self.bytes)


def gradient_norm(parameters: Iterable[Parameter]) -> Tensor:
    """The 2-norm of the gradients of all parameters together; of sharded gradients, over all devices."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
