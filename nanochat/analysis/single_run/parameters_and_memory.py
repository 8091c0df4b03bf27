"""Figures of the model's parameters, its FLOPs and the memory of training, by component."""

from __future__ import annotations

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.single_run.bars import grouped_bars, stacked_bar

EMBEDDING, ATTENTION, SCORES, MLP, HEAD = "token embedding", "attention matrices", "attention scores", "MLP", "head"
COMPONENTS = (EMBEDDING, ATTENTION, SCORES, MLP, HEAD)


def _component(name: str) -> str:
    """The component of a parameter of :class:`~nanochat.model.GPT`, from its name."""
    if name.startswith("transformer.h."):
        return ATTENTION if ".attn." in name else MLP
    return HEAD if name.startswith("lm_head.") else EMBEDDING


def parameters(history: History) -> Figure:
    """Parameters and training FLOPs of each component.

    Raises:
        ValueError: if the model's shape is not known.
    """
    gpt = history.gpt
    if gpt is None:
        raise ValueError("the model's shape is not known: the run's config.yaml is missing or damaged")
    counts = dict.fromkeys(COMPONENTS, 0)
    shapes: dict[str, list[str]] = {name: [] for name in COMPONENTS}
    for name, parameter in gpt.named_parameters():
        counts[_component(name)] += parameter.numel()
        shape = " x ".join(f"{size:,}" for size in parameter.shape)
        if shape not in shapes[_component(name)]:
            shapes[_component(name)].append(shape)
    # 6 FLOPs per parameter of a matrix, as in GPT.flops_per_token; the remainder is that of the attention scores
    flops = {name: 6 * counts[name] for name in (ATTENTION, MLP, HEAD)}
    total_flops = gpt.flops_per_token(history.row_length)
    flops[SCORES] = total_flops - sum(flops.values())
    names = [name for name in COMPONENTS if counts[name] or flops.get(name)]
    parameter_share = [100 * counts[name] / gpt.num_parameters for name in names]
    flops_share = [100 * flops.get(name, 0) / total_flops for name in names]
    rows: list[list[Cell]] = [
        [name, counts[name], a, flops.get(name, 0), b, ", ".join(shapes[name])]
        for name, a, b in zip(names, parameter_share, flops_share, strict=True)
    ]
    caption = (
        "The embedding is a table lookup and takes no FLOPs. The matrices of attention, MLP and head take 6 FLOPs per "
        "parameter and token in training. Attention scores have no parameters; their cost grows with the length of a "
        "row."
    )
    return Figure(
        name="parameters",
        title=f"Parameters and FLOPs by component ({gpt.num_parameters:,} parameters)",
        caption=caption,
        draw=lambda: grouped_bars(names, [("parameters", parameter_share), ("FLOPs", flops_share)], "share (%)"),
        table=Table(["component", "parameters", "share (%)", "FLOPs/token", "share of FLOPs (%)", "shapes"], rows),
        section="Speed and memory",
    )


def memory(history: History) -> Figure:
    """Peak memory by use.

    Raises:
        ValueError: if the peak is not known, or not that of a single device.
    """
    gpt, summary = history.gpt, history.run.summary
    on_gpu = summary.get("peak_gpu_memory_bytes")
    peak = on_gpu or summary.get("peak_memory_bytes")
    if not peak or gpt is None:
        raise ValueError("the run has no summary yet: it is written after the last step")
    devices = summary.get("devices") or 1
    blocks = gpt.num_block_parameters
    embedding_and_head = gpt.num_parameters - blocks
    segments = {  # float32, as in nanochat/training/budget/memory.py: one average per parameter for Muon, two for AdamW
        "weights": 4 * gpt.num_parameters,
        "gradients": 4 * gpt.num_parameters,
        "optimizer state": 4 * (blocks + 2 * embedding_and_head),
    }
    remainder = peak - sum(segments.values())
    if remainder < 0 or devices > 1:
        raise ValueError("memory was divided between devices, and the summary has only one number")
    segments["activations, workspace" if on_gpu else "Python, libraries, activations"] = remainder
    rows: list[list[Cell]] = [[name, value / 1e6, 100 * value / peak] for name, value in segments.items()]
    caption = (
        f"The measured peak ({'of the GPU' if on_gpu else 'of the whole process'}). Weights, gradients and optimizer "
        "state follow from the model's size; the rest is the remainder. A smaller --data.batch_size only shrinks the "
        "activations: try it first when memory runs out."
    )
    return Figure(
        name="memory",
        title="Peak memory by use",
        caption=caption,
        draw=lambda: stacked_bar([(name, value / 1e6) for name, value in segments.items()], "memory (MB)"),
        table=Table(["use", "memory (MB)", "share (%)"], rows),
        section="Speed and memory",
    )
