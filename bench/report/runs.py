"""Records to runs: a run is one configuration, with a record a seed, and the axes are what runs differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.runs import store

Record = dict[str, Any]
WHERE_DATA_LIE = {"dataset.root", "dataset.path"}


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Run:
    """One configuration; records are in the order of their seeds."""

    records: tuple[Record, ...]

    @property
    def id(self) -> str:
        return self.records[0]["id"]

    @property
    def name(self) -> str:
        return self.records[0]["name"]

    @property
    def choices(self) -> dict[str, str | None]:
        return self.records[0]["choices"]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every key of the configuration in dotted form, as model.beta."""
        keys = dict(_flatten(self.records[0]["config"], ""))
        return {key: value for key, value in keys.items() if "." in key and "_target_" not in key}

    @property
    def ok(self) -> list[Record]:
        return [r for r in self.records if r["status"] == "ok"]

    def values(self, metric: str) -> dict[int, float]:
        """The numbers of a metric, by seed: of seeds that ended well and have one."""
        entries = {r["seed"]: r["metrics"].get(metric) for r in self.ok}
        return {seed: entry["value"] for seed, entry in entries.items() if entry and entry["value"] is not None}

    def first(self, key: str) -> Any:
        """What the first record that has it says under key: a run that failed early lacks some."""
        return next((r[key] for r in self.records if r.get(key)), None)

    def value(self, axis: str) -> Any:
        """The choice or setting of that name; None where the run has no such thing."""
        if axis == "id":
            return self.id
        return self.choices.get(axis) if axis in self.choices else self.settings.get(axis)

    def has(self, axis: str, value: Any) -> bool:
        return bool(self.value(axis) == (tuple(value) if isinstance(value, list) else value))

    def label(self, axis: str) -> str:
        """What a table shows of value(axis)."""
        value = self.value(axis)
        if isinstance(value, float):
            return f"{value:g}"
        return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def load(results: Path, sweeps: Sequence[str]) -> list[Run]:
    """The runs of some sweeps in the order they were started; a run that several hold is taken once.

    Raises InputError on a sweep that does not exist or is empty, and on a record that cannot be read.
    """
    kept: dict[tuple[str, int], Record] = {}
    for sweep in sweeps:
        for found in store.find(results, sweep):
            key = (found["id"], found["seed"])
            if key not in kept or (found["status"] == "ok" != kept[key]["status"]):
                kept[key] = found
    by_id: dict[str, list[Record]] = {}
    for found in sorted(kept.values(), key=lambda r: r["started"]):
        by_id.setdefault(found["id"], []).append(found)
    return [Run(tuple(sorted(records, key=lambda r: r["seed"]))) for records in by_id.values()]


def wrong(message: str) -> Exception:
    """An InputError, to be raised."""
    from bench.core import InputError  # imports torch, which a report without an error does without

    return InputError(message)


def swept(runs: Sequence[Run]) -> list[str]:
    """The axes: choices with two values or more, then settings that differ within the same choices.

    A group that a model does not use makes no axis, nor does the place where data lie. Where two runs are alike in
    all of these, their id is an axis.
    """
    axes = [a for a in runs[0].choices if len({run.value(a) for run in runs} - {None}) > 1]
    alike: dict[tuple, list[Run]] = {}
    for run in runs:
        alike.setdefault(tuple(run.choices.values()), []).append(run)
    differing = {
        key
        for group in alike.values()
        for key in {key for run in group for key in run.settings}
        if len({run.settings[key] for run in group if key in run.settings}) > 1
    }
    axes += sorted(differing - WHERE_DATA_LIE)
    distinct = {tuple(run.choices.values()) + tuple(run.value(a) for a in axes) for run in runs}
    return axes if len(distinct) == len(runs) else [*axes, "id"]


def check_axes(runs: Sequence[Run], option: str, names: Sequence[str]) -> None:
    """Raises InputError where a name is neither a group nor a key of any run's configuration."""
    known = list(dict.fromkeys([*runs[0].choices, "id", *sorted({key for run in runs for key in run.settings})]))
    for name in names:
        if name not in known:
            raise wrong(f"{option}={name} is not known: these runs have {', '.join(known)}")


def only(runs: Sequence[Run], wanted: Any) -> list[Run]:
    """The runs with these values, or one of a list of them, by axis; a run that has no such thing stays.

    Raises InputError where wanted is no mapping, an axis is not known, or no run has a value.
    """
    if not isinstance(wanted, Mapping):
        raise wrong(f"only={wanted} is not a mapping: give axes and their values, as {{likelihood: bernoulli}}")
    check_axes(runs, "only", list(wanted))
    left = list(runs)
    for axis, value in wanted.items():
        values = value if isinstance(value, list) and not any(run.has(axis, value) for run in runs) else [value]
        for one in values:
            if not any(run.has(axis, one) for run in runs):
                there = dict.fromkeys(run.label(axis) for run in runs if run.value(axis) is not None)
                raise wrong(f"only={{{axis}: {one}}}: no run has that, there is {', '.join(there)}")
        left = [run for run in left if run.value(axis) is None or any(run.has(axis, one) for one in values)]
    if not left:
        raise wrong(f"only={dict(wanted)} leaves no run: each value is there, but no run has all")
    return left


def check_metrics(runs: Sequence[Run], names: Sequence[str], known: Sequence[str]) -> None:
    """Raises InputError where no run records a metric of that name; runs that all failed record none to check by."""
    for name in names:
        if name not in known and any(run.ok for run in runs):
            raise wrong(f"metrics={name} is not known: these runs record {', '.join(known)}")


def ordered(runs: Sequence[Run], axes: Sequence[str]) -> list[Run]:
    """Sorted by the axes, one after the other: numbers by size, names as they were started, what is not there last."""
    position: dict[tuple[str, Any], int] = {}
    for run in runs:
        for axis in axes:
            position.setdefault((axis, run.value(axis)), len(position))

    def place(run: Run) -> list[tuple[int, float]]:
        places: list[tuple[int, float]] = []
        for axis in axes:
            value = run.value(axis)
            if value is None:
                places.append((2, 0))
            elif isinstance(value, int | float):
                places.append((0, value))
            else:
                places.append((1, position[axis, value]))
        return places

    return sorted(runs, key=place)
