"""Runs to tables: what may be compared stands in one block, and every cell says a number or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

from bench.report import notes
from bench.report.runs import Run, ordered
from bench.report.statistics import Better, Estimate, decimals, estimate, text, winning

# Numbers of p(x|z): comparable within one likelihood key only. The rest is comparable within a data set.
LIKELIHOOD_METRICS = ("elbo", "kl", "reconstruction_nll", "bits_per_dim", "log_likelihood", "bdmc_gap", "ais_minus_iw")


@dataclass(frozen=True)
class Column:
    """A metric, and where axes were pivoted into columns the value of each, as "bernoulli, none"."""

    metric: str
    pivot: str
    better: Better | None
    ideal: float | None

    @property
    def arrow(self) -> str:
        """Where the best is."""
        if self.better == "closest":
            return f"→ {self.ideal:g}"
        return {"lower": "↓", "higher": "↑", None: ""}[self.better]

    @property
    def heading(self) -> str:
        return " ".join(part for part in (self.metric, self.arrow, self.pivot and f"({self.pivot})") if part)


@dataclass(frozen=True)
class Cell:
    """status: ok, n/a, what a run that has no number ended as, or "not run"; marks: numbers of footnotes."""

    run: Run | None
    status: str
    text: str
    estimate: Estimate | None = None
    values: dict[int, float] = field(default_factory=dict)  # by seed
    best: bool = False  # or not distinguishable from it
    marks: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Row:
    labels: tuple[str, ...]
    marks: tuple[int, ...]
    seeds: str
    cells: tuple[Cell, ...]


@dataclass
class Table:
    """A block: within it, and within a metric, means are ranked."""

    data: str
    title: str
    why: str
    axes: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: list[Row]
    footnotes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    prose: bool = False  # its cells are sentences, which may be broken into lines
    pictures: list[tuple[str, bytes]] = field(default_factory=list)  # what it shows in words, and a PNG of it


@dataclass(frozen=True)
class Layout:
    """rows, columns: the axes along each side; metrics: in the order of the columns."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    metrics: tuple[str, ...]


def of_likelihood(metric: str) -> bool:
    return metric.startswith(LIKELIHOOD_METRICS) and not metric.endswith(notes.SHARED)


