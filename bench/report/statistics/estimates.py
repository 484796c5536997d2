"""Means over a few seeds with their intervals, as numbers and as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.special import stdtrit


@dataclass(frozen=True)
class Estimate:
    """The mean of n seeds; half_width: of its 95 % interval, None for n = 1.

    iqm: the interquartile mean, the mean without the lowest and the highest quarter (rounded down) of the seeds
    (Agarwal et al. 2021, section 4.3); None below 4 seeds.
    """

    mean: float
    half_width: float | None
    n: int
    iqm: float | None = None

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.mean + self.half_width


def standard_deviation(values: Sequence[float]) -> float:
    """Of at least two values; exactly 0 where all are equal."""
    return float(np.std(values, ddof=1)) if min(values) < max(values) else 0.0


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and Student-t 95 % interval of at least one value, assumed independent and normal (Student 1908)."""
    n = len(values)
    if n == 1:
        return Estimate(float(values[0]), None, 1)
    half_width = float(stdtrit(n - 1, 0.975)) * standard_deviation(values) / math.sqrt(n)
    inner = sorted(values)[n // 4 : n - n // 4]
    return Estimate(fmean(values), half_width, n, fmean(inner) if n >= 4 else None)


def _digits(e: Estimate) -> int:
    """Decimals that show two significant digits of the interval, or four of a mean without one."""
    if e.half_width:
        return 1 - math.floor(math.log10(e.half_width))
    return 3 - math.floor(math.log10(abs(e.mean))) if e.mean else 1


def decimals(estimates: Sequence[Estimate], most: int = 4) -> int:
    """The number of decimals of a column: the median of those of its estimates, between 0 and `most`."""
    wanted = sorted(_digits(e) for e in estimates)
    return min(max(wanted[len(wanted) // 2], 0), most) if wanted else 0


def format_number(value: float, digits: int) -> str:
    """A number with so many decimals; in powers of ten if it would look like a zero."""
    text = f"{value:,.{digits}f}"
    return f"{value:.1e}" if value and not any(c in "123456789" for c in text) else text


def format_estimate(e: Estimate, digits: int) -> str:
    """The mean, and the half-width of its interval if there is one."""
    mean = format_number(e.mean, digits)
    if e.half_width is None:
        return mean
    return f"{mean} ± {format_number(e.half_width, digits) if e.half_width else '0'}"  # 0: all seeds agree exactly
