"""What a run will need of memory, reckoned before its first step; what does not fit is made smaller, or refused."""

from __future__ import annotations

import psutil
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from nanochat.data.tokens.batches import VAL_BATCH_TOKENS, number_of_lengths
from nanochat.model import GPT
from nanochat.model.loss import CHUNK_ELEMENTS, GPU_CHUNK_ELEMENTS
from nanochat.training.console import say, size
from nanochat.training.hardware import available_memory, matmul_dtype
from nanochat.training.language_model import LanguageModel
from nanochat.training.sharding import FullyShardedStrategy
from nanochat.training.trainer_state import data_of

PROCESS = 500_000_000  # Python with torch and Lightning imported, before there is a model
COMPILER = 100_000_000  # what torch.compile adds to that (tiny: 674 to 740 MB instead of 638)
WORKSPACE = 1.15  # what the allocator and the libraries take on top
# What oneDNN keeps for each size of batch, to multiply in bfloat16: 10.2 MB at widths of 256 and of 512 (depth 4, torch
# 2.13, AVX-512). In float32, where other kernels multiply, it is nothing.
SIZE_BYTES = 10_200_000
LESS = "lower --model.depth, or --data.row_length, as fewer rows at a time will not do"


# Numbers kept for the backward pass, in widths per token and block. On a CPU: norms, q, k and v with their rotations,
# attention's output, and the MLP's hidden layer (four widths wide) before and after ReLU and its square. On a GPU the
# norm and attention keep only what they are given: 18 in the full tier, by what autograd saves as by what
# torch.compile's partition hands to the backward pass, and attention's sums.
KEPT, KEPT_ON_GPU = 26, 18.1
# Numbers that are there at once in a block where nothing is kept, in widths per token, without attention's scores: the
# stream, its norm, q, k and v as they are and turned, and attention's output.
SCORED = 9


def training_memory(
    gpt: GPT, rows: int, row_length: int, activation_bytes: int, shards: int = 1, on_gpu: bool = False
) -> int:
    """Bytes to train: weights, gradients, optimizer state, and activations of one micro-step.

    Args:
        gpt: the model.
        rows: rows in a micro-step, on one device.
        row_length: tokens in a row.
        activation_bytes: 4 in float32, 2 in bfloat16.
        shards: devices that share weights, gradients and the optimizer's state (FSDP).
        on_gpu: whether the devices are GPUs, which keep less of a micro-step, but hold more logits at a time.
    """
    step = step_memory(gpt, rows, row_length, activation_bytes, on_gpu)
    return state_memory(gpt, activation_bytes, shards) + max(step, muon_memory(gpt, shards))


