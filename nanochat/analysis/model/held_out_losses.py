"""The loss of each held-out token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanochat.data.tokens.batches import HeldOutBatches
from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.model import GPT, IGNORE

# Bounds of a passage's length in tokens.
MIN_PASSAGE, MAX_PASSAGE = 120, 320


@dataclass(frozen=True)
class HeldOutLosses:
    """The losses of held-out tokens, sorted by row and position.

    Attributes:
        row: (tokens,), index of the row that the token is in.
        position: (tokens,), number of tokens of the row before it, at least 1.
        token: (tokens,), the token's id.
        nats: (tokens,), its loss: -log p.
        first_ids: (rows,), the first id of each row.
    """

    row: NDArray[np.int64]
    position: NDArray[np.int64]
    token: NDArray[np.int64]
    nats: NDArray[np.float64]
    first_ids: NDArray[np.int64]


class HeldOutSubset(HeldOut):
    """A selection of held-out rows.

    Args:
        rows: all rows.
        indices: the rows to select.
    """

    def __init__(self, rows: HeldOut, indices: Sequence[int]) -> None:
        self.rows, self.indices, self.length = rows, indices, rows.length
        self.sizes = rows.sizes[np.array(indices, np.int64)]

    def example(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.rows.example(self.indices[index])


@torch.inference_mode()
def held_out_losses(gpt: GPT, rows: HeldOut, bos: int) -> HeldOutLosses:
    """The loss of each token of held-out rows.

    Args:
        gpt: the model.
        rows: the rows; all of them are read.
        bos: id of ``<|bos|>``.
    """
    batches = HeldOutBatches(rows, len(rows), bos)
    columns: list[tuple[NDArray[Any], ...]] = []
    first_ids = np.zeros(len(rows), np.int64)
    for indices, (ids, targets) in zip(batches.batches, batches, strict=True):
        device = gpt.device
        nats = gpt.losses(ids.to(device), targets.to(device)).cpu()
        first_ids[indices] = ids[: len(indices), 0].numpy()
        row, time = (targets != IGNORE).nonzero(as_tuple=True)
        columns.append((np.array(indices)[row], time.numpy() + 1, targets[row, time].numpy(), nats[row, time].numpy()))
    row_, position, token, losses = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((position, row_))
    return HeldOutLosses(row_[order], position[order], token[order], losses[order].astype(np.float64), first_ids)


def median_row(losses: HeldOutLosses, bos: int) -> int:
    """Index of the row with the median mean loss, of the rows that start a document and have a passage's length."""
    count = np.bincount(losses.row, minlength=len(losses.first_ids))
    last = np.zeros(len(losses.first_ids), np.int64)
    np.maximum.at(last, losses.row, losses.position)
    mean = np.bincount(losses.row, losses.nats, len(losses.first_ids)) / np.maximum(count, 1)
    starts_document = (losses.first_ids == bos) & (count > 0)
    suitable = starts_document & (last >= MIN_PASSAGE) & (last <= MAX_PASSAGE)
    if not suitable.any():  # use the rows whose length is closest
        candidates = starts_document if starts_document.any() else count > 0
        distance = np.where(candidates, np.abs(last - MIN_PASSAGE), np.inf)
        suitable = distance <= np.sort(distance)[min(8, np.isfinite(distance).sum() - 1)]
    indices = np.flatnonzero(suitable)
    return int(indices[np.argsort(mean[indices], kind="stable")[(len(indices) - 1) // 2]])
