"""Attention, shown: the maps of each head for one passage, and where heads look on average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure as MplFigure
from torch import Tensor

from nanochat.analysis.figure import Figure, Table
from nanochat.analysis.model.attention_weights import (
    AttentionStats,
    model_attention_stats,
    record_attention,
    uniform_attention_stats,
)
from nanochat.analysis.model.loaded_model import LoadedModel, sentence
from nanochat.analysis.model.token_labels import drawable, shortened, token_labels
from nanochat.analysis.style import MONOSPACE, readable_on, subplots, theme

SECTION = "Inside the model"
MAPS, MAPS_TITLE = "attention_maps", "Where each head looks, in one sentence"
HEADS, HEADS_TITLE = "attention_heads", "Where the heads look, on average"
TOKENS = 22  # of the sentence
PANELS = 6  # layers, and heads of each, that are shown at most
ROW, ROWS, FIRST_POSITION = 128, 24, 16  # tokens and rows for the averages, and the place from which on they are taken
NUMBERED = 12  # layers or heads up to which the cells have their numbers written in


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most so many of 0, ..., count - 1, evenly spread, both ends among them."""
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)}) if count > most else list(range(count))


def attention_maps(loaded: LoadedModel) -> Figure:
    """Small multiples: a row for each layer, a column for each head."""
    ids, description = sentence(loaded, TOKENS)
    ids = ids.to(loaded.options.device)
    kept: dict[int, Tensor] = {}
    record_attention(loaded.gpt, ids[None], lambda layer, weights: kept.update({layer: weights[0].cpu()}))
    config = loaded.gpt.config
    layers, heads = evenly_spaced(config.n_layer, PANELS), evenly_spaced(config.n_head, PANELS)
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
                    kept[layer][head] ** 0.5, cmap=theme().sequential_map, vmin=0, vmax=1, interpolation="nearest"
                )
                axes.grid(False)
                axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9, weight="normal", loc="center", pad=4)
                axes.tick_params(length=0)
                axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6, fontfamily=MONOSPACE[0])
                axes.set_yticks(range(len(names)), names, fontsize=6, fontfamily=MONOSPACE[0])
        assert image is not None
        bar = fig.colorbar(image, ax=grid, location="bottom", shrink=0.4, aspect=40, pad=0.02)
        ticks = (0, 0.05, 0.2, 0.5, 1)
        bar.set_ticks([tick**0.5 for tick in ticks], token_labels=[f"{tick:.0%}" for tick in ticks])
        bar.set_label("share of a token's attention (colours by its square root)", fontsize=9)
        bar.outline.set_visible(False)
        return fig

    caption = (
        "Each line of a map is a token, and shows how it shares its attention out over itself and the tokens before "
        "it. A strong diagonal looks at the token itself, one below it at the token before; a strong first column "
        f"rests on the beginning, where there is nothing to find. {_shown(config.n_layer, layers, 'layers')}"
        f"{_shown(config.n_head, heads, 'heads')}{description}"
    )
    caption = loaded.with_note(caption) if loaded.options.passage is None else caption
    return Figure(MAPS, MAPS_TITLE, caption, draw, section=SECTION)


def _shown(count: int, chosen: Sequence[int], what: str) -> str:
    return "" if len(chosen) == count else f"Of {count} {what}, {len(chosen)} evenly spread ones are shown. "


def attention_heads(loaded: LoadedModel) -> Figure:
    """The means of each head over held-out rows."""
    rows = equal_length_rows(loaded, ROW, ROWS)
    first_position = min(FIRST_POSITION, rows.size(1) - 1)
    found, uniform = (
        model_attention_stats(loaded.gpt, rows.to(loaded.options.device), first_position),
        uniform_attention_stats(rows.size(1), first_position),
    )
    depth, heads = found.distance.shape

    def draw() -> MplFigure:
        fig, grid = subplots(2, 2, width=8.4, height=min(max(4.6, 0.62 * depth + 2.2), 9.5))
        panels = [
            ("tokens looked back", found.distance, uniform.distance, "{:.0f}"),
            ("spread (bits)", found.entropy, uniform.entropy, "{:.1f}"),
            ("share on the first token", 100 * found.first, 100 * uniform.first, "{:.0f}%"),
            ("share on the token before", 100 * found.previous, 100 * uniform.previous, "{:.0f}%"),
        ]
        for axes, (title, values, uniform_value, form) in zip(grid.flat, panels, strict=True):
            most = max(float(values.max()), float(uniform_value), 1e-9)
            image = axes.imshow(values, cmap=theme().sequential_map, vmin=0, vmax=most, aspect="auto")
            axes.grid(False)
            axes.set_title(f"{title} (evenly: {form.format(float(uniform_value))})", fontsize=10)
            axes.set_xticks(_ticks(heads), [str(n + 1) for n in _ticks(heads)])
            axes.set_yticks(_ticks(depth), [str(n + 1) for n in _ticks(depth)])
            axes.tick_params(length=0)
            if max(depth, heads) <= NUMBERED:
                for (layer, head), value in np.ndenumerate(values.numpy()):
                    ink = readable_on(image.cmap(image.norm(value)))
                    axes.text(head, layer, form.format(value), ha="center", va="center", fontsize=8.5, color=ink)
            else:
                fig.colorbar(image, ax=axes, pad=0.02).outline.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("head")
        for axes in grid[:, 0]:
            axes.set_ylabel("layer")
        return fig

    caption = (
        "How far back each head looks, over how many tokens it spreads its attention (3 bits are as many as 8 tokens, "
        "evenly), and how much of it goes to the first token of the row and to the one before. In brackets what a head "
        f"would have that looks evenly at everything. Means over tokens {first_position + 1} to {rows.size(1)} of "
        f"{len(rows)} rows of {loaded.text.description}."
    )
    return Figure(HEADS, HEADS_TITLE, loaded.with_note(caption), draw, _table(found, uniform), section=SECTION)


def _ticks(count: int) -> list[int]:
    return evenly_spaced(count, 12)


def _table(found: AttentionStats, uniform: AttentionStats) -> Table:
    columns = ["layer", "head", "tokens back", "spread (bits)", "on the first (%)", "on the one before (%)"]
    scale = (1, 1, 100, 100, 100)

    def numbers(values: Sequence[Tensor]) -> list[float]:
        return [round(float(value) * by, 2) for value, by in zip(values, scale, strict=True)]

    rows: list[list[int | str | float | None]] = []
    for layer, head in np.ndindex(*found.distance.shape):
        rows.append([layer + 1, head + 1, *numbers([values[layer, head] for values in found])])
    rows.append(["evenly", None, *numbers([values[0] for values in uniform])])
    return Table([*columns, "on itself (%)"], rows)


def equal_length_rows(loaded: LoadedModel, length: int, most: int) -> Tensor:
    """The beginnings of held-out rows, all equally long: as long as asked for, if there are such rows.

    Args:
        subject: the model with its text.
        length: tokens of each.
        most: rows.
    """
    rows = loaded.text.rows
    length = min(length, int(np.sort(rows.sizes)[-min(len(rows), 8)]))  # so that there are at least eight
    chosen = np.flatnonzero(rows.sizes >= length)[:most]
    return torch.stack([rows.example(int(row))[0][:length] for row in chosen])
