"""The picture of what tables answer: a dot with its interval for each row, in a panel for each metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.tables.diagrams import INK, as_png, new_figure, plain
from bench.report.tables.table import Column, Table, label_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BESIDE = 4  # panels beside one another
MAX_ROWS = 40  # of a panel: the first of a table with more
BLUE, GREEN = "#3f90da", "#2a9d4e"
LOG_SPAN = 30  # positive means that span more than this factor are drawn on a logarithmic axis


@dataclass(frozen=True)
class _Panel:
    """A column of a table: points are the mean, the half-width of its interval, and whether it is bold, by row."""

    title: str
    column: Column
    points: dict[tuple[str, ...], tuple[float, float, bool]]


def dots_and_intervals(tables: Sequence[Table], metrics: Sequence[str]) -> bytes | None:
    """A PNG with a panel for each of the metrics with several rows, and the names of rows on the left.

    Tables of one data set share the rows of the first. None where no metric has several rows.
    """
    lines: list[tuple[list[tuple[tuple[str, ...], str]], list[_Panel]]] = []
    for dataset in dict.fromkeys(table.dataset for table in tables):
        members = [table for table in tables if table.dataset == dataset]
        panels = [panel for table in members for panel in _panels(table, metrics)]
        shown = [row for row in _rows(members) if any(row in panel.points for panel in panels)]
        rows = [(row, _name(members[0].axes, row)) for row in shown]
        lines += [(rows, panels[start : start + BESIDE]) for start in range(0, len(panels), BESIDE)]
    if not lines:
        return None
    heights = [0.8 + 0.155 * len(rows) for rows, _ in lines]
    across = max(len(panels) for _, panels in lines)
    names = 0.35 + 0.07 * max(len(name) for rows, _ in lines for _, name in rows)  # inches
    figure = new_figure(names + 1.9 * across, sum(heights))
    grid = figure.add_gridspec(len(lines), across, height_ratios=heights)
    for i, (rows, panels) in enumerate(lines):
        for j, panel in enumerate(panels):
            _draw(figure.add_subplot(grid[i, j]), panel, rows, has_names=j == 0)
    figure.tight_layout(w_pad=0.6, h_pad=0.8)
    return as_png(figure)


def _rows(tables: Sequence[Table]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(row.labels for table in tables for row in table.rows[:MAX_ROWS]))[:MAX_ROWS]


def _panels(table: Table, metrics: Sequence[str]) -> list[_Panel]:
    block = table.title.removeprefix(table.dataset).removeprefix(": ")
    found = []
    for i, column in enumerate(table.columns):
        cells = {row.labels: row.cells[i] for row in table.rows[:MAX_ROWS]}
        points = {
            labels: (cell.estimate.mean, cell.estimate.half_width or 0.0, cell.best)
            for labels, cell in cells.items()
            if cell.estimate and math.isfinite(cell.estimate.mean)
        }
        if column.metric in metrics and len(points) > 1:
            found.append(_Panel(f"{_short(block, 28)}\n{column.heading}".strip(), column, points))
    return found


def _name(axes: Sequence[str], row: tuple[str, ...]) -> str:
    return _short(" ".join(label_name(axis, label) for axis, label in zip(axes, row, strict=True) if label != "-"))


def _short(name: str, longest: int = 36) -> str:
    return name if len(name) <= longest else f"{name[: longest - 2]}..."


def _draw(axes: Axes, panel: _Panel, rows: Sequence[tuple[tuple[str, ...], str]], has_names: bool) -> None:
    means = [mean for mean, _, _ in panel.points.values()]
    if min(means) > 0 and max(means) / min(means) > LOG_SPAN:
        axes.set_xscale("log")
    for y, (row, _) in enumerate(rows):
        if row in panel.points:
            mean, half_width, best = panel.points[row]
            colour = GREEN if best else BLUE
            axes.plot((mean - half_width, mean + half_width), (y, y), color=colour, linewidth=1.2, alpha=0.7)
            axes.plot(mean, y, "D" if best else "o", color=colour, markersize=4, markeredgewidth=0)
    if panel.column.better == "closest" and panel.column.ideal is not None:
        axes.axvline(panel.column.ideal, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
    plain(axes)
    if axes.get_xscale() == "linear":
        axes.ticklabel_format(axis="x", useOffset=False)
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    names = [name for _, name in rows] if has_names else []
    axes.set_yticks(range(len(rows)), names or [""] * len(rows), fontsize=8, color=INK, parse_math=False)
    axes.set_title(panel.title, fontsize=8, color=INK, parse_math=False)
