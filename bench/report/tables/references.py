"""Published numbers beside ours, with every setting that differs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.report.records.run import Run
from bench.report.statistics.estimates import decimals, estimate, format_estimate, format_number
from bench.report.tables.table import Cell, Column, Row, Table

_READ = {"scan": "read in the paper", "seen": "read in public code", "quoted": "quoted elsewhere"}


@cache
def references() -> list[dict[str, Any]]:
    """The entries of references.yml, a name that Hydra does not take for an option."""
    return OmegaConf.to_object(OmegaConf.load(Path(__file__).with_name("references.yml")))  # type: ignore[return-value]


def differing(run: Run, reference: dict[str, Any]) -> list[str]:
    """Each setting in which a run differs from a published number, as "key: theirs, here ours"."""
    evaluation = run.ok[0]["metrics"][reference["metric"]].get("settings", {})
    found = []
    for key, theirs in reference["setting"].items():
        ours = run.settings.get(key) if "." in key else evaluation.get(key)
        if ours != theirs:
            shown = (str(value).lower() if isinstance(value, bool) else f"{value}" for value in (theirs, ours))
            found.append("{}: {}, here {}".format(key, *("-" if value == "None" else value for value in shown)))
    return found


def table(runs: Sequence[Run]) -> Table | None:
    """A row for each run and published number of its model, data set and metric; None if there is none."""
    rows = []
    for run in runs:
        for reference in references():
            metric = reference["metric"]
            values = [*run.values(metric).values()]
            if not values or run.value("model") != reference["model"] or not run.has("dataset", reference["dataset"]):
                continue
            ours = estimate(values)
            digits = decimals([ours])
            published = format_number(reference["value"], digits) + (
                f" ± {reference['se']:g}" if "se" in reference else ""
            )
            cells = [
                published,
                format_estimate(ours, digits),
                format_number(ours.mean - reference["value"], digits),
                "; ".join(differing(run, reference)) or "none of those known",
                f"{reference['source']} ({_READ[reference['read']]})",
            ]
            made = tuple(Cell(run, "ok", cell) for cell in cells)
            rows.append(Row((run.label("model"), run.label("dataset"), metric), (), str(ours.n), made))
    if not rows:
        return None
    names = ("published", "ours", "difference", "settings that differ", "source")
    return Table(
        "references",
        "Published numbers",
        "A number that was measured under other settings is no target. Each setting that differs is named.",
        ("model", "dataset", "metric"),
        tuple(Column(name, "", None, None) for name in names),
        rows,
        notes=["± is what the source gives for a published number, and a 95 % interval over seeds for ours."],
    )
