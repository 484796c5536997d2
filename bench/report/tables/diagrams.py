"""Diagrams beside tables, as PNG bytes, and the style of all that matplotlib draws."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from bench.report.statistics.ranks import Ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#808080"  # readable on white and on black


def new_figure(width: float, height: float) -> Figure:
    """Width and height in inches."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=110)


def plain(axes: Axes) -> None:
    """Few ticks, two spines, and INK."""
    axes.tick_params(which="both", labelsize=6, colors=INK, length=2)
    if axes.get_yscale() == "linear":  # a logarithmic axis has decades
        axes.locator_params(axis="y", nbins=4)
    if axes.get_xscale() == "linear":
        axes.locator_params(axis="x", nbins=4)
    axes.patch.set_alpha(0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def as_png(figure: Figure) -> bytes:
    """With a transparent background."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, transparent=True, format="png")
    return out.getvalue()


def critical_difference(found: Ranks) -> bytes:
    """Mean ranks on a line, the best on the left, and a bar over each group within the critical difference.

    Demsar 2006, figure 1. Where Friedman's test does not reject, one bar spans all.
    """
    ordered = sorted((rank, " ".join(label)) for label, rank in found.mean.items())
    ranks, k = [rank for rank, _ in ordered], len(ordered)
    groups = found.groups
    left = -(-k // 2)  # names on the left, below the line
    rows = max(left, k - left)
    label_width = 0.3 + 0.075 * max(len(name) + 6 for _, name in ordered)  # inches
    arm = 0.1 * (k - 1)  # distance of a name from the line
    figure = new_figure(3.6 + 2 * label_width, 0.8 + 0.12 * len(groups) + 0.2 * rows)
    axes = figure.add_subplot()
    axes.set_axis_off()
    inch = (k - 1 + 2 * arm) / 3.6
    axes.set_xlim(1 - arm - label_width * inch, k + arm + label_width * inch)
    axes.set_ylim(0.55 + 0.28 * len(groups) + 0.42 * rows, -1.5)
    axes.plot((1, k), (0, 0), color=INK, linewidth=1)
    for tick in range(1, k + 1):
        axes.plot((tick, tick), (0, -0.15), color=INK, linewidth=1)
        axes.text(tick, -0.25, str(tick), ha="center", va="bottom", fontsize=8, color=INK)
    axes.plot((1, 1 + found.critical), (-1.1, -1.1), color=INK, linewidth=1.5, marker="|", markersize=5)
    axes.text(
        1 + found.critical / 2, -1.2, f"CD = {found.critical:.2f}", ha="center", va="bottom", fontsize=8, color=INK
    )
    for i, (first, last) in enumerate(groups):
        y = 0.3 + 0.28 * i
        axes.plot(
            (ranks[first] - 0.04, ranks[last] + 0.04), (y, y), color="#2457c5", linewidth=3, solid_capstyle="butt"
        )
    for i, (rank, name) in enumerate(ordered):
        row = i if i < left else k - 1 - i
        end = 1 - arm if i < left else k + arm
        y = 0.6 + 0.28 * len(groups) + 0.42 * row
        axes.plot((rank, rank, end), (0, y, y), color=INK, linewidth=0.8)
        label = f"{name}  {rank:.2f}" if i < left else f"{rank:.2f}  {name}"
        side = "right" if i < left else "left"
        axes.text(end, y, f" {label} ", ha=side, va="center", fontsize=8, color=INK, parse_math=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.01)
    return as_png(figure)
