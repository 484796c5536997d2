"""Rows ranked over data sets: Friedman's test, and Nemenyi's critical difference of mean ranks (Demsar 2006)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench.evaluation.conventions import loss
from bench.report.records.axes import group_by_dataset, labels_along, sort_runs
from bench.report.records.metrics import direction
from bench.report.records.run import Run
from bench.report.statistics.comparability import differences, ranking_key
from bench.report.statistics.significance import ALPHA

MIN_DATASETS = 6  # with fewer, neither test can reject; a block is a data set, never a seed or a noise level
MIN_ROWS = 3


@dataclass(frozen=True)
class Ranks:
    """mean: of each row, over data sets, 1 being the best; critical: the critical difference of two mean ranks."""

    mean: dict[tuple[str, ...], float]
    datasets: int
    friedman: float  # p-value
    critical: float

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last row, by rank, of each largest group without a significant difference."""
        ranks = sorted(self.mean.values())
        if self.friedman >= ALPHA:
            return [(0, len(ranks) - 1)]
        ends = [max(j for j, rank in enumerate(ranks) if rank - first < self.critical) for first in ranks]
        return [(i, end) for i, end in enumerate(ends) if end > i and end not in ends[:i]]


def ranks(runs: Sequence[Run], axes: Sequence[str], metric: str) -> Ranks | str:
    """Over the rows that have a number on every data set; or the reason why there are none.

    axes: those that distinguish runs on one data set; their labels name a row.
    """
    better, ideal = direction(runs, metric)
    if better is None:
        return f"neither direction is better in {metric}"
    blocks = {
        title: {labels_along(run, axes): run for run in sort_runs(group, axes) if run.values(metric)}
        for title, group in group_by_dataset(runs).items()
        if any(run.fingerprint for run in group)
    }
    if len(blocks) < MIN_DATASETS:
        return f"{len(blocks)} data sets are too few: a rank test over data sets needs at least {MIN_DATASETS}"
    first, *others = blocks.values()
    rows = [row for row in first if all(row in block for block in others)]
    if len(rows) < MIN_ROWS:
        return f"{len(rows)} rows have a number of {metric} on all data sets, and at least {MIN_ROWS} are needed"
    for title, block in blocks.items():
        keys = [ranking_key(block[row], metric) for row in rows]
        if differing := dict.fromkeys(name for key in keys for name in differences(keys[0], key)):
            return f"on {title}, rows have different {' and '.join(differing)} in {metric}"

    from scipy import stats  # slow to import, and most reports do without

    losses = [
        [loss(fmean(block[row].values(metric).values()), better, ideal) for row in rows] for block in blocks.values()
    ]
    by_block = [stats.rankdata(block) for block in losses]
    mean = {row: fmean(ranked[i] for ranked in by_block) for i, row in enumerate(rows)}
    k, n = len(rows), len(blocks)
    columns: Any = list(zip(*losses, strict=True))
    quantile = float(stats.studentized_range.ppf(1 - ALPHA, k, math.inf)) / math.sqrt(2)
    critical = quantile * math.sqrt(k * (k + 1) / (6 * n))
    return Ranks(mean, n, float(stats.friedmanchisquare(*columns).pvalue), critical)
