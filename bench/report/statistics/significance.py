"""Which mean is the best beyond chance: tests over seeds that runs have in common."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from scipy.special import stdtr

from bench.evaluation.conventions import Better, loss
from bench.report.statistics.estimates import standard_deviation

MIN_SEEDS = 5  # with fewer, a table only describes: no test, no verdict
ALPHA = 0.05  # significance level of all tests of one metric together

Key = TypeVar("Key", bound=Hashable)


def best_means(means: Mapping[Key, float], better: Better | None, ideal: float | None = None) -> set[Key]:
    """The keys of the best mean, ties included; none if no direction is better, if there is one key or all are equal.

    closest: the smallest |mean - ideal|.
    """
    if better is None or len(means) < 2:
        return set()
    losses = {key: loss(mean, better, ideal) for key, mean in means.items()}
    if len(set(losses.values())) == 1:
        return set()
    least = min(losses.values())
    return {key for key, value in losses.items() if value == least}


def paired_t_test(a: Mapping[int, float], b: Mapping[int, float]) -> float:
    """Two-sided p-value of a paired t-test on the seeds that a and b have in common, at least two of them.

    It assumes independent normal differences. If all differences are equal, p is 1 where they are 0 and 0 elsewhere.
    """
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    return min(2 * min(one_sided_t_tests(differences, 0.0)), 1.0)


def one_sided_t_tests(values: Sequence[float], bound: float) -> tuple[float, float]:
    """p-values of Student's t-tests that the mean of at least two values is above a bound, and that it is below.

    They assume independent normal values. If all values are equal, each p is 0 or 1.
    """
    n, deviation, beyond = len(values), standard_deviation(values), fmean(values) - bound
    if deviation == 0:
        return float(beyond <= 0), float(beyond >= 0)
    t = beyond / deviation * math.sqrt(n)
    return float(stdtr(n - 1, -t)), float(stdtr(n - 1, t))


def holm(p: Mapping[Key, float]) -> dict[Key, float]:
    """p-values corrected for their number (Holm 1979): each may be compared with the level of the whole family."""
    corrected: dict[Key, float] = {}
    least = 0.0
    for i, (key, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        least = max(least, min((len(p) - i) * value, 1.0))
        corrected[key] = least
    return corrected


def _not_significantly_worse(
    best: Key, values: Mapping[Key, Mapping[int, float]], better: Better, ideal: float | None = None
) -> set[Key]:
    """The keys whose values, by seed, do not differ from those of the best at ALPHA, by paired t-tests and Holm.

    closest compares |value - ideal|. Every key has at least two seeds in common with the best.
    """
    losses = {key: {seed: loss(v, better, ideal) for seed, v in by_seed.items()} for key, by_seed in values.items()}
    p = {key: paired_t_test(found, losses[best]) for key, found in losses.items() if key != best}
    return {key for key, value in holm(p).items() if value >= ALPHA}


def best_group(
    values: Mapping[Key, Mapping[int, float]], better: Better | None, ideal: float | None = None
) -> set[Key]:
    """The keys of the best mean and, if each key has MIN_SEEDS seeds in common with it, of what is not worse."""
    if better is None:
        return set()
    # Of the seeds' losses: where the closest is best, runs on both sides of the ideal are not near it on average.
    best = best_means({k: fmean(loss(v, better, ideal) for v in x.values()) for k, x in values.items()}, "lower")
    if len(best) != 1:
        return best
    (first,) = best
    if any(len(by_seed.keys() & values[first].keys()) < MIN_SEEDS for by_seed in values.values()):
        return best
    return best | _not_significantly_worse(first, values, better, ideal)


def probability_of_improvement(
    a: Sequence[float], b: Sequence[float], better: Better, ideal: float | None = None
) -> float:
    """How often a run of a is better than one of b, over all pairs of seeds; ties count half (Agarwal et al. 2021)."""
    ours, theirs = ([loss(value, better, ideal) for value in values] for values in (a, b))
    wins = sum((x < y) + 0.5 * (x == y) for x in ours for y in theirs)
    return wins / (len(ours) * len(theirs))
