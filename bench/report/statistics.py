"""What a few seeds can say: a mean, its interval, which is the best, and what cannot be told from it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeVar

import numpy as np
from scipy.special import stdtr, stdtrit

FEW = 5  # seeds, below which a table describes and does not conclude
LEVEL = 0.05  # of tests, all those of one metric together

Better = Literal["lower", "higher", "closest"]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """The mean of n seeds; half_width is that of its 95 % interval, None where n = 1 gives none.

    iqm: the interquartile mean, the mean of what is left without the lowest and the highest quarter (rounded down)
    of the seeds (Agarwal et al. 2021, section 4.3); None below 4 seeds.
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


def spread(values: Sequence[float]) -> float:
    """The standard deviation of at least two values, exactly 0 where all are equal."""
    return float(np.std(values, ddof=1)) if min(values) < max(values) else 0.0


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and Student-t 95 % interval of at least one value, taken as independent and normal (Student 1908)."""
    n = len(values)
    if n == 1:
        return Estimate(float(values[0]), None, 1)
    half_width = float(stdtrit(n - 1, 0.975)) * spread(values) / math.sqrt(n)
    inner = sorted(values)[n // 4 : n - n // 4]
    return Estimate(fmean(values), half_width, n, fmean(inner) if n >= 4 else None)


def best(means: Mapping[Key, float], better: Better | None, ideal: float | None = None) -> set[Key]:
    """The keys of the best mean, ties included; none where nothing is ranked, one stands alone or all are equal.

    closest is the smallest |mean - ideal|.
    """
    if better is None or len(means) < 2:
        return set()
    losses = {key: loss_of(mean, better, ideal) for key, mean in means.items()}
    if len(set(losses.values())) == 1:
        return set()
    least = min(losses.values())
    return {key for key, value in losses.items() if value == least}


def loss_of(value: float, better: Better, ideal: float | None) -> float:
    """What is lower the better a value is."""
    if better == "closest":
        assert ideal is not None, "a metric that is best closest to something names its ideal"
        return abs(value - ideal)
    return value if better == "lower" else -value


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> float:
    """Two-sided p-value of a paired t-test on the seeds that a and b have in common, at least two of them.

    It takes the differences as independent and normal. Where all are equal, p is 1 for none and 0 for others.
    """
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    return min(2 * min(one_sided(differences, 0.0)), 1.0)


def one_sided(values: Sequence[float], bound: float) -> tuple[float, float]:
    """p-values of Student's t-tests that the mean of at least two values is above a bound, and that it is below.

    It takes the values as independent and normal. Where all are equal, each p is 0 or 1.
    """
    n, deviation, beyond = len(values), spread(values), fmean(values) - bound
    if deviation == 0:
        return float(beyond <= 0), float(beyond >= 0)
    t = beyond / deviation * math.sqrt(n)
    return float(stdtr(n - 1, -t)), float(stdtr(n - 1, t))


def holm(p: Mapping[Key, float]) -> dict[Key, float]:
    """p-values corrected for their number (Holm 1979): each may be held against the level that all are to keep."""
    corrected: dict[Key, float] = {}
    least = 0.0
    for i, (key, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        least = max(least, min((len(p) - i) * value, 1.0))
        corrected[key] = least
    return corrected


def level_with(
    best: Key, values: Mapping[Key, Mapping[int, float]], better: Better, ideal: float | None = None
) -> set[Key]:
    """The keys whose values, by seed, are not distinguishable from those of the best, at LEVEL by paired t and Holm.

    closest compares |value - ideal|. Every key has at least two seeds in common with the best.
    """
    losses = {key: {seed: loss_of(v, better, ideal) for seed, v in by_seed.items()} for key, by_seed in values.items()}
    p = {key: paired(loss, losses[best]) for key, loss in losses.items() if key != best}
    return {key for key, value in holm(p).items() if value >= LEVEL}


def winning(values: Mapping[Key, Mapping[int, float]], better: Better | None, ideal: float | None = None) -> set[Key]:
    """The keys of the best mean, and, where every one has FEW seeds in common with it, of what is level with it."""
    if better is None:
        return set()
    # Of the seeds' losses: where closest is best, runs on both sides of the ideal are not near it on average.
    found = best({k: fmean(loss_of(v, better, ideal) for v in x.values()) for k, x in values.items()}, "lower")
    if len(found) != 1:
        return found
    (first,) = found
    if any(len(by_seed.keys() & values[first].keys()) < FEW for by_seed in values.values()):
        return found
    return found | level_with(first, values, better, ideal)


def probability_of_improvement(
    a: Sequence[float], b: Sequence[float], better: Better, ideal: float | None = None
) -> float:
    """How often a run of a is better than one of b, over all pairs of seeds; ties count half (Agarwal et al. 2021)."""
    ours, theirs = ([loss_of(value, better, ideal) for value in values] for values in (a, b))
    wins = sum((x < y) + 0.5 * (x == y) for x in ours for y in theirs)
    return wins / (len(ours) * len(theirs))


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
