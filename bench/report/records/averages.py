"""Averaging over axes: runs that differ in nothing else become one, whose seeds have the mean over them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from bench.report.records.axes import varying_axes
from bench.report.records.evaluations import evaluation_of
from bench.report.records.run import Record, Run


def averaged(runs: Sequence[Run], axes: Sequence[str]) -> list[Run]:
    """Runs that differ in these axes alone as one run each, in the order of their first ones.

    A seed counts where all of them have it and ended well, and a metric where all have a number that was measured in
    the same way. A run that is averaged over fewer values than others has a warning.
    """
    if not axes:
        return list(runs)
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        settings = {key: value for key, value in run.settings.items() if not _is_averaged(key, axes)}
        choices = {group: run.value(group) for group in run.choices if group not in axes}
        distinctions = {axis: label for axis, label in run.distinctions.items() if axis not in axes}
        key = tuple(choices.items()), tuple(sorted(settings.items())), run.schema, tuple(distinctions.items())
        groups.setdefault(key, []).append(run)
    varying = [axis for axis in varying_axes(runs) if _is_averaged(axis, axes)]
    covered = [_values(group, varying) for group in groups.values()]
    usual = max(covered, key=len)
    return [
        _pooled(group, axes, [] if not values or values == usual else [f"averaged over {_names(values, varying)} only"])
        for group, values in zip(groups.values(), covered, strict=True)
    ]


def _values(runs: Sequence[Run], axes: Sequence[str]) -> set[tuple[str, ...]]:
    """The values of the axes; none of a run that uses no such thing, as a GAN no noise."""
    return {tuple(run.label(a) for a in axes) for run in runs if any(run.value(a) is not None for a in axes)}


def _names(values: set[tuple[str, ...]], axes: Sequence[str]) -> str:
    return " and ".join(
        ", ".join(f"{axis}={label}" for axis, label in zip(axes, labels, strict=True)) for labels in sorted(values)
    )


def _is_averaged(key: str, axes: Sequence[str]) -> bool:
    return key in axes or key.split(".")[0] in axes


def _pooled(runs: Sequence[Run], axes: Sequence[str], warnings: list[str]) -> Run:
    distinctions = {axis: label for axis, label in runs[0].distinctions.items() if axis not in axes}
    by_seed = [{r["seed"]: r for r in run.ok} for run in runs]
    common = set.intersection(*map(set, by_seed))
    if common:
        records = [_mean([found[seed] for found in by_seed], axes) for seed in sorted(common)]
    else:
        not_ok = [r for run in runs for r in run.records if r["status"] != "ok"]  # with the reason
        skipped = {"status": "skipped", "reason": "the averaged runs have no seed in common"}
        records = [_without_axes(r, axes) for r in not_ok or [r | skipped for r in runs[0].records]]
    names = () if "dataset" in axes else runs[0].names
    return Run(tuple(r | {"warnings": [*r["warnings"], *warnings]} for r in records), distinctions, names)


def _without_axes(r: Record, axes: Sequence[str]) -> Record:
    config = {
        group: values and {key: value for key, value in values.items() if f"{group}.{key}" not in axes}
        for group, values in r["config"].items()
    }
    config |= {axis: None for axis in axes if axis in config}
    return r | {"choices": r["choices"] | {a: None for a in axes if a in r["choices"]}, "config": config}


def _mean(records: Sequence[Record], axes: Sequence[str]) -> Record:
    pooled = _without_axes(records[0], axes)
    names = [name for name in records[0]["metrics"] if all(name in r["metrics"] for r in records)]
    prints = {r["data"]["fingerprint"] for r in records}
    keys = [r["likelihood_key"] and r["likelihood_key"] | {"dataset": r["data"]["fingerprint"]} for r in records]
    return pooled | {
        "id": "-".join(r["id"] for r in records),
        "validation": None,  # it describes the training of one run
        "metrics": {name: _mean_entry([r["metrics"][name] for r in records]) for name in names},
        "data": pooled["data"] if len(prints) == 1 else None,
        "likelihood_key": pooled["likelihood_key"] if all(key == keys[0] for key in keys) else None,
    }


def _mean_entry(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    values = [entry["value"] for entry in entries]
    reasons = "; ".join(dict.fromkeys(entry["reason"] for entry in entries if entry["reason"]))
    no_value = entries[0] | {"value": None, "se": None, "floor": None}
    if any(value is None for value in values):
        return no_value | {"reason": f"n/a for some of the averaged runs: {reasons}"}
    if len({evaluation_of(entry) for entry in entries}) > 1:
        return no_value | {"reason": "the averaged runs were evaluated with different settings or feature classifiers"}
    return no_value | {"value": fmean(values), "reason": reasons or None}
