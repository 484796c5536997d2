"""One self-contained HTML page: the tables, and the runs side by side in charts and pictures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from markupsafe import Markup

from bench.report.page.album import Album, Picture
from bench.report.page.charts import LabelledRun
from bench.report.page.gallery import BRIEF, FULL, gallery
from bench.report.records.axes import group_by_dataset, sort_runs
from bench.report.records.run import RECORD_AXES, Run
from bench.report.tables import formats, notes
from bench.report.tables.answers import LEGEND, Answer, by_dataset
from bench.report.tables.formats import template
from bench.report.tables.table import Layout, Row, Table
from bench.runs.files import write_file

VEGA = Path(__file__).parent / "vega"
LIBRARIES = ("vega", "vega-lite", "vega-embed")  # in the order in which they are loaded
MAX_FULL = 100  # runs that are shown in full; of more, the page shows less of each
MAX_OPEN = 60  # figures of a section that are open; more are opened by a click
MAX_VALUES = 30  # of an axis with a switch
MAX_COLUMNS = 12  # of a table that shows all values of the axes across it


@dataclass(frozen=True)
class Switch:
    """Shows one value of an axis, or all; values: labels, each with the words of its runs. is_wide: whether the page
    opens with the first value, because a table would have too many columns."""

    axis: str
    values: list[tuple[str, str]]
    is_wide: bool


def filter_words(labels: Iterable[tuple[str, str]], dataset: str) -> str:
    """The words by which a filter finds a run: of its data set, and of its labels along axes, also as axis=word."""
    found = _split(dataset)
    for axis, label in labels:
        for word in _split(label):
            found += [word, *(f"{name}={word}".lower() for name in (axis, axis.rpartition(".")[2]) if name)]
    return " ".join(dict.fromkeys(found))


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[\s·,()\[\]]+", text.lower()) if word]


def write(
    folder: Path,
    title: str,
    sweeps: Sequence[str],
    runs: Sequence[Run],
    tables: Sequence[Table],
    layout: Layout,
    answers: Sequence[Answer] = (),
    picture: bytes | None = None,
) -> None:
    """index.html, which fetches nothing from elsewhere, and its pictures as files in pictures/.

    layout: its axes name each run; picture: a PNG of the answers. Texts from records are escaped.
    """
    album = Album(folder / "pictures")
    sizes = FULL if len(runs) <= MAX_FULL else BRIEF
    axes = (*layout.rows, *layout.columns)
    groups = group_by_dataset(runs, layout.columns)
    labelled = {title: _label(sort_runs(group, axes), axes, title) for title, group in groups.items()}
    galleries = [gallery(album, title, group, sizes) for title, group in labelled.items()]
    statuses = Counter(r["status"] for run in runs for r in run.records)
    finished = max((r["finished"] or "" for run in runs for r in run.records), default="")
    known = {*RECORD_AXES} | {axis for run in runs for axis in (*run.choices, *run.settings)}
    page = template("bench.report.page", "page.html.jinja").render(
        title=title,
        sweeps=sweeps,
        runs=[run.words for group in labelled.values() for run in group],
        statuses=statuses,
        finished=finished[:16].replace("T", " "),
        provenance=notes.provenance(runs),
        answers=by_dataset(answers),
        legend=LEGEND,
        answer_picture=picture and album.png("answer", "means of the metrics above, with 95 % intervals", picture),
        groups=[
            (
                formats.group_summary(group, members) if group else "",
                [(table, _rows(table, known), _choices(table), _pictures(album, table)) for table in members],
            )
            for group, members in _by_group(tables)
        ],
        has_images=any((r["folder"] / "images.npz").is_file() for run in runs for r in run.ok),
        galleries=galleries,
        brief=sizes is BRIEF,
        max_open=MAX_OPEN,
        sheets=album.sheets,
        libraries=[Markup((VEGA / f"{name}.min.js").read_text()) for name in LIBRARIES],
        css_class=_css_class,
        switches=_switches(runs, tables, layout),
        pivot_words=lambda column: filter_words(
            zip(layout.columns, column.pivot.split(", ") if column.pivot else (), strict=False), ""
        ),
    )
    write_file(folder / "index.html", page)
    album.remove_others()


def _by_group(tables: Sequence[Table]) -> list[tuple[str, list[Table]]]:
    return [(group, list(members)) for group, members in groupby(tables, key=lambda table: table.group)]


def _label(runs: Sequence[Run], axes: Sequence[str], dataset: str) -> list[LabelledRun]:
    found = []
    for run in runs:
        labels = [(axis, run.label(axis)) for axis in axes if run.value(axis) is not None]
        label = " · ".join(label for _, label in labels) or run.name
        found.append(LabelledRun(run, label, filter_words(labels, dataset)))
    return found


def _rows(table: Table, known: set[str]) -> list[tuple[Row, str]]:
    """Each row and its words: those of its labels and columns; none where rows are not runs, as in tables of claims."""
    if not known & set(table.axes):
        return [(row, "") for row in table.rows]
    pivots = [("", column.pivot) for column in table.columns]
    return [
        (row, filter_words([*zip(table.axes, row.labels, strict=True), *pivots], table.dataset)) for row in table.rows
    ]


def _switches(runs: Sequence[Run], tables: Sequence[Table], layout: Layout) -> list[Switch]:
    """Of the axes with several values, the model and the data set aside: those of rows first."""
    is_wide = any(len({column.pivot for column in t.columns}) > 1 and len(t.columns) > MAX_COLUMNS for t in tables)
    found = []
    for axis in (*layout.rows, *layout.columns):
        labels = dict.fromkeys(run.label(axis) for run in sort_runs(runs, [axis]) if run.value(axis) is not None)
        if axis not in ("model", "dataset") and 1 < len(labels) <= MAX_VALUES:
            values = [(label, " ".join(w for w in _value_words(axis, label))) for label in labels]
            found.append(Switch(axis, values, is_wide and axis in layout.columns))
    return found


def _value_words(axis: str, label: str) -> list[str]:
    """The words of a value with the full name of its axis."""
    return [word for word in filter_words([(axis, label)], "").split() if word.startswith(f"{axis.lower()}=")]


def _choices(table: Table) -> list[tuple[int, str, list[str]]]:
    """The axes that a table can be filtered by: place, name and values; none for a table of one or two rows."""
    if len(table.rows) < 3:
        return []
    values = [list(dict.fromkeys(row.labels[i] for row in table.rows)) for i in range(len(table.axes))]
    return [(i, table.axes[i], found) for i, found in enumerate(values) if 1 < len(found) < 30]


def _pictures(album: Album, table: Table) -> list[Picture]:
    return [album.png(f"{table.title}-{i}", alt, png) for i, (alt, png) in enumerate(table.pictures, 1)]


def _css_class(text: str) -> str:
    """The class of a cell with a short text, as is-does-not-hold."""
    return "is-" + "-".join(re.findall(r"\w+", text.lower())) if 0 < len(text) <= 24 else ""
