"""Attention, shown: the maps of each head for one passage, and where heads look on average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure as Picture
from torch import Tensor

from nanochat.analysis.figure import Figure, Table
from nanochat.analysis.model.attending import Looks, attend, look_evenly, looks
from nanochat.analysis.model.labels import drawable, labels, shortened
from nanochat.analysis.model.subject import Subject, sentence
from nanochat.analysis.style import MONOSPACE, canvas, readable_on, theme

SECTION = "Inside the model"
MAPS, MAPS_TITLE = "attention_maps", "Where each head looks, in one sentence"
HEADS, HEADS_TITLE = "attention_heads", "Where the heads look, on average"
TOKENS = 22  # of the sentence
PANELS = 6  # layers, and heads of each, that are shown at most
ROW, ROWS, SINCE = 128, 24, 16  # tokens and rows for the averages, and the place from which on they are taken
NUMBERED = 12  # layers or heads up to which the cells have their numbers written in


def spread(count: int, most: int) -> list[int]:
    """At most so many of 0, ..., count - 1, evenly spread, both ends among them."""
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)}) if count > most else list(range(count))


def maps(subject: Subject) -> Figure:
    """Small multiples: a row for each layer, a column for each head."""
    ids, words = sentence(subject, TOKENS)
    ids = ids.to(subject.options.device)
    kept: dict[int, Tensor] = {}
    attend(subject.gpt, ids[None], lambda layer, shares: kept.update({layer: shares[0].cpu()}))
    config = subject.gpt.config
    layers, heads = spread(config.n_layer, PANELS), spread(config.n_head, PANELS)
    names = [drawable(shortened(name, 9)) for name in labels(subject.model.tokenizer, ids.tolist())]

    def draw() -> Picture:
        picture, grid = canvas(
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
                    kept[layer][head] ** 0.5, cmap=theme().from_nothing, vmin=0, vmax=1, interpolation="nearest"
                )
                axes.grid(False)
                axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9, weight="normal", loc="center", pad=4)
                axes.tick_params(length=0)
                axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6, fontfamily=MONOSPACE[0])
                axes.set_yticks(range(len(names)), names, fontsize=6, fontfamily=MONOSPACE[0])
        assert image is not None
        bar = picture.colorbar(image, ax=grid, location="bottom", shrink=0.4, aspect=40, pad=0.02)
        ticks = (0, 0.05, 0.2, 0.5, 1)
        bar.set_ticks([tick**0.5 for tick in ticks], labels=[f"{tick:.0%}" for tick in ticks])
        bar.set_label("share of a token's attention (colours by its square root)", fontsize=9)
        bar.outline.set_visible(False)
        return picture

    reading = (
        "Each line of a map is a token, and shows how it shares its attention out over itself and the tokens before "
        "it. A strong diagonal looks at the token itself, one below it at the token before; a strong first column "
        f"rests on the beginning, where there is nothing to find. {_shown(config.n_layer, layers, 'layers')}"
        f"{_shown(config.n_head, heads, 'heads')}{words}"
    )
    reading = subject.remarked(reading) if subject.options.passage is None else reading
    return Figure(MAPS, MAPS_TITLE, reading, draw, section=SECTION)


def _shown(count: int, chosen: Sequence[int], what: str) -> str:
    return "" if len(chosen) == count else f"Of {count} {what}, {len(chosen)} evenly spread ones are shown. "


def averages(subject: Subject) -> Figure:
    """The means of each head over held-out rows."""
    rows = rows_of(subject, ROW, ROWS)
    since = min(SINCE, rows.size(1) - 1)
    found, even = looks(subject.gpt, rows.to(subject.options.device), since), look_evenly(rows.size(1), since)
    depth, heads = found.distance.shape

    def draw() -> Picture:
        picture, grid = canvas(2, 2, width=8.4, height=min(max(4.6, 0.62 * depth + 2.2), 9.5))
        panels = [
            ("tokens looked back", found.distance, even.distance, "{:.0f}"),
            ("spread (bits)", found.entropy, even.entropy, "{:.1f}"),
            ("share on the first token", 100 * found.first, 100 * even.first, "{:.0f}%"),
            ("share on the token before", 100 * found.previous, 100 * even.previous, "{:.0f}%"),
        ]
        for axes, (title, values, evenly, form) in zip(grid.flat, panels, strict=True):
            most = max(float(values.max()), float(evenly), 1e-9)
            image = axes.imshow(values, cmap=theme().from_nothing, vmin=0, vmax=most, aspect="auto")
            axes.grid(False)
            axes.set_title(f"{title} (evenly: {form.format(float(evenly))})", fontsize=10)
            axes.set_xticks(_ticks(heads), [str(n + 1) for n in _ticks(heads)])
            axes.set_yticks(_ticks(depth), [str(n + 1) for n in _ticks(depth)])
            axes.tick_params(length=0)
            if max(depth, heads) <= NUMBERED:
                for (layer, head), value in np.ndenumerate(values.numpy()):
                    ink = readable_on(image.cmap(image.norm(value)))
                    axes.text(head, layer, form.format(value), ha="center", va="center", fontsize=8.5, color=ink)
            else:
                picture.colorbar(image, ax=axes, pad=0.02).outline.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("head")
        for axes in grid[:, 0]:
            axes.set_ylabel("layer")
        return picture

    reading = (
        "How far back each head looks, over how many tokens it spreads its attention (3 bits are as many as 8 tokens, "
        "evenly), and how much of it goes to the first token of the row and to the one before. In brackets what a head "
        f"would have that looks evenly at everything. Means over tokens {since + 1} to {rows.size(1)} of {len(rows)} "
        f"rows of {subject.text.words}."
    )
    return Figure(HEADS, HEADS_TITLE, subject.remarked(reading), draw, _table(found, even), section=SECTION)


def _ticks(count: int) -> list[int]:
    return spread(count, 12)


def _table(found: Looks, even: Looks) -> Table:
    columns = ["layer", "head", "tokens back", "spread (bits)", "on the first (%)", "on the one before (%)"]
    scale = (1, 1, 100, 100, 100)

    def numbers(values: Sequence[Tensor]) -> list[float]:
        return [round(float(value) * by, 2) for value, by in zip(values, scale, strict=True)]

    rows: list[list[int | str | float | None]] = []
    for layer, head in np.ndindex(*found.distance.shape):
        rows.append([layer + 1, head + 1, *numbers([values[layer, head] for values in found])])
    rows.append(["evenly", None, *numbers([values[0] for values in even])])
    return Table([*columns, "on itself (%)"], rows)


def rows_of(subject: Subject, length: int, most: int) -> Tensor:
    """The beginnings of held-out rows, all equally long: as long as asked for, if there are such rows.

    Args:
        subject: the model with its text.
        length: tokens of each.
        most: rows.
    """
    rows = subject.text.rows
    length = min(length, int(np.sort(rows.sizes)[-min(len(rows), 8)]))  # so that there are at least eight
    chosen = np.flatnonzero(rows.sizes >= length)[:most]
    return torch.stack([rows.example(int(row))[0][:length] for row in chosen])
