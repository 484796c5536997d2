"""The metrics of records, and which direction is better in them."""

from __future__ import annotations

from collections.abc import Sequence

from bench.evaluation.conventions import Better
from bench.report.records.run import Run


def known_metrics(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for r in run.ok for name in r["metrics"]))


def direction(runs: Sequence[Run], metric: str) -> tuple[Better | None, float | None]:
    """Whether lower, higher or closest is better, and of the last the ideal.

    None for outputs with permuted conditions, which are not meant to be good.
    """
    if "permuted" in metric.split("@"):
        return None, None
    found = [r["metrics"][metric] for run in runs for r in run.ok if metric in r["metrics"]]
    return next(((m["better"], m["ideal"]) for m in found if m["better"]), (None, None))
