"""Running means, and fewer points, of curves that are plotted."""

from __future__ import annotations

import numpy as np

WINDOW = 0.015  # standard deviation of the running mean's window, as a fraction of the curve's length
MAX_POINTS = 1200  # more points than a plot has pixels only make its file larger


def smooth(x: np.ndarray, y: np.ndarray, width: float = WINDOW) -> np.ndarray:
    """A running mean, weighted with a Gaussian window around each point.

    Args:
        x: (points,), ascending.
        y: (points,), the values.
        width: the window's standard deviation, as a fraction of the range of x.

    Returns:
        (points,); the values themselves if there are fewer than four.
    """
    if len(x) < 4:
        return y
    span = max(width * float(x[-1] - x[0]), 1e-12)
    result = np.empty(len(x))
    for index, here in enumerate(x):
        near = slice(np.searchsorted(x, here - 3 * span), np.searchsorted(x, here + 3 * span, "right"))
        weights = np.exp(-0.5 * ((x[near] - here) / span) ** 2)
        result[index] = weights @ y[near] / weights.sum()
    return result


def thinned(x: np.ndarray, y: np.ndarray, max_points: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most ``max_points`` of the points, evenly spaced, with the first and the last."""
    if len(x) <= max_points:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, max_points).round().astype(int))
    return x[kept], y[kept]
