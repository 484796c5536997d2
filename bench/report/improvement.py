"""How often a run of one row is better than a run of another."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report import notes
from bench.report.runs import Run, ordered
from bench.report.statistics import probability_of_improvement
from bench.report.tables import Cell, Column, Layout, Row, Table, by_data, direction, label_of


def tables(runs: Sequence[Run], layout: Layout, metric: str) -> list[Table]:
    """For each data set a table of the probability that the row's run is better in a metric than the column's."""
    better, ideal = direction(runs, metric)
    if better is None:
        return []
    axes = (*layout.rows, *layout.columns)
    made = []
    for title, group in by_data(runs, layout).items():
        values = {
            run.id: [m["value"] for r in run.ok if (m := r["metrics"].get(metric)) and m["value"] is not None]
            for run in group
        }
        measured = [run for run in ordered(group, axes) if values[run.id]]
        if len(measured) < 2:
            continue

        def cell(row: Run, column: Run, values: dict[str, list[float]] = values) -> Cell:
            if row.id == column.id:
                return Cell(row, "ok", "")
            if notes.ranked_with(row, metric) != notes.ranked_with(column, metric):
                return Cell(row, "ok", "not ranked")
            share = probability_of_improvement(values[row.id], values[column.id], better, ideal)
            return Cell(row, "ok", f"{share:.2f}")

        made.append(
            Table(
                title,
                f"{title}: probability of improvement in {metric}",
                "How often a seed of the row is better than a seed of the column, over all pairs; ties count half.",
                axes,
                tuple(Column(" ".join(label_of(run, axes)), "", None, None) for run in measured),
                [
                    Row(
                        label_of(run, axes), (), str(len(values[run.id])), tuple(cell(run, other) for other in measured)
                    )
                    for run in measured
                ],
            )
        )
    return made