def state_memory(gpt: GPT, activation_bytes: int, shards: int = 1) -> int:
    """Bytes of weights, gradients and optimizer state; arguments as above."""
    config = gpt.config
    blocks = gpt.num_block_parameters
    tables = gpt.num_parameters - blocks
    parameters = (
        blocks * 4 * 3 + tables * 4 * 4
    )  # float32 weight, gradient and Muon's momentum; AdamW keeps two averages
    if shards > 1:  # and gathered, with a gradient each: embedding and head, and the block that works with the next one
        gathered = 2 * (tables + 2 * blocks // config.n_layer) * activation_bytes
        parameters = parameters // shards + gathered
    return parameters


def muon_memory(gpt: GPT, shards: int = 1) -> int:
    """Bytes that Muon works with, when the activations are gone.

    One stack of matrices of one shape at a time: momentum look-ahead, its copy and three products of the MLP's size, of
    all blocks.
    """
    return 4 * 4 * gpt.config.n_layer * 4 * gpt.config.n_embd**2 // shards


def step_memory(gpt: GPT, rows: int, row_length: int, activation_bytes: int, on_gpu: bool = False) -> int:
    """Bytes of the activations of one micro-step; arguments as above."""
    config = gpt.config
    per_token = config.n_layer * (KEPT_ON_GPU if on_gpu else KEPT) * config.n_embd * activation_bytes
    chunk = GPU_CHUNK_ELEMENTS if on_gpu else CHUNK_ELEMENTS
    logits = min(rows * row_length * gpt.vocab_size, chunk) * 4 * 4  # the capped logits, their gradients and copies
    return int(rows * row_length * per_token + logits)


def scoring_memory(gpt: GPT, row_length: int, activation_bytes: int) -> int:
    """Bytes of the activations of a batch of held-out text, of which nothing is kept from block to block.

    Args:
        gpt: the model.
        row_length: tokens in a row at most.
        activation_bytes: 4 in float32, 2 in bfloat16.
    """
    config = gpt.config
    scores = 2 * config.n_head * row_length  # of attention, before and after the softmax, for each token
    at_most = VAL_BATCH_TOKENS * (SCORED * config.n_embd + scores) * activation_bytes
    logits = min(VAL_BATCH_TOKENS * gpt.vocab_size, CHUNK_ELEMENTS) * (activation_bytes + 4 + 4)  # capped, in float32
    return max(at_most, logits)


def onednn_memory(trainer: Trainer, shapes: int) -> int:
    """Bytes that oneDNN keeps for so many sizes of batch."""
    in_bf16 = matmul_dtype(str(trainer.precision)) == torch.bfloat16
    return SIZE_BYTES * shapes if trainer.strategy.root_device.type == "cpu" and in_bf16 else 0


def expected_memory(trainer: Trainer, module: LanguageModel) -> int:
    """Bytes that the run will take at its peak, all in all.

    A micro-step, Muon and a batch of held-out text take what they need one after the other: what takes most counts,
    which is the last of them in a small model. Compiled and in bfloat16, on two cores with AVX-512, tiny took 949 MB
    of some 1,020 forecast in three minutes; when the process took 50 MB more, its chat stage 928 of 988, and small,
    with nothing counted, 1,183 and 1,206 of 1,239; on an H200, full took 43.2 GB of 48.4 with 16 rows and 73.8 of 83.3
    with 32, without what torch's allocator keeps on top (November 2026).
    """
    data, gpt = data_of(trainer), module.gpt
    activation_bytes = matmul_dtype(str(trainer.precision)).itemsize
    shards = trainer.world_size if isinstance(trainer.strategy, FullyShardedStrategy) else 1
    on_gpu = trainer.strategy.root_device.type == "cuda"
    training = training_memory(gpt, data.batch_size, data.row_length, activation_bytes, shards, on_gpu)
    scoring = state_memory(gpt, activation_bytes, shards) + scoring_memory(gpt, data.held_out.length, activation_bytes)
    needed = max(training, scoring) * WORKSPACE
    shapes = module.training_batch_shapes() + number_of_lengths(data.held_out.length)
    needed += onednn_memory(trainer, shapes)
    if isinstance(trainer.strategy, DDPStrategy):
        needed += 4 * gpt.num_parameters  # the buckets in which gradients travel
    if trainer.strategy.root_device.type == "cpu":
        needed += PROCESS + (COMPILER if module.compile_model else 0)
    return int(needed)


def fit_batch(trainer: Trainer, module: LanguageModel) -> None:
    """Takes fewer rows at a time where so many do not fit, and adds up the gradients of more micro-steps.

    Nothing else changes. To be called when the data are there, before Lightning counts micro-steps.
    """
    data = data_of(trainer)
    wanted = data.batch_size
    needed, available = _needed_and_available(trainer, module)
    if _fits(trainer, needed, available):
        return
    for rows in (n for n in range(wanted - 1, 0, -1) if wanted % n == 0):
        data.batch_size = rows
        fits = _fits(trainer, *_needed_and_available(trainer, module))
        data.batch_size = wanted
        if fits:
            data.take_fewer_rows(rows)
            say(
                f"{wanted} rows at a time would need about {size(needed)} of memory, and {size(available)} are "
                f"available: it takes {rows} at a time, {wanted // rows} times as often (the result stays the same)."
            )
            return


def check_memory(trainer: Trainer, module: LanguageModel) -> None:
    """Refuses a run that cannot fit: on a CPU there would be no error later, only a process that is killed.

    Raises:
        ValueError: if memory will not do, naming the options to lower.
    """
    needed, available = _needed_and_available(trainer, module)
    if not _fits(trainer, needed, available):
        each = " on each device" if trainer.world_size > 1 else ""
        raise ValueError(
            f"this run needs about {size(needed)} of memory{each} and {size(available)} are available: {LESS}"
        )


def _needed_and_available(trainer: Trainer, module: LanguageModel) -> tuple[int, int]:
    """Bytes that each device needs, and that it has for this run, what the run has taken so far included."""
    device = trainer.strategy.root_device
    if device.type not in ("cpu", "cuda"):
        return 0, 0  # an integrated GPU shares the machine's memory and pages it; it says so itself when it is full
    already = psutil.Process().memory_info().rss if device.type == "cpu" else torch.cuda.memory_allocated(device)
    processes = trainer.num_devices if device.type == "cpu" else 1  # of one machine take from the same memory
    return expected_memory(trainer, module), already + available_memory(device) // processes


def _fits(trainer: Trainer, needed: int, available: int) -> bool:
    """Whether it fits on all devices: they go on together, or none."""
    return trainer.strategy.reduce_boolean_decision(needed <= available)
