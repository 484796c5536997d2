"""Results as a pandas DataFrame."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from bench.errors import InputError
from bench.report.records.load import runs_of
from bench.report.records.run import Record
from bench.report.records.seeds import METRIC, SEED, Shown, config_columns, find, head, rows


class Results(pd.DataFrame):
    """A row for each run, seed and metric. A selection of its rows is one too."""

    @property
    def _constructor(self) -> Callable[..., Results]:
        return Results

    def wide(self) -> pd.DataFrame:
        """A row for each run and seed, with a column of values for each metric.

        status and reason are those of the seed: why it did not end well. Raises InputError without the columns sweep,
        run, seed, metric and value.
        """
        keys = [name for name in SEED if name != "id"]
        if missing := [name for name in (*keys, "status", "metric", "value", "reason") if name not in self]:
            raise InputError(f"wide() needs the columns {', '.join(missing)}: call it before you select columns")
        long = pd.DataFrame(self)
        of_seed = [name for name in long if name not in METRIC]
        seeds = long[[*of_seed, "reason"]].drop_duplicates(keys)
        seeds["reason"] = seeds["reason"].where(seeds["status"] != "ok")
        named = long[long["metric"].notna()]
        values = named.pivot(index=keys, columns="metric", values="value")[[*named["metric"].unique()]]
        made = seeds.merge(values.reset_index(), on=keys, how="left")
        made.columns.name = None
        return made


def results(folders: Sequence[Path], settings: Shown = "differing") -> Results:
    """See `bench.results`."""
    left_out: list[str] = []
    made = frame(find(folders, left_out), settings)
    for line in left_out:
        warnings.warn(f"left out: {line}", stacklevel=3)
    return made


def frame(records: Iterable[Record], settings: Shown = "differing") -> Results:
    """The rows of these records. Numbers that are missing are NaN."""
    runs = runs_of(records)
    columns = config_columns(runs, settings)
    made = Results(list(rows(runs, columns)), columns=head(columns))
    types = {"seed": "int64", "value": "float64", "se": "float64", "n": "Int64", "ideal": "float64"}
    return made.astype(types)
