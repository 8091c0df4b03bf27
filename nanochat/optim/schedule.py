"""The learning-rate schedule: warm-up, constant, linear warm-down."""

from __future__ import annotations


def learning_rate_factor(
    step: int, total_steps: float, warmup_steps: int = 0, warmdown: float = 0.4, final: float = 0.0
) -> float:
    """The factor on all learning rates at one step.

    Args:
        step: index of the step, from 0.
        total_steps: steps of the whole run; infinite if unknown, and then there is no warm-down.
        warmup_steps: steps over which the factor rises linearly to 1.
        warmdown: fraction of the run over which it falls linearly.
        final: its value at the end of the run.

    Returns:
        A factor from ``final`` to 1 (during the warm-up from just above 0); beyond the end of the run, ``final``.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    warmdown_steps = warmdown * total_steps
    remaining = total_steps - step
    if remaining >= warmdown_steps:
        return 1.0
    return final + (1.0 - final) * max(remaining, 0) / warmdown_steps
