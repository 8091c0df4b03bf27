"""A scaling law: val/bpb of a finished run as a function of model size and training text, fitted to measured runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The grid of nonlinear parameters.
SIZE_EXPONENTS = np.geomspace(0.08, 0.8, 9)
TEXT_EXPONENTS = np.geomspace(0.1, 0.7, 14)
VOCABULARY_EXPONENTS = np.linspace(-0.4, 0.8, 9)
CRITICAL_STEPS = np.geomspace(1024, 65536, 5)  # tokens
# A weak prior pulls the exponents of size and text towards those that Hoffmann et al. published: it decides where the
# runs do not. The penalty is added to the mean squared relative error, for each squared distance of log exponents.
PUBLISHED_SIZE, PUBLISHED_TEXT = 0.34, 0.28
PENALTY = 1e-4
RESAMPLES = 100
REPETITION_SCALE = 15.4  # R in Muennighoff et al.: text that has been repeated this often adds little
INTERVAL = 0.9  # coverage of the intervals of forecasts
MIN_RUNS = 8
BASE_VOCABULARY = 512


class Scale(NamedTuple):
    """The quantities of a run that the law depends on.

    Attributes:
        parameters: parameters of the blocks.
        text_bytes: training text; repeated text counts as in :func:`effective_bytes`.
        vocab_size: number of tokens in the vocabulary.
        tokens_per_step: tokens per optimizer step.
    """

    parameters: float
    text_bytes: float
    vocab_size: int
    tokens_per_step: int


class Exponents(NamedTuple):
    """The nonlinear parameters of the law.

    Attributes:
        size: a.
        text: b.
        vocabulary: g.
        critical_step: S, in tokens.
    """

    size: float
    text: float
    vocabulary: float
    critical_step: float


class Coefficients(NamedTuple):
    """The linear parameters of the law, all at least 0.

    Attributes:
        floor: E.
        size: A.
        text: B.
    """

    floor: float
    size: float
    text: float


class Forecast(NamedTuple):
    """A forecast of val/bpb with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Law:
    """``L = E + A / N^a + B / T^b`` (Hoffmann et al., arXiv 2203.15556, equation 10), in bits per byte.

    N is the number of parameters in the blocks, in millions. T is the effective training text in megabytes,
    ``bytes (vocabulary / 512)^g / (1 + step / S)``: g describes the effect of longer tokens at equal text, S how much
    text large steps waste (McCandlish et al., arXiv 1812.06162, section 2.2: the examples needed grow by
    1 + B / B_crit).

    Attributes:
        exponents: a, b, g, S.
        coefficients: E, A, B.
        resamples: the fits to resampled runs, whose spread is the uncertainty of the law.
        error: root mean square of the relative leave-one-out errors.
        num_runs: number of runs in the fit.
        max_text_bytes: the largest text among them.
        max_parameters: the largest model among them.
    """

    exponents: Exponents
    coefficients: Coefficients
    resamples: list[tuple[Exponents, Coefficients]]
    error: float
    num_runs: int
    max_text_bytes: float
    max_parameters: float

    def __call__(self, scale: Scale) -> float:
        return float(_predict([scale], self.exponents, self.coefficients)[0])

    def forecast(self, scale: Scale, seed: int = 0) -> Forecast:
        """val/bpb with its 90 % interval, from the fits to resampled runs plus noise of the size of ``error``."""
        noise = np.random.default_rng(seed).normal(0, self.error, len(self.resamples))
        draws = [float(_predict([scale], *fit)[0]) * (1 + e) for fit, e in zip(self.resamples, noise, strict=True)]
        low, high = np.quantile(draws, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
        value = self(scale)
        return Forecast(value, min(float(low), value), max(float(high), value))

    def extrapolates(self, scale: Scale) -> bool:
        """Whether the model or its text is more than twice as large as any in the fit."""
        return scale.parameters > 2 * self.max_parameters or scale.text_bytes > 2 * self.max_text_bytes


def effective_bytes(seen: float, unique: float) -> float:
    """The amount of unique text that has the same effect as text that is read repeatedly.

    ``U + U R (1 - exp(-r / R))`` with r repetitions after the first pass and R = 15.4 (Muennighoff et al., arXiv
    2305.16264, equation 5). Up to four passes are nearly as good as unique text.

    Args:
        seen: bytes read, repetitions included.
        unique: bytes of unique text.
    """
    if seen <= unique:
        return seen
    return unique + unique * REPETITION_SCALE * (1 - float(np.exp(-(seen / unique - 1) / REPETITION_SCALE)))


def fit_law(scales: Sequence[Scale], scores: Sequence[float], seed: int = 0) -> Law:
    """Fits the law by least squares of relative errors.

    For given exponents the law is linear in E, A and B. So these are solved for at each point of a grid of exponents,
    and the best point is taken. The uncertainty comes from a bootstrap of residuals (Efron 1979): the law is fitted
    again to its own predictions plus resampled errors.

    Raises:
        ValueError: if there are too few runs.
    """
    if len(scales) < MIN_RUNS:
        raise ValueError(f"a scaling law needs at least {MIN_RUNS} measured runs, and there are {len(scales)}")
    measured = np.asarray(scores, dtype=float)
    grid = _Grid(scales)
    exponents, coefficients, fitted = grid.fit(measured)
    errors = grid.leave_one_out_errors(measured)
    random = np.random.default_rng(seed)
    resamples = []
    for _ in range(RESAMPLES):
        resampled = fitted * (1 + random.choice(errors - errors.mean(), len(errors)))
        resamples.append(grid.fit(resampled)[:2])
    return Law(
        exponents,
        coefficients,
        resamples,
        float(np.sqrt((errors**2).mean())),
        len(scales),
        max(scale.text_bytes for scale in scales),
        max(scale.parameters for scale in scales),
    )


def _effective_megabytes(scales: Sequence[Scale], exponent: float, critical_step: float) -> Array:
    """T of each run."""
    return np.array(
        [
            s.text_bytes / 1e6 * (s.vocab_size / BASE_VOCABULARY) ** exponent / (1 + s.tokens_per_step / critical_step)
            for s in scales
        ]
    )


def _terms(scales: Sequence[Scale], exponents: Exponents) -> Array:
    """The factors of E, A and B for each run: (runs, 3)."""
    parameters = np.array([s.parameters / 1e6 for s in scales])
    text = _effective_megabytes(scales, exponents.vocabulary, exponents.critical_step)
    return np.stack([np.ones(len(scales)), parameters**-exponents.size, text**-exponents.text], 1)


def _predict(scales: Sequence[Scale], exponents: Exponents, coefficients: Coefficients) -> Array:
    scores: Array = _terms(scales, exponents) @ np.array(coefficients)
    return scores


class _Grid:
    """The grid of exponents, with all that does not depend on the scores."""

    def __init__(self, scales: Sequence[Scale]) -> None:
        vocabularies = VOCABULARY_EXPONENTS if len({s.vocab_size for s in scales}) > 1 else (0.0,)
        critical_steps = CRITICAL_STEPS if len({s.tokens_per_step for s in scales}) > 1 else CRITICAL_STEPS[-1:]
        self.points = [
            Exponents(float(a), float(b), float(g), float(s))
            for a in SIZE_EXPONENTS
            for b in TEXT_EXPONENTS
            for g in vocabularies
            for s in critical_steps
        ]
        self.terms = np.stack([_terms(scales, exponents) for exponents in self.points])  # (points, runs, 3)
        ab = np.array([(exponents.size, exponents.text) for exponents in self.points])
        self.penalty = PENALTY * (np.log(ab / (PUBLISHED_SIZE, PUBLISHED_TEXT)) ** 2).sum(1)

    def fit(self, scores: Array, weights: Array | None = None) -> tuple[Exponents, Coefficients, Array]:
        """The best exponents and coefficients, and their prediction for each run."""
        coefficients, squares = _least_squares(self.terms, scores, weights)
        best = int((squares + self.penalty).argmin())
        fitted: Array = self.terms[best] @ coefficients[best]
        return self.points[best], Coefficients(*coefficients[best].tolist()), fitted

    def leave_one_out_errors(self, scores: Array) -> Array:
        """For each run its relative error under a fit to all other runs."""
        errors = []
        for i in range(len(scores)):
            weights = np.ones(len(scores))
            weights[i] = 0
            errors.append(scores[i] / self.fit(scores, weights)[2][i] - 1)
        return np.array(errors)


def _least_squares(terms: Array, scores: Array, weights: Array | None) -> tuple[Array, Array]:
    """For each grid point the coefficients, all at least 0, with the smallest mean squared relative error.

    Some of the three may have to be 0, so the fit is repeated for each of the seven non-empty subsets of them.

    Args:
        terms: (points, runs, 3).
        scores: (runs,).
        weights: (runs,), 0 or 1; None for all 1.

    Returns:
        The coefficients (points, 3), and the mean squared errors (points,).
    """
    weights = np.ones(len(scores)) if weights is None else weights
    x = terms / scores[:, None] * weights[:, None]
    gram, right = x.transpose(0, 2, 1) @ x, (x * weights[:, None]).sum(1)
    best, squares = np.zeros((len(terms), 3)), np.full(len(terms), np.inf)
    for subset in ([0, 1, 2], [1, 2], [0, 2], [0, 1], [2], [1], [0]):
        ridge = 1e-12 * np.eye(len(subset))
        solution = np.linalg.solve(gram[:, subset][:, :, subset] + ridge, right[:, subset, None])[..., 0]
        coefficients = np.zeros((len(terms), 3))
        coefficients[:, subset] = solution
        errors = ((x @ coefficients[..., None])[..., 0] - weights) ** 2
        mean = np.where((solution >= 0).all(1), errors.sum(1) / weights.sum(), np.inf)
        better = mean < squares
        best[better], squares[better] = coefficients[better], mean[better]
    return best, squares
