"""Records to a comparison: tables in the terminal, Markdown, LaTeX and CSV, and one HTML page with pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.errors import InputError
from bench.report import options as chosen_options
from bench.report import presets
from bench.report.options import names
from bench.report.records import seeds
from bench.report.records.averages import averaged
from bench.report.records.axes import distinguish_datasets
from bench.report.records.load import load
from bench.report.records.metrics import known_metrics
from bench.report.records.run import Run
from bench.report.records.selection import check_axes, check_metrics, select
from bench.report.tables import compare, formats, improvement, notes, ranks, references, terminal, tuning
from bench.report.tables.answers import Answer, answers
from bench.report.tables.build import build
from bench.report.tables.groups import grouped, measured
from bench.report.tables.table import Layout, Table
from bench.runs import store
from bench.runs.files import write_file
from bench.runs.output import printable

PICTURE = "answer.png"
FILES = ("table.md", "table.tex", "table.csv", "seeds.csv", "claims.csv", "compare.csv", PICTURE, "index.html")


@dataclass(frozen=True)
class Report:
    """The first tables as they were built, those of groups, what they answer, and the files that were written."""

    folder: Path
    files: list[str]
    runs: list[Run]
    tables: list[Table]
    groups: list[Table]
    answers: list[Answer]

    @property
    def entry(self) -> Path:
        """The file to open: the page, or the tables where there is none."""
        return self.folder / ("index.html" if "index.html" in self.files else "table.md")


@dataclass
class _Parts:
    """tables: what comes first; printed: the same for the terminal, without notes on metrics that are not there.

    groups: the other metrics by question; more: further tables, that options ask for.
    """

    tables: list[Table] = field(default_factory=list)
    printed: list[Table] = field(default_factory=list)
    groups: list[Table] = field(default_factory=list)
    more: list[Table] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    others: int = 0  # metrics that only the groups have


def write(
    results: Path,
    sweeps: Sequence[str],
    console: Console | None = None,
    printed: Collection[str] | None = None,
    config_dir: Path | None = None,
    **options: Any,
) -> Report:
    """Prints the first tables of these sweeps and writes all, with a page, to results/<first sweep>/<folder>/.

    printed: the names of the run folders in the printed tables, None for all; the written tables have all runs.
    config_dir: a folder of configurations with further claims, in experiment/claims.
    options: those of the preset conf/report/vae_vs_aae_vs_gan.yaml. Files of an earlier report that this one does not
    have are removed. Raises InputError on a sweep that does not exist, is empty or has a damaged record, and on an
    unknown option, axis, metric, row or claim.
    """
    preset = presets.default()
    if unknown := sorted(options.keys() - preset.keys()):
        raise InputError(f"{unknown[0]} is not an option of a report, which are {', '.join(preset)}")
    chosen = preset | options
    chosen["title"] = printable(str(chosen["title"]))
    left_out: list[str] = []
    runs = _selected(results, sweeps, chosen["only"], left_out)
    averaged_axes = names(chosen, "average")
    check_axes(runs, "average", averaged_axes)
    pooled = averaged(runs, averaged_axes)
    extra_notes = [*notes.left_out(left_out), *notes.average_note(runs, averaged_axes)]
    layout = chosen_options.layout(pooled, chosen)
    compared = names(chosen, "compare")
    pairs = compare.compare(pooled, layout, compared) if compared else []
    folder = chosen_options.folder(results, sweeps, chosen, preset)
    folder.mkdir(parents=True, exist_ok=True)
    parts, to_print = _Parts(), _Parts()
    files = ["table.md", "table.tex"]
    if chosen["claims"]:
        parts.tables += _verdicts(runs, chosen, folder, config_dir)
        to_print.printed += parts.tables if printed is None else []
        files.append("claims.csv")
    if chosen["tables"]:
        built = _build(runs, pooled, layout, chosen, extra_notes)
        # Published numbers have texts too long for a terminal.
        published = references.table(runs) if chosen["references"] else None
        shown = built if printed is None else _build_of(runs, printed, chosen)
        to_print = replace(shown, printed=[*to_print.printed, *shown.printed])
        parts = replace(built, tables=[*parts.tables, *built.tables], more=[*built.more, *filter(None, [published])])
        files += ["table.csv", "seeds.csv"]
        formats.write_csv(folder / "table.csv", build(pooled, layout, extra_notes, all_metrics=True), layout)
        seeds.write_csv(folder / "seeds.csv", runs)
    if pairs:
        parts.more += compare.tables(pairs, layout)
        to_print.more += compare.tables(pairs, layout)
        compare.write_csv(folder / "compare.csv", pairs, layout)
        files.append("compare.csv")
    picture = _picture(parts) if chosen["figures"] else None
    if picture:
        write_file(folder / PICTURE, picture)
        files.append(PICTURE)
    title, written = chosen["title"], [*parts.tables, *parts.groups, *parts.more]
    markdown = formats.markdown(title, written, notes.provenance(runs), parts.answers, PICTURE if picture else "")
    write_file(folder / "table.md", markdown)
    write_file(folder / "table.tex", formats.tex(title, written, parts.answers))
    if chosen["figures"]:
        from bench.report.page import page  # imports what draws pictures

        by_run = replace(layout, rows=(*layout.rows, *averaged_axes))
        page.write(folder, title, sweeps, runs, written, by_run, parts.answers, picture)
        files.append("index.html")
    _remove_others(folder, files)
    if to_print.printed or to_print.more:
        terminal.print_report(
            console or Console(highlight=False, force_jupyter=False),
            title,
            [*to_print.printed, *to_print.more],
            to_print.answers,
            _beside(parts.others, folder, files),
        )
    return Report(folder, files, runs, parts.tables, parts.groups, parts.answers)


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


def _build(
    runs: Sequence[Run], pooled: Sequence[Run], layout: Layout, chosen: dict[str, Any], extra_notes: Sequence[str]
) -> _Parts:
    """The first tables, the others by question, and those that options ask for. pooled: the runs, averaged."""
    groups = chosen_options.groups(chosen)
    first = chosen_options.headline_metrics(pooled, layout.metrics, chosen)
    more = _comparisons(pooled, layout, chosen) + tuning.tables(runs, layout, chosen["figures"])
    if names(chosen, "metrics"):
        tables = build(pooled, layout, extra_notes)
        return _Parts(tables, tables, [], more, answers(tables, first, groups))
    tables = build(pooled, chosen_options.headline_layout(pooled, layout, first), extra_notes)
    others = [metric for metric in measured(pooled, layout.metrics) if metric not in first]
    printed = build(pooled, replace(layout, metrics=first, hidden=()), extra_notes) if others else tables
    of_groups = [
        table
        for name, metrics in grouped(measured(pooled, layout.metrics), groups).items()
        if set(metrics) & set(others)
        for table in build(pooled, replace(layout, metrics=metrics, hidden=()), group=name)
    ]
    return _Parts(tables, printed, of_groups, more, answers(tables, first, groups), len(others))


def _build_of(runs: Sequence[Run], folders: Collection[str], chosen: dict[str, Any]) -> _Parts:
    """The tables of the runs in these folders, with the axes in which they differ."""
    axes = names(chosen, "average")
    selected = distinguish_datasets([r for r in runs if any(s["folder"].parent.name in folders for s in r.records)])
    pooled = averaged(selected, axes)
    if not selected:
        return _Parts()
    layout = chosen_options.layout(pooled, chosen)
    unasked = {"improvement": None, "ranks": None, "figures": False}
    return _build(selected, pooled, layout, chosen | unasked, notes.average_note(selected, axes))


def _picture(parts: _Parts) -> bytes | None:
    """What the first tables answer, as a PNG; None where they compare nothing."""
    if not parts.answers:
        return None
    from bench.report.tables import pictures  # imports what draws

    return pictures.dots_and_intervals(parts.tables, [answer.metric for answer in parts.answers])


def _remove_others(folder: Path, files: Sequence[str]) -> None:
    """Removes what an earlier report wrote into this folder and this one did not."""
    for name in FILES:
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    pictures = folder / "pictures"
    if "index.html" not in files and pictures.is_dir():
        from bench.report.page.album import Album  # imports what draws

        Album(pictures).remove_others()
        if not any(pictures.iterdir()):
            pictures.rmdir()


def _beside(others: int, folder: Path, files: Sequence[str]) -> str:
    """One line on the metrics that are not printed, and where they are."""
    if not others:
        return ""
    page = "index.html" if "index.html" in files else "table.md"
    return f"{others} more metric{'' if others == 1 else 's'}: {folder / page}, table.csv"


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
