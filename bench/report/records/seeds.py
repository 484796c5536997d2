"""Tidy rows: one for each run, seed and metric, with the configuration in columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from bench.errors import InputError
from bench.report.records.axes import varying_axes
from bench.report.records.metrics import direction, known_metrics
from bench.report.records.reasons import remark
from bench.report.records.run import Record, Run
from bench.report.records.selection import check_axes
from bench.runs import store
from bench.runs.files import write_file

SEED = ("sweep", "run", "id", "seed")
METRIC = ("metric", "value", "se", "n", "unit", "better", "ideal", "reason")

Shown = Literal["differing", "all"] | Sequence[str]


def find(folders: Sequence[Path], left_out: list[str]) -> list[Record]:
    """The records of the folders of sweeps. left_out: gets a line for each record that cannot be read.

    Raises InputError where a folder is no sweep or is empty, and without any.
    """
    records: list[Record] = []
    if not folders:
        raise InputError("expected the folder of a sweep, as in bench.results('results/first')")
    for folder in folders:
        folder = folder.expanduser()
        folder = folder if folder.name else folder.resolve()
        if sweep := _sweep_instead_of(folder):
            raise InputError(f"{folder} is not the folder of a sweep: give one such as {sweep}")
        records += store.find(folder.parent, folder.name, left_out)
    return records


def _sweep_instead_of(folder: Path) -> Path | None:
    """A sweep above or below a folder that is a seed's, a run's or that of all sweeps."""
    if any(folder.glob("*/seed-*")) or (folder / store.RECORDS).is_file():
        return None
    if (folder / store.RECORD).is_file():
        return folder.parent.parent
    if any(folder.glob("seed-*")):
        return folder.parent
    below = [
        *(path.parents[1] for path in folder.glob("[!.]*/*/seed-*")),
        *(p.parent for p in folder.glob(f"*/{store.RECORDS}")),
    ]
    return min(below, default=None)


def recorded(runs: Iterable[tuple[Path, Iterable[int]]]) -> list[Record]:
    """The records of these seeds of runs, each once. A seed without a record is left out."""
    folders = dict.fromkeys(store.seed_folder(run, seed) for run, seeds in runs for seed in seeds)
    return [store.read(folder, store.READABLE) for folder in folders if (folder / store.RECORD).is_file()]


def config_columns(runs: Sequence[Run], settings: Shown = "differing") -> list[str]:
    """The chosen options of all groups, then the settings in which runs differ, all of them, or those of a list.

    Settings that were tuned are among those that differ. Where these do not distinguish all runs, "schema" or
    "evaluation" does. Raises InputError for an unknown setting.
    """
    choices = [*dict.fromkeys(group for run in runs for group in run.choices)]
    if settings == "all":
        found = sorted({key for run in runs for key in run.settings})
    elif isinstance(settings, str):
        tuned = {key for run in runs if run.tuning for key in run.tuning["settings"]}
        found = [*varying_axes(runs), *sorted(tuned)] if settings == "differing" else [settings]
    else:
        found = [*settings]
    if settings not in ("all", "differing"):
        check_axes(runs, "settings", found)
    distinctions = [name for name in ("schema", "evaluation") if any(name in run.distinctions for run in runs)]
    return [*dict.fromkeys([*choices, *(name for name in found if name not in SEED), *distinctions])]


def head(columns: Sequence[str]) -> list[str]:
    return [*SEED, *columns, "status", *METRIC]


def rows(runs: Sequence[Run], columns: Sequence[str]) -> Iterator[list[Any]]:
    """A row under `head` for each metric that any of the runs has, of each seed of each run.

    value: None where there is no number, and where the seed did not end well; reason: why, or a remark on the value. Of
    seeds without any metric in all runs there is one row without a metric.
    """
    metrics: dict[str | None, tuple[Any, ...]] = {name: _kind(runs, name) for name in known_metrics(runs)}
    for run in runs:
        config = [_cell(run, column) for column in columns]
        for record in run.records:
            folder = record["folder"].parent
            start = [folder.parent.name, folder.name, run.id, record["seed"], *config, record["status"]]
            is_ok = record["status"] == "ok"
            for name, kind in (metrics or {None: (None, None, None)}).items():
                entry = record["metrics"].get(name) if is_ok else None
                numbers = (entry["value"], entry["se"], entry["n"]) if entry else (None, None, None)
                reason = remark(entry, str(name)) if is_ok else record["reason"]
                yield [*start, name, *numbers, *kind, reason]


def write_csv(path: Path, runs: Sequence[Run]) -> None:
    """The rows as a file. A cell without a value is empty."""
    columns = config_columns(runs)
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(head(columns))
    writer.writerows(rows(runs, columns))
    write_file(path, file.getvalue())


def _kind(runs: Sequence[Run], metric: str) -> tuple[Any, ...]:
    """The unit, which direction is better, and the ideal."""
    units = (entry["unit"] for run in runs for r in run.ok if (entry := r["metrics"].get(metric)))
    return (next(filter(None, units), ""), *direction(runs, metric))


def _cell(run: Run, column: str) -> Any:
    """Options as in a table, "-" for a group that the model does not use; settings as values, lists as text."""
    value = run.value(column)
    is_text = column in run.choices or column in run.distinctions or isinstance(value, tuple)
    return run.label(column) if is_text else value
