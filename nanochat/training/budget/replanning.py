"""Adapts the number of steps of a run with a time limit to its measured speed."""

from __future__ import annotations

import time

from nanochat.training.learning_rate_plan import LearningRatePlan

CHECK_AT = (0.15, 0.3, 0.45, 0.58, 0.8, 0.93)  # fractions of the steps after which the speed is checked
MAX_WARMDOWN_CHANGE = 0.2  # during the warm-down, the remaining steps become fewer or more by at most this fraction


class SpeedMonitor:
    """Measures the slowdown of steps since the last check: measured / benchmarked time, without validations."""

    def __init__(self) -> None:
        self._checks = list(CHECK_AT)  # still to come
        self._checked_at = self._benchmarked = self._validating = 0.0
        self.validations = 0  # finished

    def restart(self) -> None:
        """Starts to measure."""
        self._checked_at, self._benchmarked, self._validating = time.monotonic(), 0.0, 0.0

    def add_step(self, benchmarked_seconds: float) -> None:
        """Counts a finished step."""
        self._benchmarked += benchmarked_seconds

    def start_validation(self) -> None:
        self._validating -= time.monotonic()

    def end_validation(self) -> None:
        self._validating += time.monotonic()
        self.validations += 1

    def is_due(self, done: int, total_steps: int) -> bool:
        """Whether the speed is to be checked now; not at the end of the run."""
        return bool(self._checks) and max(1, int(self._checks[0] * total_steps)) <= done < total_steps

    def check(self) -> float:
        """The slowdown since the last check; starts to measure again."""
        self._checks.pop(0)
        slowdown = (time.monotonic() - self._checked_at - self._validating) / self._benchmarked
        self.restart()
        return slowdown


def replan(done: int, planned: int, fitting: int, rates: LearningRatePlan) -> int:
    """A new total number of steps, as close to ``fitting`` as the learning rates allow without a jump.

    Before the warm-down, the new total is at least so large that the warm-down need not have begun yet. During the
    warm-down, the number of remaining steps changes little.

    Args:
        done: steps taken.
        planned: total steps of the present plan.
        fitting: total steps that fit into the time.
        rates: the learning rates of the run.
    """
    if rates.is_constant(done, planned):
        return max(fitting, int(done / (1 - rates.warmdown)) + 1)
    left = planned - done
    fewest, most = round((1 - MAX_WARMDOWN_CHANGE) * left), round((1 + MAX_WARMDOWN_CHANGE) * left)
    return done + max(1, min(max(fitting - done, fewest), most))
