"""How the learning rate moves during a run."""

from __future__ import annotations


def learning_rate_factor(
    step: int, total_steps: float, warmup_steps: int = 0, warmdown: float = 0.4, final: float = 0.0
) -> float:
    """What the learning rates are multiplied by: up, constant, and down in a straight line.

    Args:
        step: number of steps already done; the first step has 0.
        total_steps: steps of the whole run; infinite if nobody knows, and then the factor stays at 1.
        warmup_steps: steps over which the factor rises to 1.
        warmdown: the share of the run over which it falls.
        final: what it falls to.

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
