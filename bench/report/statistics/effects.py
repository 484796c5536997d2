"""By how much two rows differ on the seeds they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.evaluation.conventions import Better
from bench.report.statistics.estimates import Estimate, estimate
from bench.report.statistics.significance import MIN_SEEDS, paired_t_test


@dataclass(frozen=True)
class Effect:
    """difference: the mean of the differences, seed by seed, and its 95 % t-interval; p: of a paired t-test, two-sided
    and not corrected, None below MIN_SEEDS."""

    difference: Estimate
    p: float | None


def effect(
    a: Mapping[int, float], b: Mapping[int, float], better: Better | None, ideal: float | None = None
) -> Effect | None:
    """Of a minus b, each with its values by seed; None if they have no seed in common.

    closest: of the distances |value - ideal|, so that below 0 means that a is nearer.
    """
    if better == "closest":
        assert ideal is not None, "a metric whose best is the closest has an ideal"
        a, b = ({seed: abs(value - ideal) for seed, value in values.items()} for values in (a, b))
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    difference = estimate([a[seed] - b[seed] for seed in seeds])
    return Effect(difference, paired_t_test(a, b) if len(seeds) >= MIN_SEEDS else None)


def format_p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
