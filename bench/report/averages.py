"""Runs that differ in an axis made one: each seed's mean over them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from bench.report.runs import Record, Run


def averaged(runs: Sequence[Run], axes: Sequence[str]) -> list[Run]:
    """Runs that are alike but for these axes as one run, in the order of their first ones.

    A seed counts where all of them have it and ended well, and a metric where all have a number of it.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs if axes else ():
        kept = {key: value for key, value in run.settings.items() if not _of(key, axes)}
        choices = {group: choice for group, choice in run.choices.items() if group not in axes}
        groups.setdefault((tuple(choices.items()), tuple(sorted(kept.items()))), []).append(run)
    return [_pooled(group, axes) for group in groups.values()] if axes else list(runs)


def _of(key: str, axes: Sequence[str]) -> bool:
    return key in axes or key.split(".")[0] in axes


def _pooled(runs: Sequence[Run], axes: Sequence[str]) -> Run:
    by_seed = [{r["seed"]: r for r in run.ok} for run in runs]
    common = set.intersection(*map(set, by_seed))
    if not common:
        ended = [r for run in runs for r in run.records if r["status"] != "ok"]  # which says why
        apart = [r | {"status": "skipped", "reason": "no seed is common to what is averaged"} for r in runs[0].records]
        return Run(tuple(_without(r, axes) for r in ended or apart))
    return Run(tuple(_mean([found[seed] for found in by_seed], axes) for seed in sorted(common)))


def _without(r: Record, axes: Sequence[str]) -> Record:
    """A record that says nothing of the axes."""
    config = {
        group: values and {key: value for key, value in values.items() if f"{group}.{key}" not in axes}
        for group, values in r["config"].items()
    }
    config |= {axis: None for axis in axes if axis in config}
    return r | {"choices": r["choices"] | {a: None for a in axes if a in r["choices"]}, "config": config}


def _mean(records: Sequence[Record], axes: Sequence[str]) -> Record:
    pooled = _without(records[0], axes)
    names = [name for name in records[0]["metrics"] if all(name in r["metrics"] for r in records)]
    prints = {r["data"]["fingerprint"] for r in records}
    return pooled | {
        "id": "-".join(r["id"] for r in records),
        "metrics": {name: _entry([r["metrics"][name] for r in records]) for name in names},
        "data": pooled["data"] if len(prints) == 1 else None,
        "likelihood_key": pooled["likelihood_key"] if len({str(r["likelihood_key"]) for r in records}) == 1 else None,
    }


def _entry(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    values = [entry["value"] for entry in entries]
    reasons = "; ".join(dict.fromkeys(entry["reason"] for entry in entries if entry["reason"]))
    if any(value is None for value in values):
        return entries[0] | {"value": None, "se": None, "floor": None, "reason": f"n/a for some of the mean: {reasons}"}
    return entries[0] | {"value": fmean(values), "se": None, "floor": None, "reason": reasons or None}
