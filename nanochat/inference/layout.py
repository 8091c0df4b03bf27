"""The weights of a GPT as a CPU reads them fastest when a few rows at a time pass through."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nanochat.model import GPT, Shape
from nanochat.model.layers import Block
from nanochat.model.loss import SOFTCAP

FEW = 4  # rows: below, a matrix is read best along its long side, from there on along its outputs


class Layer(NamedTuple):
    """The matrices of a block, as :func:`split` leaves them.

    Attributes:
        query_key_value: for each key/value head, its query heads, the key and the value, one product for all.
        output: adds what attention found to the stream.
        expand: into the MLP.
        contract: out of it; adds to the stream.
    """

    query_key_value: Tensor
    output: Tensor
    expand: Tensor
    contract: Tensor


class Parts(NamedTuple):
    """Into how many parts the outputs of each kind of product are split."""

    heads: int
    stream: int
    inner: int
    vocabulary: int


def choose_parts(shape: Shape, vocab_size: int) -> Parts:
    """One part for each of torch's threads, or a few more where the sizes do not divide.

    torch's product of one row with a matrix runs in one thread, however many there are, and its product of eight rows
    hardly gains by a second one; but of a batch of products each thread takes its share. So each matrix is cut into a
    batch of narrower ones.
    """
    threads = torch.get_num_threads()

    def parts(outputs: int) -> int:
        return next((n for n in range(threads, 4 * threads) if outputs % n == 0), 1)

    return Parts(parts(shape.kv_heads), parts(shape.width), parts(4 * shape.width), parts(vocab_size))


def split(weight: Tensor, factor: float, parts: int, few: bool) -> Tensor:
    """Copies a matrix, cut into parts of its outputs.

    The order in memory is the one that products read fastest. For many rows these are the inputs, one after the other,
    each with all outputs of the part. For a single row the long side must lie together: reading 2,048 to 512 takes
    0.18 ms by the outputs, 0.35 ms by the inputs; 512 to 2,048 takes 0.29 and 0.20 ms (one thread).

    Args:
        weight: (outputs, inputs), as in :class:`torch.nn.Linear`.
        factor: what to multiply it by.
        parts: a divisor of the outputs.
        few: whether fewer than :data:`FEW` rows are expected at a time.

    Returns:
        (parts, inputs, outputs / parts), float32.
    """
    outputs, inputs = weight.shape
    by_output = (weight.float() * factor).view(parts, outputs // parts, inputs)
    return by_output.mT if few and inputs > outputs else by_output.mT.contiguous()


def lay_out(gpt: GPT, parts: Parts, streams: int) -> tuple[list[Layer], Tensor]:
    """Copies the weights of the blocks and of the head.

    Factors that would cost an operation for each token go into the weights, once. The stream is carried divided by
    sqrt(width), so that its RMSNorm is a division by its Euclidean length, and each matrix makes up for that. The head
    gives logits divided by the cap, ready for tanh.

    Args:
        gpt: the model, on a CPU.
        parts: as :func:`choose_parts` says.
        streams: how many rows are expected at a time.

    Returns:
        The matrices of the blocks, and the head's.
    """
    root, few = gpt.shape.width**0.5, streams < FEW
    layers = []
    for block in gpt.blocks:
        assert isinstance(block, Block)
        layers.append(
            Layer(
                split(query_key_value(block, gpt.shape), root, parts.heads, few),
                split(block.attention.output.weight, 1 / root, parts.stream, few),
                split(block.mlp.expand.weight, root, parts.inner, few),
                split(block.mlp.contract.weight, 1 / root, parts.stream, few),
            )
        )
    return layers, split(gpt.head.weight, root / SOFTCAP, parts.vocabulary, few)


def query_key_value(block: Block, shape: Shape) -> Tensor:
    """The three matrices of attention in one, by key/value heads.

    In queries and keys the two numbers of a rotated pair, which the model keeps half a head apart, come next to each
    other: as one complex number they turn by a single product. Attention, which sums over the head, does not notice.

    Returns:
        (kv_heads * (heads / kv_heads + 2) * head_dim, width): for each key/value head, its queries, key and value.
    """
    attention, size = block.attention, (shape.kv_heads, -1, shape.head_dim, shape.width)

    def pairs(weight: Tensor) -> Tensor:
        halves = weight.view(-1, 2, shape.head_dim // 2, shape.width)
        return halves.transpose(1, 2).reshape(size)

    query, key = pairs(attention.query.weight), pairs(attention.key.weight)
    return torch.cat((query, key, attention.value.weight.view(size)), 1).view(-1, shape.width)
