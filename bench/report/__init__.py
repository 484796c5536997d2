"""Records to a comparison: tables in the terminal, Markdown, LaTeX and CSV, and one HTML page with pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from bench.paths import CONF
from bench.report import formats, improvement, notes, ranks, references
from bench.report.averages import averaged
from bench.report.runs import Run, check_axes, check_metrics, load, only, swept, wrong
from bench.report.tables import Layout, Table, build, known_metrics

PRESET = "vae_vs_aae_vs_gan"


@dataclass(frozen=True)
class Report:
    """What was written: the tables as they were built, and the files and where they lie."""

    folder: Path
    files: list[str]
    runs: list[Run]
    tables: list[Table]


def write(
    results: Path,
    sweeps: Sequence[str],
    console: Console | None = None,
    printed: Collection[str] | None = None,
    **options: Any,
) -> Report:
    """Prints the tables of some sweeps and writes them, with a page, to results/<first sweep>/<folder>/.

    printed: the names of the run folders that the printed tables hold, None for all; those written hold all.
    options: those of the preset conf/report/vae_vs_aae_vs_gan.yaml, each of which may be given: title, only, rows,
    columns, average, metrics, default_metrics, tables, claims, improvement, ranks, references, figures, folder. Raises
    InputError on a sweep that is not there, is empty or has a torn record, on an axis or a metric that no run knows,
    and on a claim there is not.
    """
    chosen = {**OmegaConf.to_object(OmegaConf.load(Path(CONF) / "report" / f"{PRESET}.yaml")), **options}  # type: ignore[dict-item]
    runs = only(load(Path(results), sweeps), {} if chosen["only"] is None else chosen["only"])
    over = _names(chosen["average"])
    check_axes(runs, "average", over)
    pooled, said = averaged(runs, over), notes.of_average(runs, over)
    layout = _layout(pooled, chosen)
    folder = Path(results) / sweeps[0] / chosen["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    tables, shown, beside = [], [], []
    files = ["table.md", "table.tex"]
    if chosen["claims"]:
        tables += _verdicts(runs, chosen, folder)
        shown += tables if printed is None else []
        files.append("claims.csv")
    if chosen["tables"]:
        built, asked = build(pooled, layout, said), _comparisons(pooled, layout, chosen)
        # Published numbers have texts too long for a terminal.
        published = references.table(runs) if chosen["references"] else None
        tables, beside = [*tables, *built], [*asked, *([published] if published else [])]
        shown += [*built, *asked] if printed is None else _printed(runs, printed, chosen)
        files.append("table.csv")
        formats.write_csv(folder / "table.csv", build(pooled, layout, said, whole=True), layout)
    written = [*tables, *beside]
    (folder / "table.md").write_text(
        formats.markdown(chosen["title"], written, notes.provenance(runs)), encoding="utf-8"
    )
    (folder / "table.tex").write_text(formats.tex(chosen["title"], written), encoding="utf-8")
    if shown:
        formats.show(console or Console(highlight=False), chosen["title"], shown)
    if chosen["figures"]:
        from bench.report import page  # with pictures comes what draws them

        each = replace(layout, rows=(*layout.rows, *over))
        page.write(folder, chosen["title"], sweeps, runs, written, each)
        files.append("index.html")
    return Report(folder, files, runs, tables)


def _verdicts(runs: Sequence[Run], chosen: dict[str, Any], folder: Path) -> list[Table]:
    """The tables of the claims asked for, which are also written as claims.csv."""
    from bench.report import claims, verdicts  # with claims comes what checks them, which other reports start without

    if chosen["average"]:
        raise wrong("claims are judged on runs as they are: leave average out, or claims")
    asked = claims.claims(None if chosen["claims"] == "all" else chosen["claims"])
    found = verdicts.by_title(runs, asked)
    verdicts.write_csv(folder / "claims.csv", found)
    return verdicts.tables(found, asked, drawn=chosen["figures"])


def _printed(runs: Sequence[Run], names: Collection[str], chosen: dict[str, Any]) -> list[Table]:
    """The tables of some of the runs, laid out by what differs between these."""
    over = _names(chosen["average"])
    some = [run for run in runs if f"{run.name}-{run.id}" in names]
    pooled = averaged(some, over)
    return build(pooled, _layout(pooled, chosen), notes.of_average(some, over)) if some else []


def _comparisons(runs: Sequence[Run], layout: Layout, chosen: dict[str, Any]) -> list[Table]:
    """The tables that compare rows in one metric, where they are asked for."""
    made: list[Table] = []
    if metric := chosen["improvement"]:
        check_metrics(runs, [metric], known_metrics(runs))
        made += improvement.tables(runs, layout, metric)
    if metric := chosen["ranks"]:
        check_metrics(runs, [metric], known_metrics(runs))
        found = ranks.ranks(runs, layout, metric)
        table = ranks.table(found, layout, metric)
        if chosen["figures"] and isinstance(found, ranks.Ranks):
            from bench.report.diagrams import critical_difference  # imports matplotlib

            table.pictures.append((f"critical-difference diagram of {metric}", critical_difference(found)))
        made.append(table)
    return made


def main() -> None:
    """The command bench-report."""
    from bench.report.command import command  # Hydra is not needed by those who call write

    command()


def _names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _metrics(runs: Sequence[Run], chosen: dict[str, Any]) -> tuple[str, ...]:
    known = known_metrics(runs)
    if asked := _names(chosen["metrics"]):
        check_metrics(runs, asked, known)
        return asked
    preset = _names(chosen["default_metrics"])
    return tuple(m for m in preset if m in known) or tuple(known) or preset


def _layout(runs: Sequence[Run], chosen: dict[str, Any]) -> Layout:
    """What differs and was not asked for stands in the rows all the same: a cell never pools runs. Data have titles."""
    rows, columns = _names(chosen["rows"]), _names(chosen["columns"])
    check_axes(runs, "rows", rows)
    check_axes(runs, "columns", columns)
    differing = [a for a in swept(runs) if a not in rows and a not in columns]
    along = tuple(a for a in (*rows, *differing) if a.split(".")[0] != "dataset" and a not in columns)
    return Layout(along or ("model",), columns, _metrics(runs, chosen))
