"""What a sweep varies: ``--over model.depth=4,6,8`` and ``--over model.matrix_lr=0.005..0.05``."""

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

Setting = dict[str, str]  # the options of one trial beside those that all have: their names, and values as written
LOG_FROM = 10.0  # a range whose end is so many times its beginning is searched by factors, as learning rates are
DIGITS = 4  # of the numbers that are drawn from a range
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
OPEN, CLOSE = "[{(", "]})"
SET_HERE = {  # options of fit that a sweep sets by itself
    "name": "each trial's folder is the sweep's to say",
    "version": "each trial's folder is the sweep's to say",
    "ckpt_path": "a sweep begins its runs, and goes on with them, by itself",
    "seed_everything": "--seeds=3 repeats each setting with other seeds",
    "trainer.default_root_dir": "all trials are kept in one place",
    "trainer.logger": "the sweep reads what the project's own logger writes",
}


@dataclass(frozen=True)
class Axis:
    """One option that is varied.

    Attributes:
        option: of fit, without the dashes: "model.depth".
        values: to choose from, as they are written; empty for a range.
        low, high: of a range, both included.
        whole: whether a range has whole numbers only.
    """

    option: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    @property
    def is_range(self) -> bool:
        return not self.values

    @property
    def log(self) -> bool:
        """Whether a range is searched by factors: if it is positive and spans a factor of ten or more."""
        return self.low > 0 and self.high / self.low >= LOG_FROM * (1 - 1e-9)

    @property
    def samples(self) -> tuple[str, ...]:
        """Values that stand for all of it: where fit takes these, it takes what is between."""
        return self.values or (self.write(self.low), self.write(self.high))

    def write(self, value: float | str) -> str:
        """A value as it is given to fit."""
        if isinstance(value, str):
            return value
        return str(int(value)) if self.whole else f"{value:.{DIGITS}g}"

    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if not self.is_range:
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def in_words(self) -> str:
        """ "model.depth (4, 6, 8)", "model.matrix_lr (0.005 to 0.05, by factors)" """
        if not self.is_range:
            return f"{self.option} ({', '.join(self.values)})"
        return f"{self.option} ({self.write(self.low)} to {self.write(self.high)}{', by factors' if self.log else ''})"


def parse_axis(text: str) -> Axis:
    """An axis out of what stands after ``--over``.

    Raises:
        ValueError: if it is none.
    """
    option, equals, values = text.removeprefix("--").partition("=")
    option = option.strip()
    if not equals or not option or not values.strip():
        raise ValueError(f"--over {text}: write an option of fit and its values, such as --over model.depth=4,6,8")
    if option in SET_HERE or option.startswith("trainer.logger."):
        raise ValueError(f"--over {option}: {SET_HERE.get(option, SET_HERE['trainer.logger'])}")
    if match := re.fullmatch(rf"\s*({NUMBER})\.\.({NUMBER})\s*", values):
        return _range(option, *match.groups())
    pieces = [piece.strip() for piece in split(values)]
    if "" in pieces:
        raise ValueError(f"--over {text}: there is a comma too many")
    distinct: dict[str, str] = {}
    for piece in pieces:
        distinct.setdefault(_meaning(piece), piece)  # 0.1 and 0.10 are one; the first is kept
    return Axis(option, tuple(distinct.values()))


def _range(option: str, low: str, high: str) -> Axis:
    whole = all(re.fullmatch(r"[-+]?\d+", end) for end in (low, high))
    axis = Axis(option, low=float(low), high=float(high), whole=whole)
    if not axis.low < axis.high or not math.isfinite(axis.high - axis.low):
        raise ValueError(f"--over {option}={low}..{high}: a range goes from a smaller to a larger number")
    return axis


def _meaning(text: str) -> str:
    if re.fullmatch(NUMBER, text):  # YAML's own idea of a number leaves out 1e-1
        return repr(float(text))
    try:
        return repr(yaml.safe_load(text))
    except yaml.YAMLError:
        return text


def split(text: str) -> list[str]:
    """The pieces between commas, but for those within brackets and quotation marks: "[1,2],3" is "[1,2]" and "3"."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in OPEN) - (letter in CLOSE) if not quote else 0
        if letter == "," and not quote and depth <= 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def parse_axes(texts: Sequence[str], search: bool) -> list[Axis]:
    """All axes of a sweep.

    Args:
        texts: what stands after each ``--over``.
        search: whether settings are drawn; in a grid, each axis has values.

    Raises:
        ValueError: if there is none, one is there twice, or a grid has a range.
    """
    if not texts:
        raise ValueError("what is to be varied? --over model.depth=4,6,8 (several of them make a grid)")
    axes = [parse_axis(text) for text in texts]
    options = [axis.option for axis in axes]
    for axis in axes:
        if options.count(axis.option) > 1:
            raise ValueError(f"--over {axis.option} is there twice: put all values into one, with commas between them")
        if axis.is_range and not search:
            raise ValueError(
                f"--over {axis.option}={axis.write(axis.low)}..{axis.write(axis.high)} is a range: --search=20 tries "
                "20 settings out of it; a grid has values with commas between them"
            )
    return axes


def grid(axes: Sequence[Axis]) -> Iterator[Setting]:
    """Every combination of the values, the last axis varying fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip((axis.option for axis in axes), values, strict=True))


def short_names(options: Sequence[str]) -> dict[str, str]:
    """Each option's last part, "depth" for "model.depth", where no other ends alike."""
    last = [option.rsplit(".", 1)[-1] for option in options]
    return {option: end if last.count(end) == 1 else option for option, end in zip(options, last, strict=True)}


def in_words(setting: Setting) -> str:
    """ "depth=4 matrix_lr=0.01" """
    names = short_names(list(setting))
    return " ".join(f"{names[option]}={value}" for option, value in setting.items())
