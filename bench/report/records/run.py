"""A run: one configuration on one data set, with a record per seed; axes are what runs differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench.report.records.evaluations import Evaluation, evaluation_of

Record = dict[str, Any]
# Options that change what models see of the same stored images.
PREPARATION = ("dataset.binarize", "dataset.dequantize", "dataset.grey_levels")
# The axis of runs that belong to a tuning: their default settings, the best ones, or those of a trial.
AXIS, DEFAULT, TUNED = "tuning", "default", "tuned"
# Axes that a table has only if choices and settings do not distinguish all runs.
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

    distinctions: labels by axis that distinguish runs whose other labels are equal: of "dataset" the name with the
    first digits of the fingerprint; of "schema" and "evaluation", for runs of one id.
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
