"""Records to runs: which of them are seeds of one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.report.records.axes import distinguish_datasets
from bench.report.records.evaluations import Evaluation, describe_evaluations, evaluation_of
from bench.report.records.run import AXIS, DEFAULT, TUNED, Record, Run
from bench.runs import store


def load(results: Path, sweeps: Sequence[str], left_out: list[str] | None = None) -> list[Run]:
    """The runs of these sweeps, see `runs_of`. left_out: gets a line for each record that cannot be read.

    Trials of a tuning are left out once the best of them is known. Raises InputError on a sweep that does not exist or
    is empty.
    """
    return _without_trials(runs_of(record for sweep in sweeps for record in store.find(results, sweep, left_out)))


def runs_of(records: Iterable[Record]) -> list[Run]:
    """The runs of these records in the order they were started; a seed that several sweeps hold is taken once.

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
