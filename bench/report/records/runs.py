"""Records to runs: a run is one configuration on one data set, with a record per seed; axes are what runs differ in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.report.records.comparability import Evaluation, describe_evaluations, evaluation_of
from bench.runs import store

Record = dict[str, Any]
DATA_LOCATION = {f"dataset.{key}" for key in store.LOCATION}
# Options that change what models see of the same stored images.
PREPARATION = ("dataset.binarize", "dataset.dequantize", "dataset.grey_levels")
# The axis of runs that belong to a tuning: their default settings, the best ones, or those of a trial.
AXIS, DEFAULT, TUNED = "tuning", "default", "tuned"
# Axes that a table has only if choices and settings do not tell runs apart.
RECORD_AXES = ("schema", "evaluation", "id")


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and not is_ramp(value):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, _hashable(value)


def is_ramp(value: Any) -> bool:
    """Whether it is a weight that changes over a phase, a `bench.core.Ramp`."""
    return isinstance(value, dict) and value.keys() == {"from", "to", "over"}


def _hashable(value: Any) -> Any:
    if is_ramp(value):
        return f"{_shown(value['from'])} to {_shown(value['to'])} over {_shown(value['over'])}"
    if isinstance(value, dict):
        return tuple((key, _hashable(inner)) for key, inner in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    """A value as a table shows it, lists as on the command line. Different values look different."""
    if isinstance(value, tuple):
        return f"[{','.join(map(_shown, value))}]"
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Run:
    """One configuration; records are in the order of their seeds.

    distinctions: labels by axis that tell runs apart which else look equal: of "dataset" the name with the first
    digits of the fingerprint; of "schema" and "evaluation", for runs of one id.
    names: all that its data are called in a report, first that of the run that was started last; empty where the run
    is alone.
    """

    records: tuple[Record, ...]
    distinctions: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.records[0]["id"]

    @property
    def key(self) -> str:
        """The id, made unique within a report."""
        return "-".join([self.id, *self.distinctions.values()])

    @property
    def name(self) -> str:
        return self.records[0]["name"]

    @property
    def schema(self) -> int:
        return self.records[0]["schema"]

    @cached_property
    def tuning(self) -> dict[str, Any] | None:
        """The `TuningNote` of the run: if it is a trial and the best one, that of the best one."""
        found = {note["trial"]: note for r in self.records if (note := r.get("tuning"))}
        return found.get("best") or found.get("default") or next(iter(found.values()), None)

    @property
    def tuned_keys(self) -> set[str]:
        """The settings that differ between trials. A rate that refers to another one is set with it."""
        keys = set(self.tuning["settings"]) if self.tuning else set()
        return keys | {key for key in self.settings if keys and key.startswith("model.optimizers.")}

    @cached_property
    def choices(self) -> dict[str, str | None]:
        if self.tuning is None:
            return self.records[0]["choices"]
        trial = self.tuning["trial"]
        return self.records[0]["choices"] | {AXIS: {"best": TUNED}.get(trial, trial)}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every key of the configuration in dotted form, as model.beta. Where code lies is no setting."""
        keys = dict(_flatten(self.records[0]["config"], ""))
        return {key: value for key, value in keys.items() if "." in key and "_target_" not in key}

    @cached_property
    def ok(self) -> list[Record]:
        return [r for r in self.records if r["status"] == "ok"]

    def values(self, metric: str) -> dict[int, float]:
        """The numbers of a metric, by seed: of seeds that ended well and have one."""
        entries = {r["seed"]: r["metrics"].get(metric) for r in self.ok}
        return {seed: entry["value"] for seed, entry in entries.items() if entry and entry["value"] is not None}

    def evaluation(self, metric: str) -> Evaluation:
        """How the numbers of a metric were measured; empty where there is none."""
        entries = [entry for r in self.ok if (entry := r["metrics"].get(metric)) and entry["value"] is not None]
        return evaluation_of(entries[0]) if entries else ()

    def first(self, key: str) -> Any:
        """The first record's entry under this key that is not empty: a run that failed early has few."""
        return next((r[key] for r in self.records if r.get(key)), None)

    @property
    def fingerprint(self) -> str | None:
        """The hash of the data; None where the run ended before it saw any."""
        return (self.first("data") or {}).get("fingerprint")

    @property
    def dataset(self) -> str | None:
        """The name of the data; the same for all runs on the same data, whatever each of them calls it."""
        return self.names[0] if self.names else self.choices.get("dataset")

    @property
    def prepared_data(self) -> tuple[Any, ...]:
        """What models saw: equal for runs on the same data, prepared in the same way."""
        binarize, dequantize, levels = (self.settings.get(option) for option in PREPARATION)
        return self.fingerprint or self.dataset, binarize or "none", bool(dequantize) and (levels or True)

    @property
    def likelihood_key(self) -> dict[str, Any] | None:
        """Its `LikelihoodKey`, with the label of the data set as name."""
        key = self.first("likelihood_key")
        return key and key | {"dataset": self.label("dataset")}

    def value(self, axis: str) -> Any:
        """The choice or setting of that name; None where the run has no such thing."""
        if axis in ("id", "schema", "dataset"):
            return getattr(self, axis)
        if axis == "evaluation":
            return self.distinctions.get(axis)
        return self.choices.get(axis) if axis in self.choices else self.settings.get(axis)

    def has(self, axis: str, value: Any) -> bool:
        if axis == "dataset" and value in (self.label(axis), *self.names):
            return True
        return bool(self.value(axis) == _hashable(value))

    def label(self, axis: str) -> str:
        """value(axis) as a table shows it. Different values have different labels."""
        if axis in self.distinctions:
            return self.distinctions[axis]
        return _shown(self.value(axis))


