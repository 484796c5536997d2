"""The options of a report: their values checked, and the layout and the folder that follow from them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.report.records.axes import dataset_axes, varying_axes
from bench.report.records.metrics import known_metrics
from bench.report.records.run import Run
from bench.report.records.selection import check_axes, check_metrics
from bench.report.statistics.comparability import is_own
from bench.report.tables.groups import MAX_HEADLINE, Groups, headline, measured
from bench.report.tables.table import Layout
from bench.runs.names import check_path

FOLDER = "report"  # of a sweep's own report
# What gives a report other rows, columns or tables than the sweep's own report has.
SELECTING = ("only", "rows", "columns", "average", "metrics", "headline", "groups", "tables", "claims", "improvement",
             "ranks", "compare")  # fmt: skip
MAX_FOLDER = 80  # letters of a folder's name that follows from options


def names(chosen: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """An option that is a name or a list of names. Raises InputError for anything else."""
    option = chosen[key]
    found = () if option is None else (option,) if isinstance(option, str) else option
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        raise InputError(f"{key}={option}: expected a name, or a list of names")
    return tuple(found)


def groups(chosen: Mapping[str, Any]) -> Groups:
    """The metrics by question. Raises InputError where these are no lists of names."""
    option = chosen["groups"]
    if not isinstance(option, Mapping):
        raise InputError(f"groups={option} is not a mapping: give questions and their metrics, as {{codes: [mig]}}")
    return {name: names({f"groups.{name}": option[name]}, f"groups.{name}") for name in option}


def layout(runs: Sequence[Run], chosen: Mapping[str, Any]) -> Layout:
    """Rows and columns as chosen; every other axis in which runs differ is a row too, as a cell never pools runs.

    Axes that distinguish data sets are in the titles of tables instead.
    """
    rows, columns = names(chosen, "rows"), names(chosen, "columns")
    check_axes(runs, "rows", rows)
    check_axes(runs, "columns", columns)
    others = [a for a in varying_axes(runs) if a not in rows]
    titles = dataset_axes(runs)
    row_axes = tuple(a for a in (*rows, *others) if a not in titles and a not in columns)
    metrics = _metrics(runs, chosen)
    hidden = [] if chosen["metrics"] else [m for m in known_metrics(runs) if m not in metrics]
    return Layout(row_axes or ("model",), columns, metrics, tuple(hidden))


def _metrics(runs: Sequence[Run], chosen: Mapping[str, Any]) -> tuple[str, ...]:
    known = known_metrics(runs)
    if metrics := names(chosen, "metrics"):
        check_metrics(runs, metrics, known)
        return metrics
    preset = [metric for metrics in groups(chosen).values() for metric in metrics]
    own = [m for m in known if is_own(m) and "@" not in m and m not in preset]
    return tuple(m for m in (*preset, *own) if m in known) or tuple(known) or tuple(preset)


def headline_metrics(runs: Sequence[Run], metrics: Sequence[str], chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics of the first table. Raises InputError where more are chosen than it may have, or an unknown one."""
    if wanted := names(chosen, "headline"):
        check_metrics(runs, wanted, known_metrics(runs), "headline")
        if len(wanted) > MAX_HEADLINE:
            raise InputError(f"headline has {len(wanted)} metrics: expected at most {MAX_HEADLINE}")
        return wanted
    return headline(runs, metrics, groups(chosen))


def headline_layout(runs: Sequence[Run], full: Layout, first: Sequence[str]) -> Layout:
    """Of the first table: its metrics, and those without any number, which its notes name with the reason."""
    found = measured(runs, full.metrics)
    without = [m for m in full.metrics if m not in found and m not in first] if found else []
    return replace(full, metrics=(*first, *without), hidden=tuple(m for m in full.hidden if m not in first))


def folder(results: Path, sweeps: Sequence[str], chosen: Mapping[str, Any], default: Mapping[str, Any]) -> Path:
    """Where a report is written: never over the sweep's own report if its rows or metrics are others."""
    name = chosen["folder"]
    if name is None:
        name = "-".join([FOLDER, *_selection(sweeps, chosen, default)])
        if len(name) > MAX_FOLDER:
            digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
            name = f"{name[: MAX_FOLDER - len(digest) - 1]}-{digest}"
    return Path(results) / sweeps[0] / check_path("folder", name)


def _selection(sweeps: Sequence[str], chosen: Mapping[str, Any], default: Mapping[str, Any]) -> list[str]:
    found = ["with", *sweeps[1:]] if len(sweeps) > 1 else []
    for option in SELECTING:
        if chosen[option] != default[option]:
            found += [option] if option == "groups" else [option, *_words(chosen[option])]
    return [re.sub(r"[^\w.@=+]+", "_", word) for word in found]


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [word for key, item in value.items() for word in (str(key), *_words(item))]
    if isinstance(value, list | tuple):
        return [word for item in value for word in _words(item)]
    return [str(value).lower() if isinstance(value, bool) else str(value)]
