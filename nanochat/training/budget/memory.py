"""Estimates of the memory that a run needs, made before its first step.

benchmarks/README.md, "Memory estimate", compares the estimates with measurements.
"""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from nanochat.data.tokens.batches import VAL_BATCH_TOKENS, number_of_lengths
from nanochat.model import GPT
from nanochat.model.loss import CHUNK_ELEMENTS, GPU_CHUNK_ELEMENTS
from nanochat.training.hardware import matmul_dtype
from nanochat.training.language_model import LanguageModel
from nanochat.training.sharding import FullyShardedStrategy
from nanochat.training.trainer_state import data_of

PROCESS_BYTES = 500_000_000  # a process with torch and Lightning imported, without a model
COMPILER_BYTES = 100_000_000  # added to it by torch.compile
ALLOCATOR_OVERHEAD = 1.15  # factor for what the allocator and the libraries need beyond the tensors
ONEDNN_BYTES_PER_SHAPE = 10_200_000  # buffers that oneDNN keeps for each batch shape in bfloat16; none in float32

# Numbers saved for the backward pass, per token and block, in units of the width. On a CPU: the norms, q, k and v
# before and after rotation, attention's output, and the MLP's hidden layer (4 widths) before and after ReLU and its
# square. On a GPU the norm and attention save only their inputs: 18 both in autograd and in torch.compile's partition,
# and attention's log-sum-exp.
SAVED_WIDTHS_CPU, SAVED_WIDTHS_GPU = 26, 18.1
# Numbers that exist at the same time in a block without gradients, per token, in units of the width, without attention
# scores: the residual stream, its norm, q, k and v before and after rotation, and attention's output.
INFERENCE_WIDTHS = 9


def training_memory(
    gpt: GPT, rows: int, row_length: int, activation_bytes: int, shards: int = 1, on_gpu: bool = False
) -> int:
    """Bytes for training: weights, gradients, optimizer state, and the activations of one micro-step.

    Args:
        gpt: the model.
        rows: rows in a micro-step, on one device.
        row_length: tokens in a row.
        activation_bytes: 4 in float32, 2 in bfloat16.
        shards: devices that share weights, gradients and optimizer state (FSDP).
        on_gpu: whether the devices are GPUs, which save less of a micro-step but compute more logits at a time.
    """
    step = step_memory(gpt, rows, row_length, activation_bytes, on_gpu)
    return state_memory(gpt, activation_bytes, shards) + max(step, muon_memory(gpt, shards))


def state_memory(gpt: GPT, activation_bytes: int, shards: int = 1) -> int:
    """Bytes of weights, gradients and optimizer state; the arguments are those of :func:`training_memory`."""
    blocks = gpt.num_block_parameters
    tables = gpt.num_parameters - blocks  # embedding and head
    # float32: weight, gradient and Muon's momentum; for the tables weight, gradient and AdamW's two averages
    state = blocks * 4 * 3 + tables * 4 * 4
    if shards > 1:  # FSDP gathers the tables, the current block and the next one, each with its gradient
        gathered = 2 * (tables + 2 * blocks // gpt.config.n_layer) * activation_bytes
        state = state // shards + gathered
    return state


def muon_memory(gpt: GPT, shards: int = 1) -> int:
    """Bytes of Muon's temporaries, which exist when the activations are freed.

    Muon updates one stack of matrices of equal shape at a time. The largest is the MLP's, of all blocks: the momentum
    look-ahead, its copy and three products.
    """
    return 4 * 4 * gpt.config.n_layer * 4 * gpt.config.n_embd**2 // shards


def step_memory(gpt: GPT, rows: int, row_length: int, activation_bytes: int, on_gpu: bool = False) -> int:
    """Bytes of the activations of one micro-step; the arguments are those of :func:`training_memory`."""
    config = gpt.config
    widths, chunk = (SAVED_WIDTHS_GPU, GPU_CHUNK_ELEMENTS) if on_gpu else (SAVED_WIDTHS_CPU, CHUNK_ELEMENTS)
    per_token = config.n_layer * widths * config.n_embd * activation_bytes
    logits = min(rows * row_length * gpt.vocab_size, chunk) * 4 * 4  # capped logits, their gradients and copies
    return int(rows * row_length * per_token + logits)


def validation_memory(gpt: GPT, row_length: int, activation_bytes: int) -> int:
    """Bytes of the activations of a validation batch: of one block, or of the logits.

    Args:
        gpt: the model.
        row_length: longest row, in tokens.
        activation_bytes: 4 in float32, 2 in bfloat16.
    """
    config = gpt.config
    scores = 2 * config.n_head * row_length  # attention scores of a token before and after the softmax
    block = VAL_BATCH_TOKENS * (INFERENCE_WIDTHS * config.n_embd + scores) * activation_bytes
    # logits, and in float32 the capped logits and their log-probabilities
    logits = min(VAL_BATCH_TOKENS * gpt.vocab_size, CHUNK_ELEMENTS) * (activation_bytes + 4 + 4)
    return max(block, logits)


def onednn_memory(trainer: Trainer, shapes: int) -> int:
    """Bytes that oneDNN keeps for this number of batch shapes: on a CPU in bfloat16, else 0."""
    in_bf16 = matmul_dtype(str(trainer.precision)) == torch.bfloat16
    return ONEDNN_BYTES_PER_SHAPE * shapes if trainer.strategy.root_device.type == "cpu" and in_bf16 else 0


def expected_memory(trainer: Trainer, module: LanguageModel) -> int:
    """Bytes at the run's peak, on each device.

    A micro-step, Muon's update and a validation batch follow each other, so the largest of the three counts.
    """
    data, gpt = data_of(trainer), module.gpt
    activation_bytes = matmul_dtype(str(trainer.precision)).itemsize
    shards = trainer.world_size if isinstance(trainer.strategy, FullyShardedStrategy) else 1
    on_gpu = trainer.strategy.root_device.type == "cuda"
    training = training_memory(gpt, data.batch_size, data.row_length, activation_bytes, shards, on_gpu)
    validation = validation_memory(gpt, data.held_out.length, activation_bytes)
    validation += state_memory(gpt, activation_bytes, shards)
    needed = max(training, validation) * ALLOCATOR_OVERHEAD
    needed += onednn_memory(trainer, module.training_batch_shapes() + number_of_lengths(data.held_out.length))
    if isinstance(trainer.strategy, DDPStrategy):
        needed += 4 * gpt.num_parameters  # the buckets of gradients that DDP reduces
    if trainer.strategy.root_device.type == "cpu":
        needed += PROCESS_BYTES + (COMPILER_BYTES if module.compile_model else 0)
    return int(needed)
