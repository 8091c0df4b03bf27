"""The logit lens: what the model would answer if it ended after each of its blocks.

The residual stream between the blocks is in the space that the head reads, because each block only adds to it; so the
head can be asked after any of them (nostalgebraist, "interpreting GPT: the logit lens", 2020). As at the end of the
model, its last norm comes before the head and the soft cap after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from nanochat.data.tokens.batches import HeldOutBatches
from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.model import GPT, IGNORE
from nanochat.model.layers import norm
from nanochat.model.loss import token_losses


@torch.inference_mode()
def record_residual_stream(gpt: GPT, ids: Tensor, callback: Callable[[int, Tensor], None]) -> None:
    """Runs the model and hands over its residual stream at each depth, by hooks.

    Args:
        gpt: the model.
        ids: (batch, time), int64.
        take: is called with 0 and the normed embedding, then with n and the stream after n blocks:
            (batch, time, width).
    """
    with ExitStack() as stack:

        def enters(module: Any, inputs: tuple[Any, ...]) -> None:
            callback(0, inputs[0])

        stack.callback(gpt.blocks[0].register_forward_pre_hook(enters).remove)
        for depth, block in enumerate(gpt.blocks, 1):

            def leaves(module: Any, inputs: Any, output: Tensor, depth: int = depth) -> None:
                callback(depth, output)

            stack.callback(block.register_forward_hook(leaves).remove)
        gpt.hidden(ids)


def logits_by_depth(gpt: GPT, ids: Tensor) -> Tensor:
    """The logits after each number of blocks: (depth + 1, batch, time, vocabulary), float32; the last are the model's.

    Args:
        gpt: the model.
        ids: (batch, time), int64; few, as all logits are held at once.
    """
    found: list[Tensor] = []
    record_residual_stream(gpt, ids, lambda depth, x: found.append(gpt.unembed(x).cpu()))
    return torch.stack(found)


def mean_loss_by_depth(gpt: GPT, rows: HeldOut, bos: int) -> tuple[Tensor, int]:
    """The mean loss of held-out tokens after each number of blocks.

    Args:
        gpt: the model.
        rows: all of them are read.
        bos: the id of ``<|bos|>``.

    Returns:
        (depth + 1,) in nats per token, float64, the last of them the model's own; and the number of tokens.
    """
    total = torch.zeros(gpt.config.n_layer + 1, dtype=torch.float64)
    count = 0
    for ids, targets in _on(gpt, HeldOutBatches(rows, len(rows), bos)):

        def add(depth: int, x: Tensor, targets: Tensor = targets) -> None:
            losses = token_losses(norm(x).flatten(0, 1), gpt.lm_head.weight, targets.flatten())
            total[depth] += losses.double().sum().cpu()

        record_residual_stream(gpt, ids, add)
        count += int((targets != IGNORE).sum())
    return total / max(count, 1), count


def _on(gpt: GPT, batches: HeldOutBatches) -> Iterator[tuple[Tensor, Tensor]]:
    device = gpt.device
    for ids, targets in batches:
        yield ids.to(device), targets.to(device)
