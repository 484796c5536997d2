"""Ranks over data sets as a table."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.records.axes import dataset_axes
from bench.report.records.run import Run
from bench.report.statistics.ranks import ranks
from bench.report.statistics.significance import ALPHA
from bench.report.tables.diagrams import critical_difference
from bench.report.tables.table import Cell, Column, Layout, Row, Table


def row_axes(runs: Sequence[Run], layout: Layout) -> tuple[str, ...]:
    """The axes that distinguish runs on one data set."""
    datasets = dataset_axes(runs)
    return *layout.rows, *(axis for axis in layout.columns if axis not in datasets)


def table(runs: Sequence[Run], layout: Layout, metric: str, figures: bool) -> Table:
    """Rows by mean rank. Where Friedman's test rejects, those within the critical difference of the best are bold.

    figures: with a critical-difference diagram.
    """
    axes = row_axes(runs, layout)
    found = ranks(runs, axes, metric)
    title, columns = f"Ranks in {metric} over data sets", (Column("mean rank", "", "lower", None),)
    if isinstance(found, str):
        return Table("ranks", title, "", axes, columns, [], notes=[f"Refused: {found}."])
    by_rank = sorted(found.mean.items(), key=lambda item: item[1])
    best, significant = by_rank[0][1], found.friedman < ALPHA
    rows = [
        Row(row, (), f"{found.datasets} data sets",
            (Cell(None, "ok", f"{mean:.2f}", best=significant and mean - best < found.critical),))
        for row, mean in by_rank
    ]  # fmt: skip
    friedman = f"Friedman's test: p = {found.friedman:.2g}"
    if significant:
        note = f"{friedman}. Bold is within Nemenyi's critical difference, {found.critical:.2f}, of the first."
    else:
        note = f"{friedman}, which does not reject that all rows are alike: no difference is significant."
    pictures = [(f"critical-difference diagram of {metric}", critical_difference(found))] if figures else []
    return Table(
        "ranks",
        title,
        "The mean rank of each row over the data sets; 1 is the best.",
        axes,
        columns,
        rows,
        notes=[note],
        pictures=pictures,
    )
