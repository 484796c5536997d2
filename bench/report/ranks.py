"""Rows ranked over data sets: Friedman's test, and Nemenyi's critical difference of mean ranks (Demsar 2006)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench.report.runs import Run, ordered
from bench.report.statistics import LEVEL, loss_of
from bench.report.tables import Cell, Column, Layout, Row, Table, by_data, direction, label_of

FEWEST_DATA = 6  # below which neither test can say anything; a block is a data set, and seeds or noise levels are none
FEWEST_ROWS = 3


@dataclass(frozen=True)
class Ranks:
    """mean: of each row, over data sets, 1 being the best; critical: the least difference that is not chance."""

    mean: dict[tuple[str, ...], float]
    data: int
    friedman: float  # p-value
    critical: float

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last row, by rank, of each largest group in which no two are told apart."""
        ranks = sorted(self.mean.values())
        if self.friedman >= LEVEL:
            return [(0, len(ranks) - 1)]
        ends = [max(j for j, rank in enumerate(ranks) if rank - first < self.critical) for first in ranks]
        return [(i, end) for i, end in enumerate(ends) if end > i and end not in ends[:i]]


def ranks(runs: Sequence[Run], layout: Layout, metric: str) -> Ranks | str:
    """Over the rows that have a number on every data set; or why there are none."""
    better, ideal = direction(runs, metric)
    if better is None:
        return f"neither way is better in {metric}"
    axes = (*layout.rows, *(axis for axis in layout.columns if axis.split(".")[0] != "dataset"))
    blocks: list[dict[tuple[str, ...], float]] = []
    for group in by_data(runs, layout).values():
        found: dict[tuple[str, ...], float] = {}
        for run in ordered(group, axes):
            if values := run.values(metric):
                found[label_of(run, axes)] = loss_of(fmean(values.values()), better, ideal)
        blocks.append(found)
    if len(blocks) < FEWEST_DATA:
        return f"{len(blocks)} data sets are too few: a rank test over data sets needs at least {FEWEST_DATA}"
    rows = [row for row in blocks[0] if all(row in block for block in blocks)]
    if len(rows) < FEWEST_ROWS:
        return f"{len(rows)} rows have a number of {metric} on all data sets, and at least {FEWEST_ROWS} are needed"

    from scipy import stats  # slow to import, and most reports get by without

    by_block = [stats.rankdata([block[row] for row in rows]) for block in blocks]
    mean = {row: fmean(ranked[i] for ranked in by_block) for i, row in enumerate(rows)}
    k, n = len(rows), len(blocks)
    columns: Any = [[block[row] for block in blocks] for row in rows]
    quantile = float(stats.studentized_range.ppf(1 - LEVEL, k, math.inf)) / math.sqrt(2)
    critical = quantile * math.sqrt(k * (k + 1) / (6 * n))
    return Ranks(mean, n, float(stats.friedmanchisquare(*columns).pvalue), critical)


def table(found: Ranks | str, layout: Layout, metric: str) -> Table:
    """Rows by their mean rank, those within the critical difference of the first in bold where Friedman's test lets."""
    title, columns = f"Ranks in {metric} over data sets", (Column("mean rank", "", "lower", None),)
    if isinstance(found, str):
        return Table("ranks", title, "", layout.rows, columns, [], notes=[f"Refused: {found}."])
    by_rank = sorted(found.mean.items(), key=lambda item: item[1])
    least, decided = by_rank[0][1], found.friedman < LEVEL
    rows = [
        Row(row, (), f"{found.data} data sets",
            (Cell(None, "ok", f"{mean:.2f}", best=decided and mean - least < found.critical),))
        for row, mean in by_rank
    ]  # fmt: skip
    friedman = f"Friedman's test: p = {found.friedman:.2g}"
    if decided:
        told = f"{friedman}. Bold is within Nemenyi's critical difference, {found.critical:.2f}, of the first."
    else:
        told = f"{friedman}: that all rows are alike is not refuted, and no two are told apart."
    return Table("ranks", title, "1 is the best; a block is a data set.", layout.rows, columns, rows, notes=[told])
