"""The search space of a sweep: ``--over model.depth=4,6,8`` and ``--over model.matrix_lr=0.005..0.05``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Setting = dict[str, str]  # the varied options of one trial: names, and values as written by the user
LOG_SCALE_FROM = 10.0  # a range whose high / low is at least this is searched on a log scale, like learning rates
DIGITS = 4  # significant digits of numbers drawn from a range
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
OPEN, CLOSE = "[{(", "]})"
RESERVED = {  # options of fit that cannot be varied, and why
    "name": "a sweep sets the folder of each trial",
    "version": "a sweep sets the folder of each trial",
    "ckpt_path": "a sweep starts and resumes its trials automatically",
    "seed_everything": "use --seeds=3 to repeat each setting with other seeds",
    "trainer.default_root_dir": "a sweep keeps all trials in one folder",
    "trainer.logger": "a sweep reads the files of the project's own logger",
}


@dataclass(frozen=True)
class Axis:
    """One varied option.

    Attributes:
        option: name of an option of fit, without the dashes: "model.depth".
        values: the values to try, as written by the user; empty for a range.
        low, high: bounds of a range, inclusive.
        integer: whether a range consists of integers.
    """

    option: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    integer: bool = False

    @property
    def is_range(self) -> bool:
        return not self.values

    @property
    def log(self) -> bool:
        """Whether a range is searched on a log scale: if it is positive and spans a factor of ten or more."""
        return self.low > 0 and self.high / self.low >= LOG_SCALE_FROM * (1 - 1e-9)

    @property
    def samples(self) -> tuple[str, ...]:
        """Values to validate: all values, or both bounds of a range (if these are valid, those between are too)."""
        return self.values or (self.format(self.low), self.format(self.high))

    def format(self, value: float | str) -> str:
        """A value as an argument of fit."""
        if isinstance(value, str):
            return value
        return str(int(value)) if self.integer else f"{value:.{DIGITS}g}"

    def distribution(self) -> BaseDistribution:
        """The Optuna distribution of the values."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if not self.is_range:
            return CategoricalDistribution(self.values)
        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def describe(self) -> str:
        """ "model.depth (4, 6, 8)", "model.matrix_lr (0.005 to 0.05, log scale)" """
        if not self.is_range:
            return f"{self.option} ({', '.join(self.values)})"
        return f"{self.option} ({self.format(self.low)} to {self.format(self.high)}{', log scale' if self.log else ''})"


def parse_axis(text: str) -> Axis:
    """Parses the value of ``--over``.

    Raises:
        ValueError: if it is invalid, or the option is in :data:`RESERVED`.
    """
    option, equals, text_of_values = text.removeprefix("--").partition("=")
    option = option.strip()
    if not equals or not option or not text_of_values.strip():
        raise ValueError(f"--over {text}: give an option of fit and its values, such as --over model.depth=4,6,8")
    if option in RESERVED or option.startswith("trainer.logger."):
        raise ValueError(f"--over {option}: {RESERVED.get(option, RESERVED['trainer.logger'])}")
    if match := re.fullmatch(rf"\s*({NUMBER})\.\.({NUMBER})\s*", text_of_values):
        return _range(option, *match.groups())
    values = [value.strip() for value in split_values(text_of_values)]
    if "" in values:
        raise ValueError(f"--over {text}: there is a value missing, before or after a comma")
    distinct: dict[str, str] = {}
    for value in values:
        distinct.setdefault(_canonical(value), value)  # 0.1 and 0.10 are equal; the first is kept
    return Axis(option, tuple(distinct.values()))


def _range(option: str, low: str, high: str) -> Axis:
    integer = all(re.fullmatch(r"[-+]?\d+", bound) for bound in (low, high))
    axis = Axis(option, low=float(low), high=float(high), integer=integer)
    if not axis.low < axis.high or not math.isfinite(axis.high - axis.low):
        raise ValueError(f"--over {option}={low}..{high}: a range goes from a smaller to a larger number")
    return axis


def _canonical(text: str) -> str:
    """The same string for all spellings of a value."""
    if re.fullmatch(NUMBER, text):  # YAML does not read 1e-1 as a number
        return repr(float(text))
    try:
        return repr(yaml.safe_load(text))
    except yaml.YAMLError:
        return text


def split_values(text: str) -> list[str]:
    """Splits at commas that are not within brackets or quotation marks: "[1,2],3" becomes "[1,2]" and "3"."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in OPEN) - (letter in CLOSE) if not quote else 0
        if letter == "," and not quote and depth <= 0:
            values.append("")
        else:
            values[-1] += letter
    return values


def parse_axes(texts: Sequence[str], search: bool) -> list[Axis]:
    """Parses all axes of a sweep.

    Args:
        texts: the values of ``--over``.
        search: whether settings are drawn by a sampler, which allows ranges; False for a grid.

    Raises:
        ValueError: if there is no axis, an option is given twice, or an axis of a grid is a range.
    """
    if not texts:
        raise ValueError("no option to vary: give at least one, such as --over model.depth=4,6,8")
    axes = [parse_axis(text) for text in texts]
    options = [axis.option for axis in axes]
    for axis in axes:
        if options.count(axis.option) > 1:
            raise ValueError(f"--over {axis.option} is given twice: give all values in one, separated by commas")
        if axis.is_range and not search:
            raise ValueError(
                f"--over {axis.option}={axis.format(axis.low)}..{axis.format(axis.high)} is a range: add --search=20 "
                "to try 20 settings from it, or give single values separated by commas"
            )
    return axes


def grid(axes: Sequence[Axis]) -> Iterator[Setting]:
    """All combinations of the values; the last axis varies fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip((axis.option for axis in axes), values, strict=True))


def short_names(options: Sequence[str]) -> dict[str, str]:
    """The last component of each option ("depth" for "model.depth"), or the full name if that is ambiguous."""
    last = [option.rsplit(".", 1)[-1] for option in options]
    return {option: name if last.count(name) == 1 else option for option, name in zip(options, last, strict=True)}


def describe_setting(setting: Setting) -> str:
    """ "depth=4 matrix_lr=0.01" """
    names = short_names(list(setting))
    return " ".join(f"{names[option]}={value}" for option, value in setting.items())
