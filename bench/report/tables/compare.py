"""Two rows against one another: by how much they differ in every metric, on the seeds they have in common."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from bench.errors import InputError
from bench.evaluation.conventions import Better, loss
from bench.report.records.axes import group_by_dataset, labels_along, sort_runs
from bench.report.records.metrics import direction
from bench.report.records.run import Run
from bench.report.statistics.comparability import differences, ranking_key
from bench.report.statistics.effects import Effect, effect
from bench.report.statistics.estimates import decimals, estimate, format_estimate, format_number
from bench.report.statistics.significance import ALPHA, MIN_SEEDS, holm
from bench.report.tables.answers import may_be_compared
from bench.report.tables.table import Cell, Column, Layout, Row, Table, label_name
from bench.runs.files import write_file

MAX_NAMES = 30  # rows that a message lists


@dataclass(frozen=True)
class Comparison:
    """One metric of two rows. effect: None where they may not be compared, for the reason.

    p: Holm-corrected over the metrics of the data set in which a direction is better; None for the others.
    """

    dataset: str
    metric: str
    better: Better | None
    ideal: float | None
    runs: tuple[Run, Run]
    effect: Effect | None
    p: float | None
    reason: str


def compare(runs: Sequence[Run], layout: Layout, names: Sequence[str]) -> list[Comparison]:
    """The rows with these two names, on each data set that has both, in every metric of which both have a number.

    A name is all labels of a row, or some that no other row of its data set has together, as in "vae gaussian". Raises
    InputError for other numbers of names, and for a name that no row has or that several rows have.
    """
    if len(names) != 2 or names[0] == names[1]:
        raise InputError(f"compare={list(names)}: expected the names of two rows, such as [aae, vae]")
    axes = (*layout.rows, *layout.columns)
    groups = {title: sort_runs(group, axes) for title, group in group_by_dataset(runs, layout.columns).items()}
    found = []
    for title, group in groups.items():
        first, second = (_named(group, axes, name) for name in names)
        if first and second:
            found += _compare(title, (first, second), layout.metrics)
    if not found:
        known = {title: [row_name(run, axes) for run in group] for title, group in groups.items()}
        every = list(dict.fromkeys(name for group in known.values() for name in group))
        for name in names:
            if not any(_matching(group, axes, name) for group in groups.values()):
                raise InputError(f"compare={name} is no row: there are {_listed(every)}")
        raise InputError(f"compare={list(names)}: no data set has both rows with a number of the same metric")
    return found


def row_name(run: Run, axes: Sequence[str]) -> str:
    """The labels of a row, without those of things that it does not use."""
    return " ".join(label_name(axis, run.label(axis)) for axis in axes if run.value(axis) is not None) or run.name


def _matching(runs: Sequence[Run], axes: Sequence[str], name: str) -> list[Run]:
    if exact := [run for run in runs if name in (row_name(run, axes), " ".join(labels_along(run, axes)))]:
        return exact
    words = set(name.split())
    return [run for run in runs if words and words <= _words(run, axes)]


def _words(run: Run, axes: Sequence[str]) -> set[str]:
    """Of its labels, and those with the name of their axis, as in latent_dim=2."""
    labels = [(axis, run.label(axis)) for axis in axes]
    return {word for axis, label in labels for text in (label, label_name(axis, label)) for word in text.split()}


def _named(runs: Sequence[Run], axes: Sequence[str], name: str) -> Run | None:
    found = _matching(runs, axes, name)
    if len(found) > 1:
        rows = _listed([row_name(run, axes) for run in found])
        raise InputError(f"compare={name} is the name of {len(found)} rows: give one of {rows}")
    return found[0] if found else None


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _compare(dataset: str, runs: tuple[Run, Run], metrics: Sequence[str]) -> list[Comparison]:
    made: list[Comparison] = []
    for metric in metrics:
        a, b = (run.values(metric) for run in runs)
        if not a or not b:
            continue
        better, ideal = direction(runs, metric)
        differing = differences(*(ranking_key(run, metric) for run in runs))
        if not may_be_compared(runs, metric):
            differing.append("machines, or seeds trained together")
        found = None if differing else effect(a, b, better, ideal)
        reason = f"different {' and '.join(differing)}" if differing else "" if found else "no seed in common"
        made.append(Comparison(dataset, metric, better, ideal, runs, found, None, reason))
    corrected = holm({c.metric: c.effect.p for c in made if c.effect and c.effect.p is not None and c.better})
    return [replace(c, p=corrected.get(c.metric)) for c in made]


def tables(found: Sequence[Comparison], layout: Layout) -> list[Table]:
    """One table for each data set, with a row for each metric."""
    axes = (*layout.rows, *layout.columns)
    made = []
    for dataset in dict.fromkeys(c.dataset for c in found):
        here = [c for c in found if c.dataset == dataset]
        names = [row_name(run, axes) for run in here[0].runs]
        a, b = _short_names(here[0].runs, axes)
        columns = tuple(Column(name, "", None, None) for name in (a, b, "difference", "p"))
        caption = (
            f"The difference is {a} minus {b} on their common seeds; ± is the half-width of its 95 % t-interval. p is "
            "that of a paired t-test, Holm-corrected over the metrics with a better direction."
        )
        notes = []
        if any(c.better == "closest" for c in here):
            notes.append("For a metric with an ideal, the difference is one of distances to it: below 0 is nearer.")
        if any(c.p is None and c.effect and c.better for c in here):
            notes.append(f"Descriptive below {MIN_SEEDS} common seeds: there is no test.")
        if any(c.p is not None for c in here):
            notes.append(f"Bold is the better row where p is below {ALPHA:g}.")
        title = f"{dataset}: {names[0]} against {names[1]}"
        made.append(Table(dataset, title, caption, ("metric",), columns, [_row(c) for c in here], notes=notes))
    return made


def _short_names(runs: Sequence[Run], axes: Sequence[str]) -> list[str]:
    """The names of two rows by the labels in which they differ."""
    differing = [axis for axis in axes if len({run.label(axis) for run in runs}) > 1]
    return [row_name(run, differing) for run in runs]


def _row(c: Comparison) -> Row:
    heading = Column(c.metric, "", c.better, c.ideal).heading
    estimates = [estimate([*run.values(c.metric).values()]) for run in c.runs]
    digits = decimals(estimates)
    significant = c.p is not None and c.p < ALPHA and c.better is not None
    losses = [_mean_loss(c, run) for run in c.runs] if significant else [0.0, 0.0]
    means = [
        Cell(run, "ok", format_number(e.mean, digits), best=own < other)
        for run, e, own, other in zip(c.runs, estimates, losses, reversed(losses), strict=True)
    ]
    difference = Cell(None, "ok", c.reason)
    if c.effect:
        e = c.effect.difference
        text = f"{'+' if e.mean > 0 else ''}{format_estimate(e, decimals([e]))}"
        difference = Cell(None, "ok", text, e)
    p = "" if c.p is None else "< 0.001" if c.p < 0.001 else f"{c.p:.2g}"
    seeds = str(c.effect.difference.n) if c.effect else "-"
    return Row((heading,), (), seeds, (*means, difference, Cell(None, "ok", p)))


def _mean_loss(c: Comparison, run: Run) -> float:
    assert c.better is not None, "only metrics with a better direction have a better row"
    return fmean(loss(value, c.better, c.ideal) for value in run.values(c.metric).values())


def write_csv(path: Path, found: Sequence[Comparison], layout: Layout) -> None:
    """A line for each data set and metric; a cell without a number is empty. p: not corrected; p_holm: corrected."""
    axes = (*layout.rows, *layout.columns)
    head = ["dataset", "metric", "better", "ideal", "a", "b", "mean_a", "mean_b", "difference", "low", "high", "seeds"]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow([*head, "p", "p_holm", "reason"])
    for c in found:
        means = [fmean(run.values(c.metric).values()) for run in c.runs]
        e = c.effect.difference if c.effect else None
        numbers = [e.mean, e.low, e.high, e.n] if e else [None] * 4
        tested = [c.effect.p if c.effect else None, c.p, c.reason]
        names = [row_name(run, axes) for run in c.runs]
        writer.writerow([c.dataset, c.metric, c.better, c.ideal, *names, *means, *numbers, *tested])
    write_file(path, file.getvalue())
