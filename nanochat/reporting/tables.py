"""The card's figures as tables of short texts, for the page and for the terminal; scores are in score_tables.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nanochat.options import dotted
from nanochat.reporting.lineage import ALWAYS, LABELS
from nanochat.reporting.schema import ReportCard, Score, Stage
from nanochat.training.console import count, duration, size

DASH = "—"  # not measured
USUAL = {  # settings of Lightning's Trainer that say nothing as long as they are these
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
    """A header, and rows of as many cells; the first cell of a row says what it is about.

    Attributes:
        numbers: whether the other cells are numbers, which stand to the right.
    """

    header: list[str]
    rows: list[list[str]]
    numbers: bool = True


def labels(card: ReportCard) -> list[str]:
    """The columns: those of the stages there are, and BASE, CHAT and RL in any case."""
    have = [stage["label"] for stage in card["stages"]]
    order = list(LABELS.values())
    wanted = [*have, *(label for label in ALWAYS if label not in have)]
    return sorted(wanted, key=lambda label: order.index(label.split()[0]) if label.split()[0] in order else len(order))


def dollars(amount: float) -> str:
    """$0.42, $1,200"""
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


COSTS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("steps", "steps", lambda n: f"{n:,.0f}"),
    ("tokens", "tokens", count),
    ("FLOPs", "flops", lambda n: f"{n:.2g}"),
    ("time, all of the command", "seconds", duration),
    ("time, its training steps", "training_seconds", duration),
    ("tokens a second", "tokens_per_second", lambda n: f"{n:,.0f}"),
    ("of the machine's peak (MFU)", "mfu", lambda n: f"{n:.0%}"),
    ("memory at the peak", "peak_memory_bytes", size),
    ("GPU memory at the peak", "peak_gpu_memory_bytes", size),
    ("cost", "dollars", dollars),
)


def summary(card: ReportCard) -> Table:
    """The figures that are looked at first; a star at those that are not measured on everything."""
    columns = labels(card)
    named: list[tuple[str, str, Callable[[Any], str]]] = [
        ("tokens", "tokens", count),
        ("FLOPs", "flops", lambda n: f"{n:.2g}"),
        ("time", "seconds", duration),
        ("cost", "dollars", dollars),
    ]
    bpb = by_label(card, lambda stage: stage["figures"]["val_bpb"])
    rows = [["val/bpb", *cells(columns, bpb, lambda n: f"{n:.4f}"), ""]]
    for title, scores in (("CORE", card["core"]), ("ChatCORE", card["chat"])):
        rows.append([title, *cells(columns, {label: _short(score) for label, score in scores.items()}, str), ""])
    for title, name, show in named:
        total = card["totals"][name]
        if title != "cost" or total is not None:
            values = by_label(card, lambda stage, name=name: stage["figures"][name])  # type: ignore[misc]
            partly = "*" if card["not_in_totals"][name] else ""
            rows.append([title, *cells(columns, values, show), DASH if total is None else show(total) + partly])
    return Table(["", *columns, "in all"], rows)


def _short(score: Score) -> str | None:
    if score["value"] is None:
        return None
    return f"{score['value']:.4f}{'' if score['whole'] else '*'}"


def costs(card: ReportCard) -> Table:
    """Time and cost of each stage, and their sum."""
    columns = labels(card)
    rows = []
    for title, name, show in COSTS:
        values = by_label(card, lambda stage, name=name: stage["figures"][name])  # type: ignore[misc]
        total = card["totals"].get(name)
        if not any(value is not None for value in values.values()):
            continue
        lacking = card["not_in_totals"].get(name)
        more = f" without {', '.join(lacking)}" if lacking else ""
        summed = "" if name not in card["totals"] else show(total) + more if total is not None else DASH
        rows.append([title, *cells(columns, values, show), summed])
    return Table(["", *columns, "sum"], rows)


def stages(card: ReportCard) -> Table:
    """What each stage is, and where."""
    columns = labels(card)
    rows: list[tuple[str, Callable[[Stage], Any], Callable[[Any], str]]] = [
        ("run", lambda stage: stage["run"], str),
        ("state", lambda stage: stage["state"], str),
        ("began", lambda stage: stage["started"][:16].replace("T", " "), str),
        ("began with", lambda stage: stage["began_with"] or "fresh weights", str),
        ("parameters", lambda stage: stage["figures"]["parameters"], lambda n: f"{n:,.0f}"),
        ("learned from", lambda stage: stage["corpus"], str),
        ("device", lambda stage: stage["device"], str),
        ("devices", lambda stage: stage["figures"]["devices"], str),
        ("processor", lambda stage: stage["machine"].get("processor"), str),
        ("precision", lambda stage: stage["precision"], str),
        ("code", lambda stage: commit(stage["code"]) if stage["code"] else None, str),
        ("Python", lambda stage: stage["versions"].get("python"), str),
        ("torch", lambda stage: stage["versions"].get("torch"), str),
        ("Lightning", lambda stage: stage["versions"].get("lightning"), str),
    ]
    shown = [[title, *cells(columns, by_label(card, value), show)] for title, value, show in rows]
    return Table(["", *columns], [row for row in shown if set(row[1:]) != {DASH}], numbers=False)


def settings(card: ReportCard) -> Table:
    """All that was set, by stage; what was left to the program (null) in every stage is left out."""
    columns = labels(card)
    flat = {stage["label"]: dotted(stage["config"]) for stage in card["stages"]}
    names = dict.fromkeys(name for values in flat.values() for name in values)
    rows = []
    for name in names:
        found = {label: values.get(name) for label, values in flat.items()}
        usual = (None, False, USUAL.get(name.removeprefix("trainer."))) if name.startswith("trainer.") else (None,)
        if any(value not in usual for value in found.values()):
            rows.append([name, *cells(columns, found, str)])
    return Table(["", *columns], rows, numbers=False)


def by_label(card: ReportCard, value: Callable[[Stage], Any]) -> dict[str, Any]:
    return {stage["label"]: value(stage) for stage in card["stages"]}


def cells(columns: Sequence[str], values: Mapping[str, Any], show: Callable[[Any], str]) -> list[str]:
    """A cell for each column, a dash where there is nothing."""
    return [DASH if (value := values.get(label)) is None else show(value) for label in columns]


def percents(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{low:.1%} to {high:.1%}"


def commit(code: Mapping[str, Any]) -> str:
    """ "294d4102, changed since" """
    if not code.get("commit"):
        return str(code.get("reason") or "unknown")
    changed = " with changes" if code.get("dirty") else ""
    return f"{str(code['commit'])[:10]}{changed}"
