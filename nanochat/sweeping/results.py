"""The results of a sweep in the terminal: a table of its settings, failures, and the best setting."""

from __future__ import annotations

from collections.abc import Sequence

from nanochat.sweeping.comparison import SettingResult, compare, rank_settings
from nanochat.sweeping.space import describe_setting, short_names
from nanochat.sweeping.trials import DONE, FAILED, Trial
from nanochat.text_table import format_table
from nanochat.training.console import clock
from nanochat.wording import plural

WIDTH = 80  # characters of a line, if the terminal's width is unknown


def results_table(trials: Sequence[Trial], width: int = WIDTH) -> str:
    """One line per setting, the best first, with its trials, mean score, standard deviation, time and status.

    Args:
        trials: the trials of the sweep.
        width: maximum length of a line; values are shortened to fit.
    """
    results = rank_settings(trials)
    options = list(dict.fromkeys(option for result in results for option in result.setting))
    names = short_names(options)
    repeated = any(len(result.trials) > 1 for result in results)
    header = [
        "trials" if repeated else "trial",
        *(names[option] for option in options),
        "val/bpb",
        *(["+/-"] if repeated else []),
        "time",
        "status",
    ]
    rows = [
        [
            _numbers(result.trials),
            *(result.setting.get(option, "") for option in options),
            *_score(result, repeated),
            *_time_and_status(result),
        ]
        for result in results
    ]
    varied = range(1, 1 + len(options))
    numeric = range(1 + len(options), len(header) - 1)
    return format_table([header, *rows], right=numeric, narrow=varied, width=width)


def _numbers(trials: Sequence[Trial]) -> str:
    return ",".join(str(trial.number) for trial in trials)


def _score(result: SettingResult, repeated: bool) -> list[str]:
    values = [*result.scores.values()] or [trial.value for trial in result.trials if trial.value is not None]
    score = f"{sum(values) / len(values):.4f}" if values else "-"
    deviation = "-" if result.deviation is None else f"{result.deviation:.4f}"
    return [score, deviation] if repeated else [score]


def _time_and_status(result: SettingResult) -> list[str]:
    """The mean time of the trials, and their statuses with counts."""
    seconds = [trial.seconds for trial in result.trials if trial.seconds is not None]
    statuses = [trial.status for trial in result.trials]
    distinct = list(dict.fromkeys(statuses))
    shown = distinct if len(distinct) == 1 else [f"{statuses.count(status)} {status}" for status in distinct]
    return [clock(sum(seconds) / len(seconds)) if seconds else "-", ", ".join(shown)]


def describe_failures(trials: Sequence[Trial]) -> list[str]:
    """One line per reason why trials failed."""
    failed: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.status == FAILED:
            failed.setdefault(trial.reason or "the reason is unknown", []).append(trial)
    return [f"trial{'s' if len(group) > 1 else ''} {_numbers(group)} failed: {why}" for why, group in failed.items()]


def describe_best(trials: Sequence[Trial]) -> str:
    """The best setting, its lead over the second best, and whether the lead is larger than the margin of error."""
    results = [result for result in rank_settings(trials) if result.scores]
    if not results:
        return "No trial was completed: there is nothing to compare."
    best = results[0]
    numbers = [trial.number for trial in best.trials if trial.status == DONE]
    source = f"version_{numbers[0]}" if len(numbers) == 1 else plural(len(numbers), "seed")
    text = f"Best: {describe_setting(best.setting)} with val/bpb {best.mean:.4f} ({source})"
    if len(results) == 1:
        return f"{text}; there is no other setting to compare it with."
    lead = compare(best, results[1], results)
    text += f", {lead.value:.4f} below the next, {describe_setting(results[1].setting)}."
    if lead.standard_error is None:
        return f"{text} To measure how much of this is noise, run the same command with --seeds=3."
    text += (
        f" Compared seed by seed, noise alone causes a lead of up to {lead.margin:.4f} in 19 of 20 cases "
        f"(standard error {lead.standard_error:.4f}): "
    )
    if lead.value > lead.margin:
        return f"{text}this lead is larger than the noise."
    seeds = max(len(result.scores) for result in results)
    return f"{text}this lead may be noise. To measure it better, use more seeds (--seeds={seeds + 2})."
