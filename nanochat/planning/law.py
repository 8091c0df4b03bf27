"""How good a finished run is, by its size and its text: a law fitted to measured runs, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The exponents that are tried, and the two that say what a vocabulary and a larger step are worth.
SIZE_EXPONENTS = np.geomspace(0.08, 0.8, 9)
TEXT_EXPONENTS = np.geomspace(0.1, 0.7, 14)
VOCABULARY_EXPONENTS = np.linspace(-0.4, 0.8, 9)
CRITICAL_STEPS = np.geomspace(1024, 65536, 5)  # tokens
# Hoffmann et al.'s exponents of parameters and of tokens: where the points leave it open, these are taken.
PUBLISHED_SIZE, PUBLISHED_TEXT = 0.34, 0.28
PULL = 1e-4  # of these, in squares of relative errors for each factor of e between an exponent and the published one
RESAMPLES = 100
REUSE = 15.4  # epochs after which repeated text is worth next to nothing (Muennighoff et al., arXiv 2305.16264)
INTERVAL = 0.9  # of forecasts
LEAST_POINTS = 8


class Scale(NamedTuple):
    """What a run's score is taken to depend on.

    Attributes:
        parameters: in the matrices of the blocks.
        text_bytes: of text that the run learns from, repeated text counted as :func:`worth` says.
        vocab_size: tokens in the vocabulary.
        tokens_per_step: tokens that a step learns from.
    """

    parameters: float
    text_bytes: float
    vocab_size: int
    tokens_per_step: int


class Forecast(NamedTuple):
    """A score with the ends of its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Law:
    """``L = E + A / N^a + B / T^b`` (Hoffmann et al., arXiv 2203.15556, equation 10), in bits per byte.

    N is the number of parameters in the blocks. T is the text in megabytes, as far as it counts:
    ``bytes (vocabulary / 512)^g / (1 + step / S)``: what longer tokens are worth at equal text, and how much text a
    larger step wastes (McCandlish et al., arXiv 1812.06162, section 2.2: examples needed grow by 1 + B / B_crit).

    Attributes:
        shape: a, b, g, S.
        factors: E, A, B, none below 0.
        draws: shapes and factors fitted to resampled points, one a row: how sure the law is.
        error: root mean square of the relative errors at points that were left out of the fit.
        count: points that it was fitted to.
        most_bytes: the largest text among them.
        most_parameters: the largest model among them.
    """

    shape: tuple[float, float, float, float]
    factors: tuple[float, float, float]
    draws: list[tuple[tuple[float, float, float, float], tuple[float, float, float]]]
    error: float
    count: int
    most_bytes: float
    most_parameters: float

    def __call__(self, size: Scale) -> float:
        return float(_scores([size], self.shape, self.factors)[0])

    def forecast(self, size: Scale, seed: int = 0) -> Forecast:
        """The score, and between what it lies in nine of ten cases: by the fits to resampled points and their error."""
        noise = np.random.default_rng(seed).normal(0, self.error, len(self.draws))
        drawn = [float(_scores([size], *draw)[0]) * (1 + e) for draw, e in zip(self.draws, noise, strict=True)]
        low, high = np.quantile(drawn, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
        value = self(size)
        return Forecast(value, min(float(low), value), max(float(high), value))

    def beyond(self, size: Scale) -> bool:
        """Whether a run is larger or longer than twice what was measured, so that the law only guesses."""
        return size.parameters > 2 * self.most_parameters or size.text_bytes > 2 * self.most_bytes


def worth(seen: float, unique: float) -> float:
    """How much new text some text is worth that is read more than once.

    ``U + U R (1 - exp(-r / R))`` with r the repetitions after the first time and R = 15.4 (Muennighoff et al., arXiv
    2305.16264, equation 5): up to four times it is nearly as good as new.

    Args:
        seen: bytes read, repetitions included.
        unique: bytes of different text.
    """
    if seen <= unique:
        return seen
    return unique + unique * REUSE * (1 - float(np.exp(-(seen / unique - 1) / REUSE)))


def fit_law(sizes: Sequence[Scale], scores: Sequence[float], seed: int = 0) -> Law:
    """Fits the law by least squares of relative errors.

    For given exponents it is linear in E, A and B: so these follow for each point of a grid of exponents, of which the
    best is taken. The draws are fits to points with their errors dealt out anew (Efron's bootstrap of residuals).

    Raises:
        ValueError: if there are too few points.
    """
    if len(sizes) < LEAST_POINTS:
        raise ValueError(f"a law of scaling needs at least {LEAST_POINTS} measured runs, and there are {len(sizes)}")
    measured = np.asarray(scores, dtype=float)
    grid = _Grid(sizes)
    shape, factors, fitted = grid.fit(measured)
    errors = grid.left_out_errors(measured)
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        drawn = fitted * (1 + random.choice(errors - errors.mean(), len(errors)))
        draws.append(grid.fit(drawn)[:2])
    return Law(
        shape,
        factors,
        draws,
        float(np.sqrt((errors**2).mean())),
        len(sizes),
        max(size.text_bytes for size in sizes),
        max(size.parameters for size in sizes),
    )


def _text(sizes: Sequence[Scale], gain: float, critical: float) -> Array:
    """Megabytes of text, as far as they count."""
    return np.array(
        [s.text_bytes / 1e6 * (s.vocab_size / 512) ** gain / (1 + s.tokens_per_step / critical) for s in sizes]
    )


def _terms(sizes: Sequence[Scale], shape: tuple[float, float, float, float]) -> Array:
    """What E, A and B are multiplied with: (sizes, 3)."""
    a, b, gain, critical = shape
    parameters = np.array([s.parameters / 1e6 for s in sizes])
    return np.stack([np.ones(len(sizes)), parameters**-a, _text(sizes, gain, critical) ** -b], 1)


def _scores(
    sizes: Sequence[Scale], shape: tuple[float, float, float, float], factors: tuple[float, float, float]
) -> Array:
    scores: Array = _terms(sizes, shape) @ np.array(factors)
    return scores


class _Grid:
    """All shapes that are tried, with what can be reckoned before the scores are known."""

    def __init__(self, sizes: Sequence[Scale]) -> None:
        several = len({s.tokens_per_step for s in sizes}) > 1
        self.shapes = [
            (float(a), float(b), float(g), float(c))
            for a in SIZE_EXPONENTS
            for b in TEXT_EXPONENTS
            for g in (VOCABULARY_EXPONENTS if len({s.vocab_size for s in sizes}) > 1 else (0.0,))
            for c in (CRITICAL_STEPS if several else (CRITICAL_STEPS[-1],))
        ]
        self.terms = np.stack([_terms(sizes, shape) for shape in self.shapes])  # (shapes, points, 3)
        ab = np.array([shape[:2] for shape in self.shapes])
        self.pull = PULL * (np.log(ab / (PUBLISHED_SIZE, PUBLISHED_TEXT)) ** 2).sum(1)

    def fit(
        self, scores: Array, weights: Array | None = None
    ) -> tuple[tuple[float, float, float, float], tuple[float, float, float], Array]:
        """The best shape and factors, and what they say of each point."""
        factors, squares = _least_squares(self.terms, scores, weights)
        best = int((squares + self.pull).argmin())
        fitted: Array = self.terms[best] @ factors[best]
        e, a, b = factors[best].tolist()
        return self.shapes[best], (e, a, b), fitted

    def left_out_errors(self, scores: Array) -> Array:
        """Relative errors, each of a fit to the other points."""
        errors = []
        for i in range(len(scores)):
            weights = np.ones(len(scores))
            weights[i] = 0
            errors.append(scores[i] / self.fit(scores, weights)[2][i] - 1)
        return np.array(errors)


def _least_squares(terms: Array, scores: Array, weights: Array | None) -> tuple[Array, Array]:
    """For each shape the factors, none below 0, that make the mean square of the relative errors smallest.

    There are three: so all eight ways to leave some of them at 0 are tried.

    Args:
        terms: (shapes, points, 3).
        scores: (points,).
        weights: (points,), 0 or 1; None for all.

    Returns:
        (shapes, 3), and (shapes,) the mean squares.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    x = terms / scores[:, None] * weights[:, None]
    gram, right = x.transpose(0, 2, 1) @ x, (x * weights[:, None]).sum(1)
    best, squares = np.zeros((len(terms), 3)), np.full(len(terms), np.inf)
    for used in ([0, 1, 2], [1, 2], [0, 2], [0, 1], [2], [1], [0]):
        ridge = 1e-12 * np.eye(len(used))
        some = np.linalg.solve(gram[:, used][:, :, used] + ridge, right[:, used, None])[..., 0]
        factors = np.zeros((len(terms), 3))
        factors[:, used] = some
        errors = ((x @ factors[..., None])[..., 0] - weights) ** 2
        mean = np.where((some >= 0).all(1), errors.sum(1) / weights.sum(), np.inf)
        better = mean < squares
        best[better], squares[better] = factors[better], mean[better]
    return best, squares