def _answered(runs: Sequence[Run], metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics that some row has a number of; all of them where there is none, or no row is ok."""
    return tuple(m for m in metrics if any(run.values(m) for run in runs)) or tuple(metrics)


def _numbered(runs: Sequence[Run], metrics: Sequence[str]) -> list[Run]:
    """The runs with a number of any of the metrics; all of them where there is none."""
    return [run for run in runs if any(run.values(m) for m in metrics)] or list(runs)


def known_metrics(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for r in run.ok for name in r["metrics"]))


def by_data(runs: Sequence[Run], layout: Layout) -> dict[str, list[Run]]:
    """Runs on the same images, under a title; those that ended before they saw any stand with the others."""
    axes = [a for a in notes.data_axes(runs) if a not in layout.columns]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(notes.data_title(run, axes), []).append(run)
    if "dataset" in layout.columns:
        return groups
    parts: dict[str, list[Run]] = {}
    for title, group in groups.items():
        prints = list(dict.fromkeys(p for run in group if (p := notes.fingerprint(run))))
        for run in group:
            own = notes.fingerprint(run) or (prints[0] if prints else "")
            parts.setdefault(f"{title} (images {own[:8]})" if len(prints) > 1 else title, []).append(run)
    return parts


def build(runs: Sequence[Run], layout: Layout, beside: Sequence[str] = (), whole: bool = False) -> list[Table]:
    """For each data set one table of what is comparable across likelihoods, then a block for each likelihood key.

    beside: what every table is to say below it. whole: with the metrics, too, that are n/a in every row; else a note
    says which and why.
    """
    general = tuple(m for m in layout.metrics if not of_likelihood(m))
    likelihood = tuple(m for m in layout.metrics if of_likelihood(m))
    tables = []
    for title, group in by_data(runs, layout).items():
        blocks: dict[tuple, list[Run]] = {}
        if likelihood:
            keyed = [run for run in group if run.ok and run.first("likelihood_key")]
            for run in keyed if whole else _numbered(keyed, likelihood):  # a GAN has no number but by annealing
                blocks.setdefault(tuple(sorted(run.first("likelihood_key").items())), []).append(run)
        in_blocks = {run.id for block in blocks.values() for run in block}
        first = group if general else [run for run in group if run.id not in in_blocks]
        if first:
            tables.append(_table(first, layout, general or likelihood, whole, title, title, notes.data_size(group)))
        keys = [dict(key) for key in blocks]
        for key, block in blocks.items():
            name = f"{title}: {notes.likelihood_title(dict(key))}"
            tables.append(_table(block, layout, likelihood, whole, title, name, notes.why_apart(dict(key), keys)))
    for table in tables:
        table.notes.extend(beside)
    return tables


def _table(
    runs: Sequence[Run], layout: Layout, asked: tuple[str, ...], whole: bool, data: str, title: str, why: str
) -> Table:
    footnotes: dict[str, int] = {}
    metrics = asked if whole else _answered(runs, asked)

    def marks(texts: Sequence[str]) -> tuple[int, ...]:
        return tuple(sorted(footnotes.setdefault(text, len(footnotes) + 1) for text in dict.fromkeys(texts)))

    pivots = list(dict.fromkeys(label_of(run, layout.columns) for run in ordered(runs, layout.columns)))
    rows: dict[tuple[str, ...], dict[tuple[str, ...], Run]] = {}
    for run in ordered(runs, layout.rows):
        rows.setdefault(label_of(run, layout.rows), {})[label_of(run, layout.columns)] = run
    columns = [Column(m, ", ".join(pivot), *direction(runs, m)) for m in metrics for pivot in pivots]

    made: dict[tuple[tuple[str, ...], int], Cell] = {}
    first_marks = {}
    for labels, at in rows.items():
        first_marks[labels] = marks([line for run in at.values() for line in notes.of_run(run)])
        for i, column in enumerate(columns):
            pivot = pivots[i % len(pivots)]
            made[labels, i] = _cell(at.get(pivot), column.metric, marks)

    for metric in metrics:
        here = [key for key in made if columns[key[1]].metric == metric]
        _finish(made, here, columns[here[0][1]], max_n={k: _seeds(v) for k, v in rows.items()})
    return Table(
        data,
        title,
        why,
        layout.rows,
        tuple(columns),
        [
            Row(labels, first_marks[labels], _seeds_text(at), tuple(made[labels, i] for i in range(len(columns))))
            for labels, at in rows.items()
        ],
        list(footnotes),
        notes.of_table(runs, layout.rows, metrics)
        + notes.floors(runs, metrics)
        + notes.sizes(runs, metrics)
        + notes.unanswered(runs, [m for m in asked if m not in metrics]),
    )


def label_of(run: Run, axes: Sequence[str]) -> tuple[str, ...]:
    """What names a run along these axes."""
    return tuple(run.label(axis) for axis in axes)


def direction(runs: Sequence[Run], metric: str) -> tuple[Better | None, float | None]:
    """Which way a metric is good, and where closest is best its ideal."""
    found = [r["metrics"][metric] for run in runs for r in run.ok if metric in r["metrics"]]
    return next(((m["better"], m["ideal"]) for m in found if m["better"]), (None, None))


def _seeds(at: dict[tuple[str, ...], Run]) -> int:
    return max(len(run.ok) for run in at.values())


def _seeds_text(at: dict[tuple[str, ...], Run]) -> str:
    return ", ".join(
        dict.fromkeys(
            str(len(run.ok)) if len(run.ok) == len(run.records) else f"{len(run.ok)} of {len(run.records)}"
            for run in at.values()
        )
    )


def _cell(run: Run | None, metric: str, marks: Callable[[Sequence[str]], tuple[int, ...]]) -> Cell:
    if run is None:
        return Cell(None, "not run", "not run")
    if not run.ok:
        reasons = notes.endings(run)
        status = ", ".join(dict.fromkeys(r["status"] for r in run.records))
        return Cell(run, status, status, marks=marks(reasons), reason="; ".join(reasons))
    values = run.values(metric)
    reasons = notes.by_seed([(r, _remark(r["metrics"].get(metric), metric)) for r in run.ok])
    if not values:
        return Cell(run, "n/a", "n/a", marks=marks(reasons), reason="; ".join(reasons))
    return Cell(run, "ok", "", estimate([*values.values()]), values, marks=marks(reasons), reason="; ".join(reasons))


def _remark(entry: dict | None, metric: str) -> str | None:
    if entry is None:
        return f"{metric} was not evaluated"
    return entry["reason"] or (None if entry["value"] is not None else "no reason was recorded")


def _finish(
    made: dict[tuple[tuple[str, ...], int], Cell],
    here: Sequence[tuple[tuple[str, ...], int]],
    column: Column,
    max_n: dict[tuple[str, ...], int],
) -> None:
    """Writes the numbers of one metric with the same decimals, and finds the best among those that may be ranked."""
    groups: dict[Hashable, dict[tuple[tuple[str, ...], int], dict[int, float]]] = {}
    known = [e for key in here if (e := made[key].estimate)]
    digits = decimals(known)
    for key in here:
        run, found = made[key].run, made[key].estimate
        if run and found:
            groups.setdefault(notes.ranked_with(run, column.metric), {})[key] = made[key].values
    winners = {key for group in groups.values() for key in winning(group, column.better, column.ideal)}
    for key in here:
        cell = made[key]
        if cell.estimate:
            n = "" if cell.estimate.n == max_n[key[0]] else f" (n={cell.estimate.n})"
            shown = text(cell.estimate, digits) + n
            made[key] = replace(cell, text=shown, best=key in winners)
