"""What a few seeds can say: a mean, its interval, and which mean is the best."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal, TypeVar

from scipy.special import stdtrit

Better = Literal["lower", "higher", "closest"]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """The mean of n seeds; half_width is that of its 95 % interval, None where n = 1 gives none."""

    mean: float
    half_width: float | None
    n: int

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and Student-t 95 % interval of at least one value, taken as independent and normal (Student 1908)."""
    n = len(values)
    if n == 1:
        return Estimate(float(values[0]), None, 1)
    half_width = float(stdtrit(n - 1, 0.975)) * stdev(values) / math.sqrt(n)
    return Estimate(fmean(values), half_width, n)


def best(means: Mapping[Key, float], better: Better | None, ideal: float | None = None) -> set[Key]:
    """The keys of the best mean, ties included; none where nothing is ranked, one stands alone or all are equal.

    closest is the smallest |mean - ideal|.
    """
    if better is None or len(means) < 2:
        return set()
    if better == "closest":
        assert ideal is not None, "a metric that is best closest to something names its ideal"
        loss = {key: abs(mean - ideal) for key, mean in means.items()}
    else:
        loss = {key: mean if better == "lower" else -mean for key, mean in means.items()}
    if len(set(loss.values())) == 1:
        return set()
    least = min(loss.values())
    return {key for key, value in loss.items() if value == least}


def _digits(e: Estimate) -> int:
    """Decimals that show two significant digits of the interval, or four of a mean that has none."""
    if e.half_width:
        return 1 - math.floor(math.log10(e.half_width))
    return 3 - math.floor(math.log10(abs(e.mean))) if e.mean else 1


def decimals(estimates: Sequence[Estimate]) -> int:
    """One number of decimals for a column: the median of what its estimates ask for, between 0 and 4."""
    wanted = sorted(_digits(e) for e in estimates)
    return min(max(wanted[len(wanted) // 2], 0), 4) if wanted else 0


def number(value: float, digits: int) -> str:
    """A number with so many decimals; one that would be shown as a zero without being one, in powers of ten."""
    text = f"{value:,.{digits}f}"
    return f"{value:.1e}" if value and not any(c in "123456789" for c in text) else text


def text(e: Estimate, digits: int) -> str:
    """The mean, and with it the half-width of its interval where there is one."""
    mean = number(e.mean, digits)
    if e.half_width is None:
        return mean
    return f"{mean} ± {number(e.half_width, digits) if e.half_width else '0'}"  # 0: all seeds agree exactly
