"""The picture of what tables answer: a dot with its interval for each row, in a panel for each metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.tables.diagrams import INK, as_png, new_figure, plain
from bench.report.tables.table import Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BESIDE = 4  # panels beside one another
MAX_ROWS = 40  # of a panel: the first of a table with more
BLUE, GREEN = "#3f90da", "#1a7f37"
LOG_SPAN = 30  # positive means that span more than this factor are drawn on a logarithmic axis


@dataclass(frozen=True)
class _Panel:
    """A column of a table: points are the mean, the half-width of its interval, and whether it is bold, by row."""

    title: str
    column: Column
    rows: tuple[str, ...]
    points: dict[int, tuple[float, float, bool]]


def dots_and_intervals(tables: Sequence[Table], metrics: Sequence[str]) -> bytes:
    """A PNG with a panel for each of the metrics in each of the tables, and the names of rows on the left."""
    lines = [
        panels[start : start + BESIDE]
        for table in tables
        if (panels := _panels(table, metrics))
        for start in range(0, len(panels), BESIDE)
    ]
    heights = [0.75 + 0.15 * len(line[0].rows) for line in lines]
    names = 0.35 + 0.062 * max(len(name) for line in lines for name in line[0].rows)  # inches
    figure = new_figure(names + 1.75 * max(map(len, lines)), sum(heights))
    grid = figure.add_gridspec(len(lines), max(map(len, lines)), height_ratios=heights)
    for i, line in enumerate(lines):
        for j, panel in enumerate(line):
            _draw(figure.add_subplot(grid[i, j]), panel, has_names=j == 0)
    figure.tight_layout(w_pad=0.6, h_pad=0.8)
    return as_png(figure)


def _panels(table: Table, metrics: Sequence[str]) -> list[_Panel]:
    names = tuple(_short(" ".join(label for label in row.labels if label != "-")) for row in table.rows[:MAX_ROWS])
    found = []
    for i, column in enumerate(table.columns):
        if column.metric not in metrics:
            continue
        cells = [(j, row.cells[i]) for j, row in enumerate(table.rows[:MAX_ROWS])]
        points = {
            j: (cell.estimate.mean, cell.estimate.half_width or 0.0, cell.best)
            for j, cell in cells
            if cell.estimate and math.isfinite(cell.estimate.mean)
        }
        if points:
            found.append(_Panel(column.heading, column, names, points))
    return found


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:38]}..."


def _draw(axes: Axes, panel: _Panel, has_names: bool) -> None:
    means = [mean for mean, _, _ in panel.points.values()]
    if min(means) > 0 and max(means) / min(means) > LOG_SPAN:
        axes.set_xscale("log")
    for y, (mean, half_width, best) in panel.points.items():
        colour = GREEN if best else BLUE
        axes.plot((mean - half_width, mean + half_width), (y, y), color=colour, linewidth=1.2, alpha=0.7)
        axes.plot(mean, y, "D" if best else "o", color=colour, markersize=4, markeredgewidth=0)
    if panel.column.better == "closest" and panel.column.ideal is not None:
        axes.axvline(panel.column.ideal, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
    plain(axes)
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.5)
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.set_yticks(range(len(panel.rows)), panel.rows if has_names else [], fontsize=7, color=INK, parse_math=False)
    axes.set_title(panel.title, fontsize=7, color=INK, parse_math=False)
