"""Averages of the training losses since they were last logged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nanochat.training.metrics import BitsPerByte


class LossAverages:
    """Accumulates the losses of micro-steps on the training device, without synchronising with it.

    Args:
        token_bytes: the number of bytes of each token id, see :class:`BitsPerByte`.
        device: of the losses.
    """

    def __init__(self, token_bytes: Sequence[int], device: torch.device) -> None:
        self._bits_per_byte = BitsPerByte(token_bytes).to(device)
        self._loss_sum = torch.zeros((), device=device)
        self._micro_steps = 0

    def update(self, loss: Tensor, losses: Tensor, targets: Tensor) -> None:
        """Adds a micro-step.

        Args:
            loss: its mean loss, a scalar.
            losses: the loss of each target in nats, (rows, time).
            targets: token ids or ``IGNORE``, (rows, time).
        """
        self._bits_per_byte.update(losses, targets)
        self._loss_sum += loss.detach()
        self._micro_steps += 1

    def loss(self) -> Tensor:
        """The mean loss per token in nats on this device."""
        return self._loss_sum / self._micro_steps

    def bits_per_byte(self) -> Tensor:
        """Bits per byte over all devices. Every process has to call it."""
        return self._bits_per_byte.compute().float()

    def reset(self) -> None:
        """Starts new averages."""
        self._bits_per_byte.reset()
        self._loss_sum.zero_()
        self._micro_steps = 0

    def state_dict(self) -> dict[str, Any]:
        """The sums, for a checkpoint: they belong to the next line of the log."""
        return {"sums": [value.clone().cpu() for value in self._sums()], "count": self._micro_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        for value, saved in zip(self._sums(), state["sums"], strict=True):
            value.copy_(saved)
        self._micro_steps = state["count"]

    def _sums(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._loss_sum, self._bits_per_byte.nats, self._bits_per_byte.bytes
