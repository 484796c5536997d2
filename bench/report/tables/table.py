"""What a table consists of: columns, rows, cells, footnotes and notes."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.evaluation.conventions import Better
from bench.report.records.run import Run
from bench.report.statistics.estimates import Estimate


def label_name(axis: str, label: str) -> str:
    """The label of a row in a sentence: a number or a switch has the name of its axis, as in latent_dim=2."""
    is_name = label == "-" or not (label[:1].isdigit() or label[:1] in "-+.[" or label in ("true", "false"))
    return label if is_name else f"{axis.rpartition('.')[2]}={label}"


@dataclass(frozen=True)
class Column:
    """A metric, and the values of the axes that are pivoted into columns, as "bernoulli, none"."""

    metric: str
    pivot: str
    better: Better | None
    ideal: float | None

    @property
    def arrow(self) -> str:
        """The better direction."""
        if self.better == "closest":
            return f"→ {self.ideal:g}"
        return {"lower": "↓", "higher": "↑", None: ""}[self.better]

    @property
    def heading(self) -> str:
        return " ".join(part for part in (self.metric, self.arrow, self.pivot and f"({self.pivot})") if part)


@dataclass(frozen=True)
class Cell:
    """status: ok, n/a, how a run without a number ended, or "not run"."""

    run: Run | None
    status: str
    text: str
    estimate: Estimate | None = None
    values: dict[int, float] = field(default_factory=dict)  # by seed
    best: bool = False  # or not significantly different from it
    footnotes: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Row:
    labels: tuple[str, ...]
    footnotes: tuple[int, ...]
    seeds: str
    cells: tuple[Cell, ...]


@dataclass
class Table:
    """A block: means of a metric are ranked within it. group: the question of all its metrics; "" for those that come
    first."""

    dataset: str
    title: str
    caption: str
    axes: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: list[Row]
    footnotes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    group: str = ""
    prose: bool = False  # cells are sentences, which may be broken into lines
    pictures: list[tuple[str, bytes]] = field(default_factory=list)  # alternative text, and a PNG


@dataclass(frozen=True)
class Layout:
    """rows, columns: the axes along each side; metrics: in the order of the columns; hidden: metrics that a note names,
    and that have no column."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    hidden: tuple[str, ...] = ()
