"""The axes that runs differ in, and runs in groups and in order along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.report.records.run import AXIS, PREPARATION, RECORD_AXES, TUNED, Run
from bench.runs import store

DATA_LOCATION = {f"dataset.{key}" for key in store.LOCATION}


def dataset_axes(runs: Sequence[Run]) -> list[str]:
    """The axes that distinguish the data of these runs: the name, PREPARATION, then other options of data sets.

    An option in which runs on the same data differ is not among them: it distinguishes runs, not data.
    """
    dequantized = [run for run in runs if run.value("dataset.dequantize")]
    preparation = [
        axis for axis in PREPARATION if len(_values(dequantized if axis == "dataset.grey_levels" else runs, axis)) > 1
    ]
    same_data: dict[str, list[Run]] = {}
    for run in runs:
        if run.fingerprint:
            same_data.setdefault(run.fingerprint, []).append(run)
    others = [
        axis
        for axis in varying_axes(runs)
        if axis.startswith("dataset.")
        and axis not in PREPARATION
        and all(len(_values(group, axis)) < 2 for group in same_data.values())
    ]
    return ["dataset", *preparation, *others]


def _values(runs: Sequence[Run], setting: str) -> set[Any]:
    return {run.settings[setting] for run in runs if setting in run.settings}


def distinguish_datasets(runs: Sequence[Run]) -> list[Run]:
    """Adds the first digits of the fingerprint to the labels of different data sets that would have the same label."""
    axes = dataset_axes(runs)
    by_name: dict[tuple[Any, ...], dict[str, None]] = {}
    for run in runs:
        if run.fingerprint:
            by_name.setdefault(tuple(run.value(axis) for axis in axes), {})[run.fingerprint] = None
    made = []
    for run in runs:
        prints = by_name.get(tuple(run.value(axis) for axis in axes), {})
        if run.fingerprint and len(prints) > 1:
            digits = next(n for n in range(8, 1000) if len({p[:n] for p in prints}) == len(prints))
            label = f"{run.dataset} (images {run.fingerprint[:digits]})"
            run = replace(run, distinctions={"dataset": label, **run.distinctions})
        made.append(run)
    return made


def varying_axes(runs: Sequence[Run]) -> list[str]:
    """The axes: choices with two values or more, then settings that differ within the same choices.

    A group or a key that only part of the runs have is no axis, and neither is where data lie. RECORD_AXES follow
    if runs are alike in all of these.
    """
    groups = list(dict.fromkeys(group for run in runs for group in run.choices))
    axes = [a for a in groups if len({run.value(a) for run in runs} - {None}) > 1]
    alike: dict[tuple, list[Run]] = {}
    for run in runs:
        alike.setdefault(tuple(run.value(group) for group in groups), []).append(run)
    differing = {
        key
        for same_choices in alike.values()
        for key in {key for run in same_choices for key in run.settings}
        if len(_values(same_choices, key)) > 1
    }
    axes += sorted(
        differing - DATA_LOCATION - {key for run in runs for key in run.tuned_keys if run.value(AXIS) == TUNED}
    )
    for axis in RECORD_AXES:
        named: dict[tuple, set[Any]] = {}
        for run in runs:
            name = *(run.label(group) for group in groups), *(run.value(a) for a in axes)
            named.setdefault(name, set()).add(run.value(axis))
        if any(len(values) > 1 for values in named.values()):
            axes.append(axis)
    return axes


def sort_runs(runs: Sequence[Run], axes: Sequence[str]) -> list[Run]:
    """Sorted by the axes in turn: numbers by size, names in the order they were started, missing values last."""
    position: dict[tuple[str, Any], int] = {}
    for run in runs:
        for axis in axes:
            position.setdefault((axis, run.label(axis)), len(position))

    def place(run: Run) -> list[tuple[int, float]]:
        places: list[tuple[int, float]] = []
        for axis in axes:
            value = run.value(axis)
            if value is None:
                places.append((2, 0))
            elif isinstance(value, int | float):
                places.append((0, value))
            else:
                places.append((1, position[axis, run.label(axis)]))
        return places

    return sorted(runs, key=place)


def labels_along(run: Run, axes: Sequence[str]) -> tuple[str, ...]:
    return tuple(run.label(axis) for axis in axes)


def group_by_dataset(runs: Sequence[Run], pivoted: Sequence[str] = ()) -> dict[str, list[Run]]:
    """Runs on the same images, under a title; data sets that differ in pivoted axes alone share one."""
    axes = [a for a in dataset_axes(runs) if a not in pivoted]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_dataset_title(run, axes), []).append(run)
    return groups


def _dataset_title(run: Run, axes: Sequence[str]) -> str:
    parts = [run.label(a) if a == "dataset" else f"{a.removeprefix('dataset.')}={run.label(a)}" for a in axes]
    return ", ".join(parts) or "all data sets"
