"""The card's figures as tables of short texts, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nanochat.evaluation.bundle import CORE_TASKS
from nanochat.evaluation.chat_core import CHAT_CORE, OFFLINE
from nanochat.reporting.life import ALWAYS, LABELS
from nanochat.reporting.published import MODEL
from nanochat.reporting.schema import Card, Score, Stage
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


def labels(card: Card) -> list[str]:
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


def glance(card: Card) -> Table:
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


def costs(card: Card) -> Table:
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


def stages(card: Card) -> Table:
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
    total = ["ChatCORE", *cells(columns, means, lambda score: "{1} ({0})".format(*_mean(score)))]
    beside = [row(name, name) for name in OFFLINE]
    asked = ["items of each", *cells(columns, card["chat"], _items)]
    return Table(
        ["", *columns],
        [*(row(name, name) for name in CHAT_CORE), total, *(r for r in beside if set(r[1:]) != {DASH}), asked],
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


def settings(card: Card) -> Table:
    """All that was set, by stage; what was left to the program (null) in every stage is left out."""
    columns = labels(card)
    flat = {stage["label"]: dict(flatten(stage["config"])) for stage in card["stages"]}
    names = dict.fromkeys(name for values in flat.values() for name in values)
    rows = []
    for name in names:
        found = {label: values.get(name) for label, values in flat.items()}
        usual = (None, False, USUAL.get(name.removeprefix("trainer."))) if name.startswith("trainer.") else (None,)
        if any(value not in usual for value in found.values()):
            rows.append([name, *cells(columns, found, str)])
    return Table(["", *columns], rows, numbers=False)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """("model.depth", 4), ..."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def by_label(card: Card, value: Callable[[Stage], Any]) -> dict[str, Any]:
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
