"""Tuning in a report: which settings won, by how much, and how the values of the trials were spread."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from bench.evaluation.conventions import loss
from bench.report.records.axes import group_by_dataset, labels_along, sort_runs
from bench.report.records.metrics import direction
from bench.report.records.run import AXIS, DEFAULT, Run
from bench.report.tables.diagrams import INK, as_png, new_figure, plain
from bench.report.tables.table import Cell, Column, Layout, Row, Table

COLUMNS = ("trials", "best", "median", "worst", "tuned", "default")
CAPTION = (
    "Each trial has its own settings and one seed, and is evaluated on the validation split only. The settings of the "
    "best trial are then trained with all seeds, including that one. If one trial is far above the others, luck had a "
    "large part in it. tuned, default: the means of the best and of the default settings over their seeds."
)


def tables(runs: Sequence[Run], layout: Layout, figures: bool) -> list[Table]:
    """A table of the trials of each tuned run, for each data set. figures: with the values of all trials as a strip."""
    made = []
    for title, group in group_by_dataset(runs, layout.columns).items():
        by_objective: dict[str, list[Run]] = {}
        for run in sort_runs(group, (*layout.rows, *layout.columns)):
            if run.tuning and run.tuning["values"]:  # else none had a value
                by_objective.setdefault(run.tuning["objective"], []).append(run)
        for objective, tuned in by_objective.items():
            table = _table(title, objective, tuned, group, layout)
            if figures:
                table.pictures.append((f"{objective} of every trial", _strip(table, objective, tuned)))
            made.append(table)
    return made


def _table(title: str, objective: str, tuned: Sequence[Run], group: Sequence[Run], layout: Layout) -> Table:
    axes = tuple(axis for axis in (*layout.rows, *layout.columns) if axis != AXIS) or ("model",)
    rows, notes = [], []
    for run in tuned:
        note = run.tuning
        assert note, "it is tuned"
        values = [value for value in note["values"] if value is not None]
        better, ideal = direction([run], objective)
        ordered = sorted(values, key=lambda value: loss(value, better or "lower", ideal))
        numbers = [f"{value:#.4g}" for value in (ordered[0], median(values), ordered[-1])]
        labels = labels_along(run, axes)
        cells = [
            str(len(note["values"])),
            *numbers,
            _mean([run], objective),
            _mean(_defaults(run, group, axes), objective),
        ]
        rows.append(Row(labels, (), str(len(run.ok)), tuple(Cell(None, "ok", text) for text in cells)))
        notes += _notes(" ".join(labels), note)
    counts = {len(run.tuning["values"]) for run in tuned if run.tuning}
    if len(counts) > 1:
        notes.insert(0, "The numbers of trials differ, so the rows are not tuned equally.")
    columns = tuple(Column(name, "", None, None) for name in COLUMNS)
    return Table(title, f"{title}: tuning by {objective}", CAPTION, axes, columns, rows, notes=notes)


def _notes(name: str, note: dict) -> list[str]:
    """The settings, trials without a value, ties, and a model without a space of its own."""
    settings = ", ".join(f"{key}={value}" for key, value in note["settings"].items())
    if not note["settings"]:
        return [f"{name} has no setting to tune: all its trials are one run."]
    found = [f"{name}: trial {note['chosen']} was the best, {settings}."]
    if missing := [reason for reason in note["reasons"] if reason]:
        reasons = "; ".join(dict.fromkeys(missing))
        counts = f"{len(missing)} of {len(note['values'])} trials"
        found.append(f"{name}: {counts} have no value, and are counted all the same: {reasons}.")
    ties = [str(k) for k, value in enumerate(note["values"]) if value == note["values"][note["chosen"]]]
    if len(ties) > 1:
        found.append(f"{name}: trials {', '.join(ties)} have the best value, and the first of them was chosen.")
    if note["space"] != "own":
        found.append(f"{name} has no tuning space of its own: only its learning rates were tuned, by one factor.")
    return found


def _defaults(run: Run, group: Sequence[Run], axes: tuple[str, ...]) -> list[Run]:
    """The runs with the default settings in place of the best ones."""
    labels = labels_along(run, axes)
    return [other for other in group if other.label(AXIS) == DEFAULT and labels_along(other, axes) == labels]


def _mean(runs: Sequence[Run], objective: str) -> str:
    values = [value for run in runs for value in run.values(objective).values()]
    return f"{fmean(values):#.4g}" if values else "n/a"


def _strip(table: Table, objective: str, tuned: Sequence[Run]) -> bytes:
    """A line of dots for each run, one for each trial; the chosen one is larger, and a bar is the default's mean."""
    figure = new_figure(6.4, 0.7 + 0.28 * len(tuned))
    axes = figure.add_subplot()
    default = COLUMNS.index("default")
    for y, (row, run) in enumerate(zip(table.rows, tuned, strict=True)):
        note = run.tuning
        assert note, "it is tuned"
        values = [value for value in note["values"] if value is not None]
        axes.plot(values, [y] * len(values), "o", markersize=4, color="#3f90da", alpha=0.6, markeredgewidth=0)
        axes.plot(note["values"][note["chosen"]], y, "o", markersize=7, color="#e76300", markeredgewidth=0)
        if (text := row.cells[default].text) != "n/a":
            axes.plot(float(text), y, "|", markersize=14, color=INK, markeredgewidth=2)
    plain(axes)
    axes.set_yticks(range(len(tuned)), [" ".join(row.labels) for row in table.rows], fontsize=8, parse_math=False)
    axes.set_ylim(len(tuned) - 0.5, -0.5)
    axes.set_xlabel(f"{objective}: blue every trial, orange the chosen one, bar the default", fontsize=8, color=INK)
    figure.tight_layout()
    return as_png(figure)
