"""Figures of attention: the map of each head for one sentence, and the heads' mean statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure as MplFigure
from torch import Tensor

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.attention_weights import (
    AttentionStats,
    model_attention_stats,
    record_attention,
    uniform_attention_stats,
)
from nanochat.analysis.model.loaded_model import LoadedModel, sentence
from nanochat.analysis.model.token_labels import drawable, shortened, token_labels
from nanochat.analysis.style import MONOSPACE, evenly_spaced, readable_on, subplots, theme

SECTION = "Inside the model"
MAPS, MAPS_TITLE = "attention_maps", "Attention of each head in one sentence"
HEADS, HEADS_TITLE = "attention_heads", "Mean attention of each head"
MAX_TOKENS = 22  # of the sentence
MAX_PANELS = 6  # layers that are shown, and heads of each
ROW_LENGTH, MAX_ROWS, FIRST_POSITION = 128, 24, 16  # of the means: tokens per row, rows, and first query
MAX_ANNOTATED = 12  # with more layers or heads than this, the cells have no numbers


def attention_maps(loaded: LoadedModel) -> Figure:
    """Small multiples: one row per layer, one column per head."""
    ids, description = sentence(loaded, MAX_TOKENS)
    ids = ids.to(loaded.options.device)
    weights_of: dict[int, Tensor] = {}
    record_attention(loaded.gpt, ids[None], lambda layer, weights: weights_of.update({layer: weights[0].cpu()}))
    config = loaded.gpt.config
    layers, heads = evenly_spaced(config.n_layer, MAX_PANELS), evenly_spaced(config.n_head, MAX_PANELS)
    names = [drawable(shortened(name, 9)) for name in token_labels(loaded.model.tokenizer, ids.tolist())]

    def draw() -> MplFigure:
        fig, grid = subplots(
            len(layers),
            len(heads),
            width=max(7.5, 2.1 * len(heads) + 0.7),
            height=2.1 * len(layers) + 1.1,
            squeeze=False,
            sharex=True,
            sharey=True,
        )
        image = None
        for axes_row, layer in zip(grid, layers, strict=True):
            for axes, head in zip(axes_row, heads, strict=True):
                image = axes.imshow(
                    weights_of[layer][head] ** 0.5,
                    cmap=theme().sequential_map,
                    vmin=0,
                    vmax=1,
                    interpolation="nearest",
                )
                axes.grid(False)
                axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9, weight="normal", loc="center", pad=4)
                axes.tick_params(length=0)
                axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6, fontfamily=MONOSPACE[0])
                axes.set_yticks(range(len(names)), names, fontsize=6, fontfamily=MONOSPACE[0])
        assert image is not None
        bar = fig.colorbar(image, ax=grid, location="bottom", shrink=0.4, aspect=40, pad=0.02)
        ticks = (0, 0.05, 0.2, 0.5, 1)
        bar.set_ticks([tick**0.5 for tick in ticks], labels=[f"{tick:.0%}" for tick in ticks])
        bar.set_label("attention weight (square-root colour scale)", fontsize=9)
        bar.outline.set_visible(False)
        return fig

    caption = (
        "Each line of a map is one token (the query), and shows its attention weights on itself and on the tokens "
        "before it. A strong diagonal means attention to the token itself, one below it to the previous token. A "
        "strong first column is an attention sink: the weight goes to the first token if no other is relevant. "
        f"{_selection(config.n_layer, layers, 'layers')}{_selection(config.n_head, heads, 'heads')}{description}"
    )
    caption = loaded.with_note(caption) if loaded.options.passage is None else caption
    return Figure(MAPS, MAPS_TITLE, caption, draw, section=SECTION)


def _selection(count: int, shown: Sequence[int], noun: str) -> str:
    return "" if len(shown) == count else f"{len(shown)} of {count} {noun} are shown, evenly spaced. "


def attention_heads(loaded: LoadedModel) -> Figure:
    """The statistics of each head, averaged over held-out rows."""
    rows = equal_length_rows(loaded, ROW_LENGTH, MAX_ROWS)
    length = rows.size(1)
    first_position = min(FIRST_POSITION, length - 1)
    stats = model_attention_stats(loaded.gpt, rows.to(loaded.options.device), first_position)
    uniform = uniform_attention_stats(length, first_position)
    depth, heads = stats.distance.shape

    def draw() -> MplFigure:
        fig, grid = subplots(2, 2, width=8.4, height=min(max(4.6, 0.62 * depth + 2.2), 9.5))
        panels = [
            ("distance (tokens)", stats.distance, uniform.distance, "{:.0f}"),
            ("entropy (bits)", stats.entropy, uniform.entropy, "{:.1f}"),
            ("weight on the first token", 100 * stats.first, 100 * uniform.first, "{:.0f}%"),
            ("weight on the previous token", 100 * stats.previous, 100 * uniform.previous, "{:.0f}%"),
        ]
        for axes, (title, values, uniform_value, value_format) in zip(grid.flat, panels, strict=True):
            largest = max(float(values.max()), float(uniform_value), 1e-9)
            image = axes.imshow(values, cmap=theme().sequential_map, vmin=0, vmax=largest, aspect="auto")
            axes.grid(False)
            axes.set_title(f"{title} (uniform: {value_format.format(float(uniform_value))})", fontsize=10)
            axes.set_xticks(_ticks(heads), [str(n + 1) for n in _ticks(heads)])
            axes.set_yticks(_ticks(depth), [str(n + 1) for n in _ticks(depth)])
            axes.tick_params(length=0)
            if max(depth, heads) <= MAX_ANNOTATED:
                for (layer, head), value in np.ndenumerate(values.numpy()):
                    ink = readable_on(image.cmap(image.norm(value)))
                    text = value_format.format(value)
                    axes.text(head, layer, text, ha="center", va="center", fontsize=8.5, color=ink)
            else:
                fig.colorbar(image, ax=axes, pad=0.02).outline.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("head")
        for axes in grid[:, 0]:
            axes.set_ylabel("layer")
        return fig

    caption = (
        "For each head: the mean distance to the tokens that it attends to, the entropy of its attention weights "
        "(3 bits: as spread out as 8 tokens with equal weights), and the weights on the first token of the row and on "
        "the previous token. In brackets: the value of a head that attends to all tokens equally. Means over tokens "
        f"{first_position + 1} to {length} of {len(rows)} rows of {loaded.text.description}."
    )
    return Figure(HEADS, HEADS_TITLE, loaded.with_note(caption), draw, _table(stats, uniform), section=SECTION)


def _ticks(count: int) -> list[int]:
    return evenly_spaced(count, 12)


def _table(stats: AttentionStats, uniform: AttentionStats) -> Table:
    columns = ["layer", "head", "distance (tokens)", "entropy (bits)", "on the first token (%)"]
    columns += ["on the previous token (%)", "on itself (%)"]
    scale = (1, 1, 100, 100, 100)

    def numbers(values: Sequence[Tensor]) -> list[float]:
        return [round(float(value) * factor, 2) for value, factor in zip(values, scale, strict=True)]

    rows: list[list[Cell]] = []
    for layer, head in np.ndindex(*stats.distance.shape):
        rows.append([layer + 1, head + 1, *numbers([values[layer, head] for values in stats])])
    rows.append(["uniform", None, *numbers([values[0] for values in uniform])])
    return Table(columns, rows)


def equal_length_rows(loaded: LoadedModel, length: int, max_rows: int) -> Tensor:
    """The first tokens of held-out rows, as one batch: (rows, length), shorter if fewer than eight rows are that long.

    Args:
        loaded: the model with its text.
        length: tokens per row.
        max_rows: rows at most.
    """
    rows = loaded.text.rows
    length = min(length, int(np.sort(rows.sizes)[-min(len(rows), 8)]))
    chosen = np.flatnonzero(rows.sizes >= length)[:max_rows]
    return torch.stack([rows.example(int(row))[0][:length] for row in chosen])
