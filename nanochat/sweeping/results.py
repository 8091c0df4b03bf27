"""What came of a sweep, in the terminal: a table of its trials, and a line that says what was best."""

from __future__ import annotations

from collections.abc import Sequence

from nanochat.sweeping.comparison import Result, lead, results
from nanochat.sweeping.space import in_words, short_names
from nanochat.sweeping.trials import DONE, FAILED, Trial
from nanochat.text_table import format_table
from nanochat.training.console import clock

WIDTH = 80  # columns, where the terminal does not say


def table(trials: Sequence[Trial], width: int = WIDTH) -> str:
    """The settings, the best first, with their trials.

    Args:
        trials: of the sweep.
        width: that no line exceeds; values are shortened where there is no room.
    """
    found = results(trials)
    options = list(dict.fromkeys(option for result in found for option in result.setting))
    names = short_names(options)
    several = any(len(result.trials) > 1 for result in found)
    head = [*(names[option] for option in options), "val/bpb", *(["+/-"] if several else []), "time", "status"]
    rows = [
        [*(result.setting.get(option, "") for option in options), *_score(result, several), *_end(result)]
        for result in found
    ]
    head = ["trials" if several else "trial", *head]
    rows = [[_numbers(result.trials), *row] for result, row in zip(found, rows, strict=True)]
    varied = range(1, 1 + len(options))
    numbers = range(1 + len(options), len(head) - 1)
    return format_table([head, *rows], right=numbers, narrow=varied, width=width)


def _numbers(trials: Sequence[Trial]) -> str:
    return ",".join(str(trial.number) for trial in trials)


def _score(result: Result, several: bool) -> list[str]:
    values = [*result.scores.values()] or [trial.value for trial in result.trials if trial.value is not None]
    score = f"{sum(values) / len(values):.4f}" if values else "-"
    deviation = "-" if result.deviation is None else f"{result.deviation:.4f}"
    return [score, deviation] if several else [score]


def _end(result: Result) -> list[str]:
    """The mean time of a trial, and what became of them."""
    seconds = [trial.seconds for trial in result.trials if trial.seconds is not None]
    states = [trial.status for trial in result.trials]
    kinds = list(dict.fromkeys(states))
    counted = kinds if len(kinds) == 1 else [f"{states.count(kind)} {kind}" for kind in kinds]
    return [clock(sum(seconds) / len(seconds)) if seconds else "-", ", ".join(counted)]


def reasons(trials: Sequence[Trial]) -> list[str]:
    """Why trials failed, each reason once."""
    failed: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.status == FAILED:
            failed.setdefault(trial.reason or "nobody knows why", []).append(trial)
    return [f"trial{'s' if len(of) > 1 else ''} {_numbers(of)} failed: {why}" for why, of in failed.items()]


def best(trials: Sequence[Trial]) -> str:
    """What was best, and by how much against what chance does."""
    found = [result for result in results(trials) if result.scores]
    if not found:
        return "No trial has come to its end: there is nothing to compare."
    first = found[0]
    numbers = [trial.number for trial in first.trials if trial.status == DONE]
    where = f"version_{numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} seeds"
    said = f"Best: {in_words(first.setting)} with val/bpb {first.mean:.4f} ({where})"
    if len(found) == 1:
        return f"{said}; there is no other to compare it with."
    ahead = lead(first, found[1], found)
    said += f", {ahead.value:.4f} below the next, {in_words(found[1].setting)}."
    if ahead.error is None:
        return f"{said} How much of that is chance is not known: with --seeds=3, the same command measures it."
    said += (
        f" Compared seed by seed, chance alone makes a lead of up to {ahead.by_chance:.4f} in 19 of 20 cases "
        f"(standard error {ahead.error:.4f}): "
    )
    if ahead.value > ahead.by_chance:
        return f"{said}this one is more than chance explains."
    seeds = max(len(result.scores) for result in found)
    return f"{said}this one may be chance. More seeds tell (--seeds={seeds + 2})."
