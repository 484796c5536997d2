"""How often a run of one row is better than a run of another."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.records.axes import group_by_dataset, labels_along, sort_runs
from bench.report.records.metrics import direction
from bench.report.records.run import Run
from bench.report.statistics.comparability import ranking_key
from bench.report.statistics.significance import probability_of_improvement
from bench.report.tables.table import Cell, Column, Layout, Row, Table


def tables(runs: Sequence[Run], layout: Layout, metric: str) -> list[Table]:
    """For each data set a table of the probability that the row's run is better in a metric than the column's."""
    if direction(runs, metric)[0] is None:
        return []
    axes, made = (*layout.rows, *layout.columns), []
    for title, group in group_by_dataset(runs, layout.columns).items():
        measured = [run for run in sort_runs(group, axes) if run.values(metric)]
        if len(measured) > 1:
            made.append(_table(title, measured, axes, metric))
    return made


def _table(title: str, runs: Sequence[Run], axes: tuple[str, ...], metric: str) -> Table:
    return Table(
        title,
        f"{title}: probability of improvement in {metric}",
        "How often a seed of the row is better than a seed of the column, over all pairs; ties count half.",
        axes,
        tuple(Column(" ".join(labels_along(run, axes)), "", None, None) for run in runs),
        [
            Row(
                labels_along(row, axes),
                (),
                str(len(row.values(metric))),
                tuple(_cell(row, run, metric) for run in runs),
            )
            for row in runs
        ],
    )


def _cell(row: Run, column: Run, metric: str) -> Cell:
    if row is column:
        return Cell(row, "ok", "")
    if ranking_key(row, metric) != ranking_key(column, metric):
        return Cell(row, "ok", "not ranked")
    better, ideal = direction([row], metric)
    assert better is not None, "only metrics with a better direction are compared"
    share = probability_of_improvement([*row.values(metric).values()], [*column.values(metric).values()], better, ideal)
    return Cell(row, "ok", f"{share:.2f}")
