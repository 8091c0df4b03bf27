"""The report card's figures as tables of formatted cells; the tables of scores are in score_tables.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nanochat.options import flatten_config
from nanochat.reporting.lineage import LABELS, MAIN_LABELS
from nanochat.reporting.schema import ReportCard, Score, Stage
from nanochat.training.console import count, duration, size

DASH = "—"  # not measured
TRAINER_SETTINGS = {  # values that this project gives the Trainer in every run; hidden as long as they are unchanged
    "max_epochs": -1,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "overfit_batches": 0.0,
    "inference_mode": True,
    "use_distributed_sampler": True,
    "reload_dataloaders_every_n_epochs": 0,
    "enable_autolog_hparams": True,
    "accumulate_grad_batches": 1,
    "enable_model_summary": False,
}


class Table(NamedTuple):
    """A table of formatted cells.

    Attributes:
        header: column titles.
        rows: each as long as the header; the first cell is the row's title.
        numbers: whether all other cells are numbers, which are right-aligned.
    """

    header: list[str]
    rows: list[list[str]]
    numbers: bool = True


def column_labels(card: ReportCard) -> list[str]:
    """The labels of all stages of the model, and BASE, CHAT and RL even without a run, in training order."""
    present = [stage["label"] for stage in card["stages"]]
    order = list(LABELS.values())
    labels = [*present, *(label for label in MAIN_LABELS if label not in present)]
    return sorted(labels, key=lambda label: order.index(label.split()[0]) if label.split()[0] in order else len(order))


def dollars(amount: float) -> str:
    """$0.42, $1,200"""
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


COSTS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("steps", "steps", lambda n: f"{n:,.0f}"),
    ("tokens", "tokens", count),
    ("FLOPs", "flops", lambda n: f"{n:.2g}"),
    ("time, whole command", "seconds", duration),
    ("time, training steps", "training_seconds", duration),
    ("tokens per second", "tokens_per_second", lambda n: f"{n:,.0f}"),
    ("MFU", "mfu", lambda n: f"{n:.0%}"),
    ("peak memory", "peak_memory_bytes", size),
    ("peak GPU memory", "peak_gpu_memory_bytes", size),
    ("cost", "dollars", dollars),
)


def summary(card: ReportCard) -> Table:
    """The main figures; a star marks those that are incomplete (not all tasks, items or stages)."""
    columns = column_labels(card)
    summed: list[tuple[str, str, Callable[[Any], str]]] = [
        ("tokens", "tokens", count),
        ("FLOPs", "flops", lambda n: f"{n:.2g}"),
        ("time", "seconds", duration),
        ("cost", "dollars", dollars),
    ]
    bpb = by_label(card, lambda stage: stage["figures"]["val_bpb"])
    rows = [["val/bpb", *cells(columns, bpb, lambda n: f"{n:.4f}"), ""]]
    for title, scores in (("CORE", card["core"]), ("ChatCORE", card["chat"])):
        values = {label: _score_cell(score) for label, score in scores.items()}
        rows.append([title, *cells(columns, values, str), ""])
    for title, name, show in summed:
        total = card["totals"][name]
        if title != "cost" or total is not None:
            values = by_label(card, lambda stage, name=name: stage["figures"][name])  # type: ignore[misc]
            star = "*" if card["not_in_totals"][name] else ""
            rows.append([title, *cells(columns, values, show), DASH if total is None else show(total) + star])
    return Table(["", *columns, "total"], rows)


def _score_cell(score: Score) -> str | None:
    if score["value"] is None:
        return None
    return f"{score['value']:.4f}{'' if score['whole'] else '*'}"


def costs(card: ReportCard) -> Table:
    """Time and cost of each stage, and their totals."""
    columns = column_labels(card)
    rows = []
    for title, name, show in COSTS:
        values = by_label(card, lambda stage, name=name: stage["figures"][name])  # type: ignore[misc]
        if not any(value is not None for value in values.values()):
            continue
        if name not in card["totals"]:
            total = ""
        elif (value := card["totals"][name]) is None:
            total = DASH
        else:
            lacking = card["not_in_totals"][name]
            total = show(value) + (f" without {', '.join(lacking)}" if lacking else "")
        rows.append([title, *cells(columns, values, show), total])
    return Table(["", *columns, "total"], rows)


def stages(card: ReportCard) -> Table:
    """The run of each stage: state, starting weights, device and versions."""
    columns = column_labels(card)
    rows: list[tuple[str, Callable[[Stage], Any], Callable[[Any], str]]] = [
        ("run", lambda stage: stage["run"], str),
        ("state", lambda stage: stage["state"], str),
        ("started", lambda stage: stage["started"][:16].replace("T", " "), str),
        ("initial weights", _initial_weights, str),
        ("parameters", lambda stage: stage["figures"]["parameters"], lambda n: f"{n:,.0f}"),
        ("training data", lambda stage: stage["corpus"], str),
        ("device", lambda stage: stage["device"], str),
        ("devices", lambda stage: stage["figures"]["devices"], str),
        ("processor", lambda stage: stage["machine"].get("processor"), str),
        ("precision", lambda stage: stage["precision"], str),
        ("code", lambda stage: format_commit(stage["code"]) if stage["code"] else None, str),
        ("Python", lambda stage: stage["versions"].get("python"), str),
        ("torch", lambda stage: stage["versions"].get("torch"), str),
        ("Lightning", lambda stage: stage["versions"].get("lightning"), str),
    ]
    shown = [[title, *cells(columns, by_label(card, value), show)] for title, value, show in rows]
    return Table(["", *columns], [row for row in shown if set(row[1:]) != {DASH}], numbers=False)


def _initial_weights(stage: Stage) -> str | None:
    """The checkpoint or run that a stage started from; None if it does not record it."""
    return stage["began_with"] or (None if stage["by_name"] else "random")


def settings(card: ReportCard) -> Table:
    """All settings by stage, without those that are null in every stage and the usual ones of the Trainer."""
    columns = column_labels(card)
    flat = {stage["label"]: flatten_config(stage["config"]) for stage in card["stages"]}
    names = dict.fromkeys(name for values in flat.values() for name in values)
    rows = []
    for name in names:
        values = {label: config.get(name) for label, config in flat.items()}
        hidden: tuple[Any, ...] = (None,)
        if name.startswith("trainer."):
            hidden = (None, False, TRAINER_SETTINGS.get(name.removeprefix("trainer.")))
        if any(value not in hidden for value in values.values()):
            rows.append([name, *cells(columns, values, str)])
    return Table(["", *columns], rows, numbers=False)


def by_label(card: ReportCard, value: Callable[[Stage], Any]) -> dict[str, Any]:
    """A value of each stage, by the stage's label."""
    return {stage["label"]: value(stage) for stage in card["stages"]}


def cells(columns: Sequence[str], values: Mapping[str, Any], show: Callable[[Any], str]) -> list[str]:
    """A cell for each column; a dash where the value is missing or None."""
    return [DASH if (value := values.get(label)) is None else show(value) for label in columns]


def format_interval(interval: Sequence[float]) -> str:
    """ "12.3% to 45.6%" """
    low, high = interval
    return f"{low:.1%} to {high:.1%}"


def format_commit(code: Mapping[str, Any]) -> str:
    """ "294d410200 with changes" """
    if not code.get("commit"):
        return str(code.get("reason") or "unknown")
    changed = " with changes" if code.get("dirty") else ""
    return f"{str(code['commit'])[:10]}{changed}"
