"""The numbers behind verdicts as diagrams, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.tables.diagrams import INK, as_png, new_figure, plain
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
