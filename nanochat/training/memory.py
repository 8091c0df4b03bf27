"""What a run will need of memory, reckoned before its first step."""

from __future__ import annotations

from nanochat.model import GPT

PROCESS = 450_000_000  # Python with torch and Lightning imported, before there is a model
WORKSPACE = 1.15  # what the allocator and the libraries take on top


def training_memory(gpt: GPT, rows: int, row_length: int, activation_bytes: int) -> int:
    """Bytes to train: weights, gradients, optimizer state, and activations of one micro-step.

    Args:
        gpt: the model.
        rows: rows in a micro-step, on one device.
        row_length: tokens in a row.
        activation_bytes: 4 in float32, 2 in bfloat16.
    """
    shape = gpt.shape
    blocks = sum(p.numel() for p in gpt.blocks.parameters())
    tables = gpt.num_parameters - blocks
    # float32 weight, gradient and Muon's momentum; AdamW keeps two averages. Muon works on one stack of matrices of
    # one shape at a time: momentum look-ahead, its copy and three products of the MLP's size, of all blocks.
    parameters = blocks * 4 * 3 + tables * 4 * 4 + 4 * 4 * shape.depth * 4 * shape.width**2
    # kept for the backward pass, in widths per token and block: norms, q, k and v with their rotations, attention's
    # output, and the MLP's hidden layer (four widths wide) before and after ReLU and its square
    per_token = shape.depth * (14 + 12) * shape.width * activation_bytes
    logits = min(rows * row_length * gpt.vocab_size, 2**25) * 4 * 4  # the capped logits, their gradients and copies
    return int(rows * row_length * per_token + logits + parameters)
