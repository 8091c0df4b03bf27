"""The residual stream after each block, and the logits that the output head computes from it (the logit lens).

Each block adds to the residual stream, so the stream is in the same space after every block, and the head can read it
anywhere (nostalgebraist, "interpreting GPT: the logit lens", 2020). The model's last norm is applied before the head,
and the soft cap after it, as at the end of the model.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Runs the model, and passes its residual stream at each depth to a callback.

    Args:
        gpt: the model.
        ids: (batch, time), int64.
        callback: called with 0 and the normed embedding, then with n and the stream after n blocks, (batch, time,
            n_embd).
    """
    with ExitStack() as stack:

        def before_blocks(module: Any, inputs: tuple[Any, ...]) -> None:
            callback(0, inputs[0])

        stack.callback(gpt.blocks[0].register_forward_pre_hook(before_blocks).remove)
        for depth, block in enumerate(gpt.blocks, 1):

            def after_block(module: Any, inputs: Any, output: Tensor, depth: int = depth) -> None:
                callback(depth, output)

            stack.callback(block.register_forward_hook(after_block).remove)
        gpt.hidden(ids)


def logits_by_depth(gpt: GPT, ids: Tensor) -> Tensor:
    """The logits after each number of blocks, the last of which are the model's own.

    Args:
        gpt: the model.
        ids: (batch, time), int64; a short text, as all logits are in memory at once.

    Returns:
        (n_layer + 1, batch, time, vocab_size), float32.
    """
    logits: list[Tensor] = []
    record_residual_stream(gpt, ids, lambda depth, x: logits.append(gpt.unembed(x).cpu()))
    return torch.stack(logits)


def mean_loss_by_depth(gpt: GPT, rows: HeldOut, bos: int) -> tuple[Tensor, int]:
    """The mean loss of held-out tokens after each number of blocks.

    Args:
        gpt: the model.
        rows: held-out rows; all of them are read.
        bos: id of ``<|bos|>``.

    Returns:
        (n_layer + 1,), float64, in nats per token, the last one the model's own loss; and the number of tokens.
    """
    total = torch.zeros(gpt.config.n_layer + 1, dtype=torch.float64)
    count = 0
    device = gpt.device
    for batch, batch_targets in HeldOutBatches(rows, len(rows), bos):
        ids, targets = batch.to(device), batch_targets.to(device)

        def add_losses(depth: int, x: Tensor, targets: Tensor = targets) -> None:
            losses = token_losses(norm(x).flatten(0, 1), gpt.lm_head.weight, targets.flatten())
            total[depth] += losses.double().sum().cpu()

        record_residual_stream(gpt, ids, add_losses)
        count += int((targets != IGNORE).sum())
    return total / max(count, 1), count
