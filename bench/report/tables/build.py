"""Runs to tables: a block holds what may be compared, and every cell a number or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bench.report.records.axes import group_by_dataset, labels_along, sort_runs
from bench.report.records.metrics import direction
from bench.report.records.reasons import end_reasons, group_seeds, remark
from bench.report.records.run import Run
from bench.report.statistics import convergence
from bench.report.statistics.comparability import group_key, is_likelihood_metric
from bench.report.statistics.estimates import decimals, estimate, format_estimate
from bench.report.statistics.significance import best_group
from bench.report.tables import notes
from bench.report.tables.table import Cell, Column, Layout, Row, Table


def build(
    runs: Sequence[Run],
    layout: Layout,
    extra_notes: Sequence[str] = (),
    all_metrics: bool = False,
    group: str = "",
) -> list[Table]:
    """For each data set one table of what is comparable across likelihoods, then a block for each likelihood key.

    extra_notes: are added to every table. all_metrics: also shows metrics that are n/a in every row, which otherwise
    a note names with the reason. group: the question of all metrics, which is in the titles; such tables have only the
    notes about their metrics, as the others stand below the tables without a group.
    """
    general = tuple(m for m in layout.metrics if not is_likelihood_metric(m))
    likelihood = tuple(m for m in layout.metrics if is_likelihood_metric(m))
    tables = []
    for title, members in group_by_dataset(runs, layout.columns).items():
        warnings = notes.data_warnings(members)
        table = partial(
            _table, layout=layout, all_metrics=all_metrics, dataset=title, data_warnings=warnings, group=group
        )
        blocks: dict[tuple, list[Run]] = {}
        if likelihood:
            keyed = [run for run in members if run.ok and run.likelihood_key]
            for run in keyed if all_metrics else _with_numbers(keyed, likelihood):  # of a GAN only AIS has any
                blocks.setdefault(tuple(sorted((run.likelihood_key or {}).items())), []).append(run)
        # A single block has nothing to be kept apart from.
        is_one = not group and not all_metrics and bool(general) and len(blocks) == 1
        shown = layout.metrics if is_one else general or likelihood
        in_blocks = {run.key for block in blocks.values() for run in block}
        first = members if general else [run for run in members if run.key not in in_blocks]
        heading = f"{title}: {group}" if group else title
        caption = "" if group else notes.dataset_caption(members)
        made = [table(first, shown, heading, caption)] if first and (general or not group) else []
        keys = [dict(key) for key in blocks]
        if is_one:
            (block,) = blocks.values()
            made[0].notes += notes.likelihood_note(keys[0], block, likelihood)
        for key, block in () if is_one else zip(keys, blocks.values(), strict=True):
            name = f"{heading}{', ' if group else ': '}{notes.likelihood_title(key, block)}"
            made.append(table(block, likelihood, name, notes.block_caption(keys)))
        if not group:
            made[0].notes = (
                notes.dataset_notes(members, warnings) + made[0].notes + notes.hidden_metrics(members, layout.hidden)
            )
        tables += made
    return [replace(table, notes=[*table.notes, *extra_notes]) for table in tables]


def _with_numbers(runs: Sequence[Run], metrics: Sequence[str]) -> list[Run]:
    """The runs with a number of any of the metrics; all of them where there is none."""
    return [run for run in runs if any(run.values(m) for m in metrics)] or list(runs)


def _table(
    runs: Sequence[Run],
    metrics: tuple[str, ...],
    title: str,
    caption: str,
    *,
    layout: Layout,
    all_metrics: bool,
    dataset: str,
    data_warnings: Mapping[str, Sequence[str]],
    group: str,
) -> Table:
    measured = tuple(m for m in metrics if any(run.values(m) for run in runs))
    shown = metrics if all_metrics or not measured else measured
    footnotes: dict[str, int] = {}

    def footnote_numbers(texts: Sequence[str]) -> tuple[int, ...]:
        return tuple(sorted(footnotes.setdefault(text, len(footnotes) + 1) for text in dict.fromkeys(texts)))

    pivots = list(dict.fromkeys(labels_along(run, layout.columns) for run in sort_runs(runs, layout.columns)))
    rows: dict[tuple[str, ...], dict[tuple[str, ...], Run]] = {}
    for run in sort_runs(runs, layout.rows):
        by_pivot = rows.setdefault(labels_along(run, layout.rows), {})
        pivot = labels_along(run, layout.columns)
        assert pivot not in by_pivot, "two runs in one cell: the layout holds all axes in which runs differ"
        by_pivot[pivot] = run
    columns = [Column(m, ", ".join(pivot), *direction(runs, m)) for m in shown for pivot in pivots]

    cells: dict[tuple[tuple[str, ...], int], Cell] = {}
    row_numbers = {}
    for labels, by_pivot in rows.items():
        texts = []
        if not group:
            texts = [text for run in by_pivot.values() for text in notes.row_footnotes(run, data_warnings)]
            texts += [text for run in by_pivot.values() for text in convergence.footnotes(run, layout.metrics[0])]
        row_numbers[labels] = footnote_numbers(texts)
        for i, column in enumerate(columns):
            cells[labels, i] = _cell(by_pivot.get(pivots[i % len(pivots)]), column.metric, footnote_numbers)

    seeds = {labels: max(len(run.ok) for run in by_pivot.values()) for labels, by_pivot in rows.items()}
    for metric in shown:
        keys = [key for key in cells if columns[key[1]].metric == metric]
        _format_and_rank(cells, keys, columns[keys[0][1]], seeds)
    return Table(
        dataset,
        title,
        caption,
        layout.rows,
        tuple(columns),
        [
            Row(labels, row_numbers[labels], _seeds(by_pivot), tuple(cells[labels, i] for i in range(len(columns))))
            for labels, by_pivot in rows.items()
        ],
        list(footnotes),
        ([] if group else notes.general_notes(runs, (*layout.rows, *layout.columns)))
        + notes.metric_notes(runs, (*layout.rows, *layout.columns), shown)
        + notes.omitted_metrics(runs, [m for m in metrics if m not in shown]),
        group,
    )


def _seeds(by_pivot: Mapping[tuple[str, ...], Run]) -> str:
    """How many seeds ended well, as "3" or "2 of 3"; several where the columns differ."""
    return ", ".join(
        dict.fromkeys(
            str(len(run.ok)) if len(run.ok) == len(run.records) else f"{len(run.ok)} of {len(run.records)}"
            for run in by_pivot.values()
        )
    )


def _cell(run: Run | None, metric: str, footnote_numbers: Callable[[Sequence[str]], tuple[int, ...]]) -> Cell:
    """footnote_numbers: the numbers of footnotes with these texts."""
    if run is None:
        return Cell(None, "not run", "not run")
    if not run.ok:
        reasons = end_reasons(run)
        status = ", ".join(dict.fromkeys(r["status"] for r in run.records))
        return Cell(run, status, status, footnotes=footnote_numbers(reasons), reason="; ".join(reasons))
    values = run.values(metric)
    reasons = group_seeds([(r, remark(r["metrics"].get(metric), metric)) for r in run.ok])
    footnotes, reason = footnote_numbers(reasons), "; ".join(reasons)
    if not values:
        return Cell(run, "n/a", "n/a", footnotes=footnotes, reason=reason)
    return Cell(run, "ok", "", estimate([*values.values()]), values, footnotes=footnotes, reason=reason)


def _format_and_rank(
    cells: dict[tuple[tuple[str, ...], int], Cell],
    keys: Sequence[tuple[tuple[str, ...], int]],
    column: Column,
    seeds: Mapping[tuple[str, ...], int],
) -> None:
    """Writes the numbers of one metric with the same decimals, and finds the best among those that may be ranked."""
    groups: dict[Hashable, dict[tuple[tuple[str, ...], int], dict[int, float]]] = {}
    digits = decimals([e for key in keys if (e := cells[key].estimate)])
    for key in keys:
        cell = cells[key]
        if cell.run and cell.estimate:
            groups.setdefault(group_key(cell.run, column.metric), {})[key] = cell.values
    best = {key for group in groups.values() for key in best_group(group, column.better, column.ideal)}
    for key in keys:
        cell = cells[key]
        if cell.estimate:
            n = "" if cell.estimate.n == seeds[key[0]] else f" (n={cell.estimate.n})"
            cells[key] = replace(cell, text=format_estimate(cell.estimate, digits) + n, best=key in best)