def load(results: Path, sweeps: Sequence[str], left_out: list[str] | None = None) -> list[Run]:
    """The runs of some sweeps, see `runs_of`. left_out: gets a line for each record that cannot be read.

    Trials of a tuning are left out once the best of them is known. Raises InputError on a sweep that does not exist or
    is empty.
    """
    return _without_trials(runs_of(record for sweep in sweeps for record in store.find(results, sweep, left_out)))


def runs_of(records: Iterable[Record]) -> list[Run]:
    """The runs of some records in the order they were started; a seed that several sweeps hold is taken once.

    Records are seeds of one run only if id, schema and data are equal and no metric was measured in two ways; else
    they are several runs.
    """
    by_id: dict[str, list[Record]] = {}
    for record in records:
        by_id.setdefault(record["id"], []).append(record)
    runs = [run for same_id in by_id.values() for run in _runs_of_id(same_id)]
    return distinguish_datasets(_name_datasets(sorted(runs, key=lambda run: min(r["started"] for r in run.records))))


def _without_trials(runs: list[Run]) -> list[Run]:
    """Where the best trial is chosen, the others, which were not evaluated on the test split, are no rows.

    Of two that were the best one after the other, the one that was chosen among more trials stays.
    """
    best: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        if run.value(AXIS) == TUNED:
            other = best.setdefault(_untuned(run), run)
            best[_untuned(run)] = max(other, run, key=_trials)
    return [
        run for run in runs if run.tuning is None or run.value(AXIS) == DEFAULT or best.get(_untuned(run), run) is run
    ]


def _untuned(run: Run) -> tuple[Any, ...]:
    """What the trials of a tuning have in common: the options, the objective and the settings that are not tuned."""
    assert run.tuning, "it belongs to a tuning"
    fixed = sorted((key, str(value)) for key, value in run.settings.items() if key not in run.tuned_keys)
    return tuple(run.records[0]["choices"].items()), run.tuning["objective"], tuple(fixed)


def _trials(run: Run) -> tuple[int, int]:
    values = run.tuning["values"] if run.tuning else []
    return len(values), sum(value is not None for value in values)


def _runs_of_id(records: Sequence[Record]) -> list[Run]:
    by_schema: dict[int, list[Record]] = {}
    for record in records:
        by_schema.setdefault(record["schema"], []).append(record)
    runs = []
    for schema, group in by_schema.items():
        distinctions = {"schema": str(schema)} if len(by_schema) > 1 else {}
        for same_data in _split_by_data(group):
            parts = _split_by_evaluation(same_data)
            labels = describe_evaluations([evaluations for evaluations, _ in parts])
            for label, (_, part) in zip(labels, parts, strict=True):
                evaluation = {"evaluation": label} if label else {}
                runs.append(Run(_one_per_seed(part), distinctions | evaluation))
    return runs


def _split_by_data(records: Sequence[Record]) -> list[list[Record]]:
    """Records without data ended before they saw any: they belong to the others, if these agree."""
    groups: dict[str | None, list[Record]] = {}
    for record in records:
        groups.setdefault(record["data"]["fingerprint"] if record["data"] else None, []).append(record)
    if None in groups and len(groups) == 2:
        return [list(records)]
    return list(groups.values())


def _split_by_evaluation(records: Sequence[Record]) -> list[tuple[dict[str, Evaluation], list[Record]]]:
    """Records in groups within which each metric was measured in one way, and the way of each metric."""
    groups: list[tuple[dict[str, Evaluation], list[Record]]] = []
    for record in records:
        measured = {name: evaluation_of(m) for name, m in record["metrics"].items() if m["value"] is not None}
        for known, group in groups:
            if all(known.get(name, way) == way for name, way in measured.items()):
                known.update(measured)
                group.append(record)
                break
        else:
            groups.append((measured, [record]))
    return groups


def _one_per_seed(records: Sequence[Record]) -> tuple[Record, ...]:
    """The first record of each seed, or the first that is ok."""
    by_seed: dict[int, Record] = {}
    for record in records:
        known = by_seed.get(record["seed"])
        if known is None or (record["status"] == "ok" != known["status"]):
            by_seed[record["seed"]] = record
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def _name_datasets(runs: Sequence[Run]) -> list[Run]:
    """Gives each run all names of its data. A run without a fingerprint belongs to the only data of its name."""
    names: dict[str, dict[str, None]] = {}  # by fingerprint
    for run in sorted(runs, key=lambda run: max(r["started"] for r in run.records), reverse=True):
        if run.fingerprint and run.dataset:
            names.setdefault(run.fingerprint, {})[run.dataset] = None
    made = []
    for run in runs:
        prints = [run.fingerprint] if run.fingerprint else [p for p, found in names.items() if run.dataset in found]
        made.append(replace(run, names=tuple(names.get(prints[0], ()))) if len(prints) == 1 else run)
    return made


def dataset_axes(runs: Sequence[Run]) -> list[str]:
    """What tells the data of these runs apart: the name, then PREPARATION, then other options of data sets.

    An option in which runs on the same data differ is none of them: it tells runs apart, not data.
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
    """Adds the first digits of the fingerprint to the labels of data sets that these runs would not tell apart."""
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

    A group or a key that some runs do not have makes no axis, nor does the place where data lie. RECORD_AXES follow
    where runs are alike in all of these.
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
