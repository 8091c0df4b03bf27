"""The report card's scores as tables of formatted cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanochat.evaluation.bundle import CORE_TASKS
from nanochat.evaluation.chat_core import CHATCORE_TASKS, OFFLINE_TASKS
from nanochat.reporting.published_scores import MODEL
from nanochat.reporting.schema import ReportCard, Score
from nanochat.reporting.tables import DASH, Table, by_label, cells, column_labels, format_interval


def bits_per_byte(card: ReportCard) -> Table:
    """Bits per byte on held-out text, and the corpus of that text."""
    columns = column_labels(card)
    shown: list[tuple[str, str]] = [("at the end", "val_bpb"), ("best during training", "best_val_bpb")]
    rows = [
        [title, *cells(columns, by_label(card, lambda s, name=name: s["figures"][name]), lambda n: f"{n:.4f}")]  # type: ignore[misc]
        for title, name in shown
    ]
    rows.append(["corpus", *cells(columns, by_label(card, lambda stage: stage["corpus"]), str)])
    return Table(["", *columns], rows)


def core(card: ReportCard) -> Table:
    """The CORE tasks and their mean, with four columns for each base model and each other stage that was scored."""
    columns = [label for label in column_labels(card) if label in card["core"] or label.startswith("BASE")]
    header = ["", "chance", *[part for label in columns for part in (label, "95% interval", "centred", "items")]]
    rows = []
    for name in CORE_TASKS:
        results = {label: score["tasks"].get(name) for label, score in card["core"].items()}
        chance = next((f"{task['chance']:.1%}" for task in results.values() if task is not None), DASH)
        rows.append([name, chance])
        for label in columns:
            rows[-1] += _core_cells(results.get(label))
    mean = ["mean, centred", ""]
    for label in columns:
        score = card["core"].get(label)
        mean += ["", *_mean_cells(score), ""] if score is not None else [DASH] * 4
    return Table(header, [*rows, mean])


def _core_cells(task: Mapping[str, Any] | None) -> list[str]:
    if task is None:
        return [DASH] * 4
    return [
        f"{task['accuracy']:.1%}",
        format_interval(task["interval"]),
        f"{task['centred']:+.3f}",
        f"{task['items']:,}",
    ]


def _mean_cells(score: Score) -> tuple[str, str]:
    """The interval of a score and its value."""
    low, high = score["interval"] or (None, None)
    interval = f"{low:.3f} to {high:.3f}" if low is not None else DASH
    return interval, f"{score['value']:+.4f}" if score["value"] is not None else DASH


def chat(card: ReportCard) -> Table:
    """The accuracy in each chat task: those of ChatCORE, their mean, and then the other tasks that were scored."""
    columns = column_labels(card)

    def task_row(name: str) -> list[str]:
        results = {label: score["tasks"].get(name) for label, score in card["chat"].items()}
        return [
            name,
            *cells(columns, results, lambda task: f"{task['accuracy']:.1%} ({format_interval(task['interval'])})"),
        ]

    def mean_cell(score: Score) -> str:
        interval, value = _mean_cells(score)
        return f"{value} ({interval}){'' if score['whole'] else '*'}"

    scored = {label: score if score["value"] is not None else None for label, score in card["chat"].items()}
    others = [row for row in map(task_row, OFFLINE_TASKS) if set(row[1:]) != {DASH}]
    rows = [
        *map(task_row, CHATCORE_TASKS),
        ["ChatCORE", *cells(columns, scored, mean_cell)],
        *others,
        ["items per task", *cells(columns, card["chat"], _items_cell)],
    ]
    return Table(["", *columns], rows)


def _items_cell(score: Score) -> str:
    items = sorted({task["items"] for task in score["tasks"].values()})
    return f"{items[0]:,}" if len(items) == 1 else f"{items[0]:,} to {items[-1]:,}"


def end_of_training(card: ReportCard) -> Table:
    """The accuracies that each run measured itself when its training ended."""
    columns = column_labels(card)
    names = dict.fromkeys(name for stage in card["stages"] for name in stage["tasks"])
    rows = [
        [name, *cells(columns, by_label(card, lambda s, name=name: s["tasks"].get(name)), lambda x: f"{x:.1%}")]  # type: ignore[misc]
        for name in names
    ]
    accuracies = by_label(card, lambda stage: stage["figures"]["val_accuracy"])
    if any(value is not None for value in accuracies.values()):
        rows.append(["held-out questions, last validation", *cells(columns, accuracies, lambda x: f"{x:.1%}")])
    return Table(["", *columns], rows)


def published(card: ReportCard) -> Table:
    """Scores of this model, of nanochat d20 and of GPT-2."""
    rows = []
    for figure in card["published"]:
        value, is_core = figure["value"], figure["name"] == "CORE"
        own = DASH if value is None else f"{value:.4f}" if is_core else f"{value:.1%}"
        if value is not None and not figure["comparable"]:
            own += "*"
        others = [
            DASH if score is None else f"{score:.4g}" if is_core else f"{score:.1%}"
            for score in (figure["nanochat"], figure["gpt2"])
        ]
        rows.append([figure["name"], figure["label"], own, *others])
    return Table(["", "after", "this model", MODEL, "GPT-2, 1.6B"], rows)


def compression(card: ReportCard) -> Table:
    """Bytes per token, by tokenizer and text."""
    if card["tokenizer"] is None:
        return Table([""], [])
    by_tokenizer = card["tokenizer"]["bytes_per_token"]
    texts = list(next(iter(by_tokenizer.values())))
    rows = [[name, *(f"{by_text[text]:.2f}" for text in texts)] for name, by_text in by_tokenizer.items()]
    rows += [[name, *[DASH] * len(texts)] for name in card["tokenizer"]["absent"]]
    return Table(["", *texts], rows)
