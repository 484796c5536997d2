"""What tables answer, in words: for each metric the best row, the next one, and by how much they differ."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.evaluation.conventions import Better, loss
from bench.report.records.run import Run
from bench.report.statistics.comparability import group_key
from bench.report.statistics.effects import Effect, effect, format_p
from bench.report.statistics.estimates import Estimate, decimals, format_number
from bench.report.statistics.significance import MIN_SEEDS, holm
from bench.report.tables.groups import OTHER, Groups, question
from bench.report.tables.table import Cell, Column, Table, label_name

LEGEND = (
    "The best row, the next one, and their mean difference over common seeds, with its 95 % t-interval and the p-value "
    "of a paired t-test, Holm-corrected over all rows that the best one is compared with. Only rows that may be ranked "
    f"together are compared. Below {MIN_SEEDS} seeds there is no test: the difference is descriptive."
)
TIMES = ("seconds", "samples_per_second")


@dataclass(frozen=True)
class Answer:
    """dataset: the title of the data set, where a report has several; question: the group of the metric, with the block
    of a likelihood."""

    dataset: str
    question: str
    metric: str
    text: str

    @property
    def line(self) -> str:
        return f"{self.question}: {self.text}"


def answers(tables: Sequence[Table], metrics: Sequence[str], groups: Groups) -> list[Answer]:
    """A line for each of the metrics in these tables, and for each part of its rows that may be ranked together.

    A metric without a better direction has none, and neither has one with a number in a single row, or a time that was
    measured on several machines.
    """
    found: list[Answer] = []
    several = len({table.dataset for table in tables}) > 1
    for table in tables:
        block = table.title.removeprefix(table.dataset).removeprefix(": ")
        columns = {column.metric: column for column in table.columns if column.metric in metrics}
        for metric, column in columns.items():
            name = question(metric, groups)
            for cells in _comparable(table, metric):
                label = f"{name}, {block}" if block else name
                found.append(Answer(table.dataset if several else "", label, metric, _text(cells, column)))
    order = {name: i for i, name in enumerate((*groups, OTHER))}
    return sorted(found, key=lambda answer: order[question(answer.metric, groups)])


def by_dataset(found: Sequence[Answer]) -> dict[str, list[Answer]]:
    names = dict.fromkeys(answer.dataset for answer in found)
    return {name: [answer for answer in found if answer.dataset == name] for name in names}


def _comparable(table: Table, metric: str) -> list[dict[str, Cell]]:
    """The cells with a number of a metric by the names of their rows, in groups of two or more that may be ranked."""
    groups: dict[Hashable, dict[tuple[str, ...], Cell]] = {}
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            if column.metric == metric and column.better and cell.run and cell.estimate:
                named = (label_name(axis, label) for axis, label in zip(table.axes, row.labels, strict=True))
                labels = (*named, *([column.pivot] if column.pivot else []))
                groups.setdefault(group_key(cell.run, metric), {})[labels] = cell
    found = [_named(cells) for cells in groups.values() if len(cells) > 1]
    runs = [cell.run for cells in found for cell in cells.values() if cell.run]
    return found if may_be_compared(runs, metric) else []


def _named(cells: Mapping[tuple[str, ...], Cell]) -> dict[str, Cell]:
    """By the names of rows: their labels, without those that all of these rows have, if they stay distinct."""
    places = range(len(next(iter(cells))))
    differing = [i for i in places if len({labels[i] for labels in cells} - {"-"}) > 1]
    for kept in (differing, places):
        names = [" ".join(labels[i] for i in kept if labels[i] != "-") for labels in cells]
        if all(names) and len({*names}) == len(names):
            return dict(zip(names, cells.values(), strict=True))
    return {" ".join(labels): cell for labels, cell in cells.items()}


def may_be_compared(runs: Sequence[Run], metric: str) -> bool:
    """Not so the times of runs on several machines, and of seeds that were trained together and share one time."""
    if metric not in TIMES:
        return True
    records = [r for run in runs for r in run.ok]
    machines = {tuple(sorted((key, str(value)) for key, value in r["hardware"].items())) for r in records}
    return len(machines) == 1 and all(len(r["seeds_stacked"]) == 1 for r in records)


def _text(cells: Mapping[str, Cell], column: Column) -> str:
    """As "knn_accuracy ↑ aae 0.8005, vae 0.7701; +0.030 (0.022 to 0.039), p < 0.001, 5 seeds"."""
    better, ideal = column.better, column.ideal
    assert better is not None, "only metrics with a better direction are ranked"

    def mean_loss(name: str) -> float:
        return fmean(loss(value, better, ideal) for value in cells[name].values.values())

    first, second, *_ = ordered = sorted(cells, key=mean_loss)
    means = ", ".join(f"{name} {_mean(cells[name])}" for name in (first, second))
    equal = [name for name in ordered if mean_loss(name) == mean_loss(first)]
    heading = f"{column.metric} {column.arrow}"
    if len(equal) == len(ordered):
        return f"{heading} all {len(ordered)} rows have {_mean(cells[first])}"
    effects = _effects(first, ordered[1:], cells, better, ideal)
    found = effects[second]
    if found is None:
        return f"{heading} {means}; they have no seed in common"
    nearer = ideal if better == "closest" else None
    corrected = holm({name: e.p for name, e in effects.items() if e and e.p is not None})
    text = f"{difference_text(found.difference, nearer)}, {seeds_text(found.difference.n, corrected.get(second))}"
    alike = sum(cells[name].best for name in ordered[2:])
    more = f"{alike} more row{' is' if alike == 1 else 's are'} not significantly worse" if alike else ""
    return "; ".join(filter(None, [f"{heading} {means}", text, more]))


def _effects(
    first: str, others: Sequence[str], cells: Mapping[str, Cell], better: Better, ideal: float | None
) -> dict[str, Effect | None]:
    return {name: effect(cells[first].values, cells[name].values, better, ideal) for name in others}


def _mean(cell: Cell) -> str:
    """As the table shows it, without its interval."""
    return cell.text.partition(" ")[0]


def difference_text(difference: Estimate, distance_to: float | None = None) -> str:
    """With a sign, and its interval. distance_to: the ideal, for a difference of distances to it."""
    digits = decimals([difference], most=6)  # a difference may be much smaller than the two means
    sign = "+" if difference.mean > 0 else ""
    text = f"{sign}{format_number(difference.mean, digits)}"
    if difference.low is not None and difference.high is not None:
        text += f" ({format_number(difference.low, digits)} to {format_number(difference.high, digits)})"
    return text if distance_to is None else f"{text} in the distance to {distance_to:g}"


def seeds_text(n: int, p: float | None) -> str:
    seeds = f"{n} seed{'' if n == 1 else 's'}"
    return f"{seeds}, descriptive" if p is None else f"{format_p(p)}, {seeds}"
