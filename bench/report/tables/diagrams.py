"""Diagrams of test results, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.page.figures import INK, as_png, new_figure, plain
from bench.report.statistics.ranks import Ranks
from bench.report.verdicts.claims import FAILS, HOLDS, Verdict

_COLOURS = {HOLDS: "#2a9d5c", FAILS: "#d1495b"}
PER_ROW = 4


def paired(verdicts: Sequence[Verdict]) -> bytes:
    """A box per comparison with a line per seed: on the left the reference, on the right the run that is compared."""
    rows = -(-len(verdicts) // PER_ROW)
    across = min(len(verdicts), PER_ROW)
    figure = new_figure(2.7 * across, 2.2 * rows)
    for i, v in enumerate(verdicts):
        axes = figure.add_subplot(rows, across, i + 1)
        ours, theirs = v.values
        colour = _COLOURS.get(v.outcome, INK)
        for seed in ours:
            axes.plot((0, 1), (theirs[seed], ours[seed]), color=colour, marker="o", markersize=2.5, linewidth=0.8)
        if v.comparison.scale == "ratio" and min(ours.values()) > 0:
            axes.set_yscale("log")
        axes.set_xlim(-0.3, 1.3)
        axes.set_title(f"{v.comparison.metric}\n{v.outcome}", fontsize=8, color=colour, parse_math=False)
        plain(axes)
        axes.set_xticks((0, 1), v.comparison.sides, fontsize=8, parse_math=False)
    figure.tight_layout()
    return as_png(figure)


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
