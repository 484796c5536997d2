"""Metrics in groups by the question they answer, and the few of them that come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.evaluation.conventions import metric_of
from bench.report.records.run import Run

MAX_HEADLINE = 8  # metrics of the first table, which a reader takes in at a glance
OTHER = "other"  # the group of metrics that no group names, as a user's own

Groups = Mapping[str, Sequence[str]]  # by question, its metrics; of each, the first that has a number is the headline


def question(metric: str, groups: Groups) -> str:
    """The group of a metric; psnr@0.5 belongs to that of psnr."""
    full, base = metric_of(metric), metric_of(metric).partition("@")[0]
    return next((name for name, metrics in groups.items() if full in metrics or base in metrics), OTHER)


def grouped(metrics: Sequence[str], groups: Groups) -> dict[str, tuple[str, ...]]:
    """The metrics by question, in the order of the groups; within one, in the order in which they are given."""
    found: dict[str, tuple[str, ...]] = {}
    for name in (*groups, OTHER):
        if members := tuple(metric for metric in metrics if question(metric, groups) == name):
            found[name] = members
    return found


def measured(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """The metrics of which any run has a number."""
    return [metric for metric in metrics if any(run.values(metric) for run in runs)]


def headline(runs: Sequence[Run], metrics: Sequence[str], groups: Groups) -> tuple[str, ...]:
    """Of each group the first metric that has a number; at most MAX_HEADLINE.

    Where fewer than that have a number, all of them, and where none has, the first of each group.
    """
    found = measured(runs, metrics)
    if found and len(found) <= MAX_HEADLINE:
        return tuple(found)
    return tuple(members[0] for members in grouped(found or metrics, groups).values())[:MAX_HEADLINE]
