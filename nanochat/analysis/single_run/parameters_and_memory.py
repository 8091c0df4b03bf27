"""What a model is made of, and what training it takes of memory."""

from __future__ import annotations

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.single_run.bars import grouped_bars, stacked_bar

PARTS = ("token embedding", "attention", "attention's scores", "MLP", "head")


def _part(name: str) -> str:
    """The part that a parameter of :class:`~nanochat.model.GPT` belongs to, by its name."""
    if name.startswith("transformer.h."):
        return "attention" if ".attn." in name else "MLP"
    return PARTS[4] if name.startswith("lm_head.") else PARTS[0]


def parameters(history: History) -> Figure:
    """The parameters of each part, beside the part's share of the work.

    Raises:
        ValueError: if the model's sizes are not known.
    """
    gpt = history.gpt
    if gpt is None:
        raise ValueError("the run's configuration, which says the sizes of its model, is not there")
    counts = dict.fromkeys(PARTS, 0)
    shapes: dict[str, list[str]] = {name: [] for name in PARTS}
    for name, parameter in gpt.named_parameters():
        counts[_part(name)] += parameter.numel()
        shape = " x ".join(f"{size:,}" for size in parameter.shape)
        if shape not in shapes[_part(name)]:
            shapes[_part(name)].append(shape)
    # 6 operations for each parameter in a product, as in GPT.flops_per_token; the rest of it is attention's scores
    work = {name: 6 * counts[name] for name in ("attention", "MLP", "head")}
    all_work = gpt.flops_per_token(history.row_length)
    work["attention's scores"] = all_work - sum(work.values())
    names = [name for name in PARTS if counts[name] or work.get(name)]
    share = [100 * counts[name] / gpt.num_parameters for name in names]
    share_of_work = [100 * work.get(name, 0) / all_work for name in names]
    rows: list[list[Cell]] = [
        [name, counts[name], a, work.get(name, 0), b, ", ".join(shapes[name])]
        for name, a, b in zip(names, share, share_of_work, strict=True)
    ]
    caption = (
        "The embedding is looked up: it costs next to nothing. The work is done by the matrices of attention, MLP and "
        "head. Attention's scores have no parameters, and grow with the length of a row."
    )
    return Figure(
        name="parameters",
        title=f"Where the {gpt.num_parameters:,} parameters are, and where the work is",
        caption=caption,
        draw=lambda: grouped_bars(names, [("of the parameters", share), ("of the work", share_of_work)], "share (%)"),
        table=Table(["part", "parameters", "share (%)", "work (FLOPs/token)", "share of the work (%)", "shapes"], rows),
        section="Speed and memory",
    )


def memory(history: History) -> Figure:
    """What the memory at its peak was taken up by.

    Raises:
        ValueError: if the peak is not known.
    """
    gpt, summary = history.gpt, history.run.summary
    on_gpu = summary.get("peak_gpu_memory_bytes")
    peak = on_gpu or summary.get("peak_memory_bytes")
    if not peak or gpt is None:
        raise ValueError("the run has no summary yet: it is written after the last step")
    devices = summary.get("devices") or 1
    blocks = gpt.num_block_parameters
    tables = gpt.num_parameters - blocks
    parts = {  # in float32, as nanochat/training/memory.py reckons
        "weights": 4 * gpt.num_parameters,
        "gradients": 4 * gpt.num_parameters,
        "optimizer's state": 4 * (blocks + 2 * tables),
    }
    rest = peak - sum(parts.values())
    if rest < 0 or devices > 1:
        raise ValueError("its memory was shared out between devices, which the summary does not tell apart")
    other = "activations, workspace" if on_gpu else "Python, libraries, activations"
    parts[other] = rest
    rows: list[list[Cell]] = [[name, value / 1e6, 100 * value / peak] for name, value in parts.items()]
    caption = (
        f"Of the measured peak ({'on the GPU' if on_gpu else 'of the whole process'}) the first three parts follow "
        "from the model's size; the rest is what is left. Only activations shrink with --data.batch_size, so that a "
        "smaller one is the first thing to try when memory runs out."
    )
    return Figure(
        name="memory",
        title="What the memory was taken up by",
        caption=caption,
        draw=lambda: stacked_bar([(name, value / 1e6) for name, value in parts.items()], "memory (MB)"),
        table=Table(["part", "memory (MB)", "share (%)"], rows),
        section="Speed and memory",
    )
