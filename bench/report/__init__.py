"""Records to a comparison: tables in the terminal, Markdown, LaTeX and CSV, and one HTML page with pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.errors import InputError
from bench.report import presets
from bench.report.records import seeds
from bench.report.records.averages import averaged
from bench.report.records.axes import dataset_axes, distinguish_datasets, varying_axes
from bench.report.records.load import load
from bench.report.records.metrics import known_metrics
from bench.report.records.run import Run
from bench.report.records.selection import check_axes, check_metrics, select
from bench.report.statistics.comparability import is_own
from bench.report.tables import formats, improvement, notes, ranks, references, tuning
from bench.report.tables.build import build
from bench.report.tables.table import Layout, Table
from bench.runs import store
from bench.runs.files import write_file
from bench.runs.names import check_path
from bench.runs.output import printable


@dataclass(frozen=True)
class Report:
    """The tables as they were built, and the files that were written to a folder."""

    folder: Path
    files: list[str]
    runs: list[Run]
    tables: list[Table]

    @property
    def entry(self) -> Path:
        """The file to open: the page, or the tables where there is none."""
        return self.folder / ("index.html" if "index.html" in self.files else "table.md")


def write(
    results: Path,
    sweeps: Sequence[str],
    console: Console | None = None,
    printed: Collection[str] | None = None,
    config_dir: Path | None = None,
    **options: Any,
) -> Report:
    """Prints the tables of these sweeps and writes them, with a page, to results/<first sweep>/<folder>/.

    printed: the names of the run folders in the printed tables, None for all; the written tables have all runs.
    config_dir: a folder of configurations with further claims, in experiment/claims.
    options: those of the preset conf/report/vae_vs_aae_vs_gan.yaml: title, only, rows, columns, average, metrics,
    default_metrics, tables, claims, improvement, ranks, references, figures, folder. Raises InputError on a sweep that
    does not exist, is empty or has a damaged record, and on an unknown option, axis, metric or claim.
    """
    preset = presets.default()
    if unknown := sorted(options.keys() - preset.keys()):
        raise InputError(f"{unknown[0]} is not an option of a report, which are {', '.join(preset)}")
    chosen = preset | options
    chosen["title"] = printable(str(chosen["title"]))
    left_out: list[str] = []
    runs = _selected(results, sweeps, chosen["only"], left_out)
    averaged_axes = _names(chosen, "average")
    check_axes(runs, "average", averaged_axes)
    pooled = averaged(runs, averaged_axes)
    extra_notes = [*notes.left_out(left_out), *notes.average_note(runs, averaged_axes)]
    layout = _layout(pooled, chosen)
    folder = Path(results) / sweeps[0] / check_path("folder", chosen["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    tables, to_print, comparisons = [], [], []
    files = ["table.md", "table.tex"]
    if chosen["claims"]:
        tables += _verdicts(runs, chosen, folder, config_dir)
        to_print += tables if printed is None else []
        files.append("claims.csv")
    if chosen["tables"]:
        built, compared = build(pooled, layout, extra_notes), _comparisons(pooled, layout, chosen)
        compared += tuning.tables(runs, layout, chosen["figures"])
        # Published numbers have texts too long for a terminal.
        published = references.table(runs) if chosen["references"] else None
        tables, comparisons = [*tables, *built], [*compared, *([published] if published else [])]
        to_print += [*built, *compared] if printed is None else _tables_of(runs, printed, chosen)
        files += ["table.csv", "seeds.csv"]
        formats.write_csv(folder / "table.csv", build(pooled, layout, extra_notes, all_metrics=True), layout)
        seeds.write_csv(folder / "seeds.csv", runs)
    written = [*tables, *comparisons]
    markdown = formats.markdown(chosen["title"], written, notes.provenance(runs))
    write_file(folder / "table.md", markdown)
    write_file(folder / "table.tex", formats.tex(chosen["title"], written))
    if to_print:
        formats.print_tables(console or Console(highlight=False, force_jupyter=False), chosen["title"], to_print)
    if chosen["figures"]:
        from bench.report.page import page  # imports what draws pictures

        by_run = replace(layout, rows=(*layout.rows, *averaged_axes))
        page.write(folder, chosen["title"], sweeps, runs, written, by_run)
        files.append("index.html")
    return Report(folder, files, runs, tables)


def export(results: Path, sweeps: Sequence[str], target: Path, only: Any = None) -> tuple[Path, int]:
    """Writes the records of these sweeps into one file; returns its path, and how many records it has.

    target: a file that ends in .jsonl, or a folder, which gets a records.jsonl that is read like the sweep's folders.
    only: as in `write`. Raises InputError as `write` does, and where the file cannot be written.
    """
    records = [record for run in _selected(results, sweeps, only, None) for record in run.records]
    return store.export(records, Path(target)), len(records)


def _selected(results: Path, sweeps: Sequence[str], only: Any, left_out: list[str] | None) -> list[Run]:
    return select(load(Path(results), sweeps, left_out), {} if only is None else only)


def _verdicts(runs: Sequence[Run], chosen: dict[str, Any], folder: Path, config_dir: Path | None) -> list[Table]:
    """The tables of the selected claims, which are also written as claims.csv."""
    from bench.report.verdicts import claims  # imports what validates claims
    from bench.report.verdicts import tables as verdicts

    if chosen["average"]:
        raise InputError("verdicts need the runs as they are: leave out average, or claims")
    selected = claims.claims(None if chosen["claims"] == "all" else chosen["claims"], config_dir)
    found = verdicts.by_dataset(runs, selected)
    verdicts.write_csv(folder / "claims.csv", found)
    return verdicts.tables(found, selected, figures=chosen["figures"])


def _tables_of(runs: Sequence[Run], folders: Collection[str], chosen: dict[str, Any]) -> list[Table]:
    """The tables of the runs in these folders, with the axes in which they differ."""
    axes = _names(chosen, "average")
    selected = distinguish_datasets([r for r in runs if any(s["folder"].parent.name in folders for s in r.records)])
    pooled = averaged(selected, axes)
    if not selected:
        return []
    layout = _layout(pooled, chosen)
    return build(pooled, layout, notes.average_note(selected, axes)) + tuning.tables(selected, layout, figures=False)


def _comparisons(runs: Sequence[Run], layout: Layout, chosen: dict[str, Any]) -> list[Table]:
    """The tables of the options improvement and ranks."""
    made: list[Table] = []
    if metric := chosen["improvement"]:
        check_metrics(runs, [metric], known_metrics(runs))
        made += improvement.tables(runs, layout, metric)
    if metric := chosen["ranks"]:
        check_metrics(runs, [metric], known_metrics(runs))
        made.append(ranks.table(runs, layout, metric, chosen["figures"]))
    return made


def main() -> None:
    """The command bench-report."""
    from bench.report.command import command  # imports Hydra, which `write` does without

    command()


def _names(chosen: dict[str, Any], key: str) -> tuple[str, ...]:
    option = chosen[key]
    names = () if option is None else (option,) if isinstance(option, str) else option
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{key}={option}: expected a name, or a list of names")
    return tuple(names)


def _metrics(runs: Sequence[Run], chosen: dict[str, Any]) -> tuple[str, ...]:
    known = known_metrics(runs)
    if metrics := _names(chosen, "metrics"):
        check_metrics(runs, metrics, known)
        return metrics
    preset = _names(chosen, "default_metrics")
    own = [m for m in known if is_own(m) and "@" not in m and m not in preset]
    return tuple(m for m in (*preset, *own) if m in known) or tuple(known) or preset


def _layout(runs: Sequence[Run], chosen: dict[str, Any]) -> Layout:
    """Rows and columns as chosen; every other axis in which runs differ is a row too, as a cell never pools runs.

    Axes that distinguish data sets are in the titles of tables instead.
    """
    rows, columns = _names(chosen, "rows"), _names(chosen, "columns")
    check_axes(runs, "rows", rows)
    check_axes(runs, "columns", columns)
    others = [a for a in varying_axes(runs) if a not in rows]
    titles = dataset_axes(runs)
    row_axes = tuple(a for a in (*rows, *others) if a not in titles and a not in columns)
    metrics = _metrics(runs, chosen)
    hidden = [] if chosen["metrics"] else [m for m in known_metrics(runs) if m not in metrics]
    return Layout(row_axes or ("model",), columns, metrics, tuple(hidden))
