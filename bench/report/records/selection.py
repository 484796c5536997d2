"""Which runs a report shows, and errors on axes, values and metrics that no run has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.errors import InputError
from bench.report.records.axes import distinguish_datasets
from bench.report.records.run import RECORD_AXES, Run


def check_axes(runs: Sequence[Run], option: str, names: Sequence[str]) -> None:
    """Raises InputError where a name is neither a group nor a key of any run's configuration."""
    choices = dict.fromkeys(group for run in runs for group in run.choices)
    known = dict.fromkeys([*choices, *RECORD_AXES, *sorted({key for run in runs for key in run.settings})])
    for name in names:
        if name not in known:
            raise InputError(f"{option}={name} is not known: these runs have {', '.join(known)}")


def select(runs: Sequence[Run], only: Any) -> list[Run]:
    """The runs with these values, or one of a list of them, by axis; a run that has no value of an axis is kept.

    Raises InputError where `only` is no mapping, an axis is not known, or no run has a value.
    """
    if not isinstance(only, Mapping):
        raise InputError(f"only={only} is not a mapping: give axes and their values, as {{likelihood: bernoulli}}")
    check_axes(runs, "only", list(only))
    selected = list(runs)
    for axis, value in only.items():
        values = value if isinstance(value, list) and not any(run.has(axis, value) for run in runs) else [value]
        for one in values:
            if not any(run.has(axis, one) for run in runs):
                known = dict.fromkeys(run.label(axis) for run in runs if run.value(axis) is not None)
                raise InputError(f"only={{{axis}: {one}}}: no run has this value; there are {', '.join(known)}")
        selected = [run for run in selected if run.value(axis) is None or any(run.has(axis, one) for one in values)]
    if not selected:
        raise InputError(f"only={dict(only)} selects no run: each value is there, but no run has all of them")
    return distinguish_datasets(selected)


def check_metrics(runs: Sequence[Run], names: Sequence[str], known: Sequence[str], option: str = "metrics") -> None:
    """Raises InputError where no run records a metric of that name; runs that all failed record none to check by."""
    for name in names:
        if name not in known and any(run.ok for run in runs):
            raise InputError(f"{option}={name} is not known: these runs record {', '.join(known)}")
