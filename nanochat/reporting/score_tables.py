"""The card's scores as tables of short texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanochat.evaluation.bundle import CORE_TASKS
from nanochat.evaluation.chat_core import CHATCORE_TASKS, OFFLINE_TASKS
from nanochat.reporting.published import MODEL
from nanochat.reporting.schema import Card, Score
from nanochat.reporting.tables import DASH, Table, by_label, cells, labels, percents


def bits_per_byte(card: Card) -> Table:
    columns = labels(card)
    shown: list[tuple[str, str]] = [("at the end", "val_bpb"), ("best on the way", "best_val_bpb")]
    rows = [
        [title, *cells(columns, by_label(card, lambda s, name=name: s["figures"][name]), lambda n: f"{n:.4f}")]  # type: ignore[misc]
        for title, name in shown
    ]
    rows.append(["held-out text of", *cells(columns, by_label(card, lambda stage: stage["corpus"]), str)])
    return Table(["", *columns], rows)


def core(card: Card) -> Table:
    """CORE, and each of its tasks."""
    columns = [label for label in labels(card) if label in card["core"] or label.startswith("BASE")]
    header = ["", "chance", *[part for label in columns for part in (label, "95% interval", "centred", "items")]]
    rows = []
    for name in CORE_TASKS:
        found = {label: score["tasks"].get(name) for label, score in card["core"].items()}
        chance = next((f"{task['chance']:.1%}" for task in found.values() if task is not None), DASH)
        rows.append([name, chance])
        for label in columns:
            rows[-1] += _core_cells(found.get(label))
    total = ["mean, centred", ""]
    for label in columns:
        score = card["core"].get(label)
        total += ["", *(_mean(score)), ""] if score is not None else [DASH] * 4
    return Table(header, [*rows, total])


def _core_cells(task: Mapping[str, Any] | None) -> list[str]:
    if task is None:
        return [DASH] * 4
    return [f"{task['accuracy']:.1%}", percents(task["interval"]), f"{task['centred']:+.3f}", f"{task['items']:,}"]


def _mean(score: Score) -> list[str]:
    low, high = score["interval"] or (None, None)
    between = f"{low:.3f} to {high:.3f}" if low is not None else DASH
    return [between, f"{score['value']:+.4f}" if score["value"] is not None else DASH]


def chat(card: Card) -> Table:
    """The chat tasks, in a column for each stage; ChatCORE below its six."""
    columns = labels(card)

    def row(title: str, name: str) -> list[str]:
        found = {label: score["tasks"].get(name) for label, score in card["chat"].items()}
        return [title, *cells(columns, found, lambda task: f"{task['accuracy']:.1%} ({percents(task['interval'])})")]

    means = {label: score if score["value"] is not None else None for label, score in card["chat"].items()}
    shown = cells(columns, means, lambda score: "{1} ({0})".format(*_mean(score)) + ("" if score["whole"] else "*"))
    total = ["ChatCORE", *shown]
    beside = [row(name, name) for name in OFFLINE_TASKS]
    asked = ["items of each", *cells(columns, card["chat"], _items)]
    return Table(
        ["", *columns],
        [*(row(name, name) for name in CHATCORE_TASKS), total, *(r for r in beside if set(r[1:]) != {DASH}), asked],
    )


def _items(score: Score) -> str:
    asked = sorted({task["items"] for task in score["tasks"].values()})
    return f"{asked[0]:,}" if len(asked) == 1 else f"{asked[0]:,} to {asked[-1]:,}"


def at_the_end(card: Card) -> Table:
    """What each run itself found, when it had come to its end."""
    columns = labels(card)
    names = dict.fromkeys(name for stage in card["stages"] for name in stage["tasks"])
    rows = [
        [name, *cells(columns, by_label(card, lambda s, name=name: s["tasks"].get(name)), lambda x: f"{x:.1%}")]  # type: ignore[misc]
        for name in names
    ]
    asked = by_label(card, lambda stage: stage["figures"]["val_accuracy"])
    if any(value is not None for value in asked.values()):
        rows.append(["held-out questions, on the way", *cells(columns, asked, lambda x: f"{x:.1%}")])
    return Table(["", *columns], rows)


def published(card: Card) -> Table:
    """This model beside nanochat's and GPT-2."""
    rows = []
    for figure in card["published"]:
        value, is_core = figure["value"], figure["name"] == "CORE"
        show = (lambda x: f"{x:.4g}") if is_core else (lambda x: f"{x:.1%}")
        mine = DASH if value is None else f"{value:.4f}" if is_core else f"{value:.1%}"
        if value is not None and not figure["comparable"]:
            mine += "*"
        theirs = [DASH if x is None else show(x) for x in (figure["nanochat"], figure["gpt2"])]
        rows.append([figure["name"], figure["label"], mine, *theirs])
    return Table(["", "after", "this model", MODEL, "GPT-2, 1.6B"], rows)


def compression(card: Card) -> Table:
    """Bytes per token, by tokenizer."""
    if card["tokenizer"] is None:
        return Table([""], [])
    figures = card["tokenizer"]["bytes_per_token"]
    texts = list(next(iter(figures.values())))
    rows = [[who, *(f"{found[text]:.2f}" for text in texts)] for who, found in figures.items()]
    rows += [[who, *[DASH] * len(texts)] for who in card["tokenizer"]["absent"]]
    return Table(["", *texts], rows)
