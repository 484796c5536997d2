"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from tabulate import tabulate

from bench.report.tables.answers import LEGEND, Answer, by_dataset
from bench.report.tables.table import Cell, Layout, Table
from bench.runs.files import write_file

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": "{[}", "|": r"\textbar{}", '"': "''", "±": r"$\pm$", "×": r"$\times$", "→": r"$\to$",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "·": r"$\cdot$", "–": "--", "—": "---", "…": r"\dots{}", "’": "'",
    "‘": "`", "“": "``", "”": "''", "−": "$-$", "\n": " ",
}  # fmt: skip


def latex(text: str) -> str:
    """Escaped for LaTeX; letters that no default font has lose their accents, or become a question mark."""

    def one(char: str) -> str:
        if char in _LATEX:
            return _LATEX[char]
        plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
        return plain or "?"

    return "".join(map(one, text))


def footnote_references(numbers: Sequence[int]) -> str:
    return f" [{', '.join(map(str, numbers))}]" if numbers else ""


# What Markdown takes for markup: emphasis, code, links, mathematics, tables, tags and entities. A letter on both sides
# of _ makes it a letter, as in knn_accuracy.
_MARKUP = re.compile(
    r"[\\`*$~]|(?<!\w)_|_(?!\w)|\](?=[(\[:])|<(?=[\w/!?])|&(?=#?\w+;)|^[#>+-](?=\s)|(?<=^\d)[.)](?=\s)"
)
_ENTITIES = {"<": "&lt;", "&": "&amp;"}


def _escaped(text: str) -> str:
    """A text from records for a cell of a table, which Markdown shows as it is, in one line."""
    return _escaped_prose(text).replace("|", "\\|")


def _escaped_prose(text: str) -> str:
    """The same outside a table."""
    return _MARKUP.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), " ".join(text.splitlines()))


def _markdown_cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    return (f"**{text}**" if cell.best else text) + footnote_references(cell.footnotes)


def markdown(
    title: str, tables: Sequence[Table], provenance: str, found: Sequence[Answer] = (), picture: str = ""
) -> str:
    """What the first tables answer, then every table under a heading, with its notes below.

    Tables of a group are folded. picture: the name of the file of a picture of the answers.
    """
    parts = [f"# {_escaped_prose(title)}", *_markdown_answers(found)]
    if picture:
        parts.append(f"![Means of the metrics above, with 95 % intervals]({picture})")
    for group, members in groupby(tables, key=lambda table: table.group):
        inner = list(members)
        texts = [part for table in inner for part in _markdown_table(table, "###" if group else "##")]
        if group:
            texts = [f"<details><summary>{_markdown_summary(group, inner)}</summary>", *texts, "</details>"]
        parts += texts
    return "\n\n".join(filter(None, [*parts, provenance and f"Made by {_escaped_prose(provenance)}."])) + "\n"


def _markdown_answers(found: Sequence[Answer]) -> list[str]:
    parts = []
    for dataset, members in by_dataset(found).items():
        lines = "\n".join(f"- {_escaped_prose(answer.line)}" for answer in members)
        parts += [_escaped_prose(f"{dataset}:") if dataset else "", lines]
    return ["## In short", *parts, LEGEND] if parts else []


def _markdown_summary(group: str, tables: Sequence[Table]) -> str:
    """As HTML, which Markdown leaves alone in a line of tags."""
    return str(escape(group_summary(group, tables)))


def group_summary(group: str, tables: Sequence[Table]) -> str:
    """As "codes: 9 metrics"."""
    n = len({column.metric for table in tables for column in table.columns})
    return f"{' '.join(group.split())}: {n} metric{'' if n == 1 else 's'}"


def _markdown_table(table: Table, level: str) -> list[str]:
    heads = [*table.axes, "seeds", *(column.heading for column in table.columns)]
    body = [
        [
            *map(_escaped, row.labels[:-1]),
            _escaped(row.labels[-1]) + footnote_references(row.footnotes),
            row.seeds,
            *map(_markdown_cell, row.cells),
        ]
        for row in table.rows
    ]
    align = ["left"] * (len(table.axes) + 1) + ["left" if table.prose else "right"] * len(table.columns)
    lines = tabulate(body, list(map(_escaped, heads)), "pipe", colalign=align, disable_numparse=True)
    footnotes = [f"[{i}] {_escaped_prose(line)}" for i, line in enumerate(table.footnotes, 1)]
    notes = [f"- {line}" for line in (*map(_escaped_prose, table.notes), *footnotes)]
    return [f"{level} {_escaped_prose(table.title)}", _escaped_prose(table.caption), lines, "\n".join(notes)]


@cache  # Jinja takes 50 ms to compile that of the page
def template(package: str, name: str, **syntax: Any) -> Template:
    """A template beside the modules of a package; one with .html in its name escapes its output."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **syntax,
    )
    environment.filters |= {"latex": latex, "break_name": _break_name, "small_interval": _small_interval}
    return environment.get_template(name)


def _break_name(name: str) -> str:
    """A metric's name as HTML, in two lines if it is long."""
    first, _, rest = name.partition("_")
    return Markup("{}_<br>{}").format(first, rest) if rest and len(name) > 12 else escape(name)


def _small_interval(text: str) -> str:
    """A number, with its interval in smaller type."""
    mean, _, rest = text.partition(" ")
    return Markup("{} <small>{}</small>").format(mean, rest) if rest else escape(mean)


MAX_COLUMNS = 8  # of a table on paper; the rest goes into another table


def _split(table: Table) -> list[Table]:
    """The table as several with at most MAX_COLUMNS columns, the notes below the last."""
    if len(table.columns) <= MAX_COLUMNS or table.prose:
        return [table]
    n = math.ceil(len(table.columns) / MAX_COLUMNS)
    size = math.ceil(len(table.columns) / n)
    parts = []
    for i in range(n):
        shown = slice(i * size, (i + 1) * size)
        rows = [replace(row, cells=row.cells[shown]) for row in table.rows]
        title, caption = f"{table.title} ({i + 1} of {n})", table.caption if i == 0 else ""
        part = replace(table, title=title, caption=caption, columns=table.columns[shown], rows=rows)
        parts.append(part if i == n - 1 else replace(part, notes=[], footnotes=[]))
    return parts


def tex(title: str, tables: Sequence[Table], found: Sequence[Answer] = ()) -> str:
    """What the first tables answer, and one table environment per block, or several for a wide one.

    It is to be \\input with booktabs and graphicx.
    """
    return template(
        "bench.report.tables",
        "tables.tex.jinja",
        block_start_string="<%",  # braces and per cent signs are LaTeX's own
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    ).render(
        title=title,
        answers=by_dataset(found),
        legend=LEGEND,
        tables=[part for table in tables for part in _split(table)],
    )


def write_csv(path: Path, tables: Sequence[Table], layout: Layout) -> None:
    """Tidy: a line per run and metric. Without a number there is n/a, with the reason in the last column."""
    axes = [a for a in (*layout.rows, *layout.columns) if a != "dataset"]
    numbers = ["mean", "low", "high", "iqm", "n"]
    head = ["dataset", "block", "run", *axes, "metric", *numbers, "best", "status", "reason"]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(head)
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                run, e = cell.run, cell.estimate
                if run is None:
                    continue
                values = [None] * 4 + [0] if e is None else [e.mean, e.low, e.high, e.iqm, e.n]
                shown = ["n/a" if value is None else value for value in values]
                key = [run.label("dataset"), table.title, f"{run.name}-{run.id}", *map(run.label, axes)]
                writer.writerow([*key, column.metric, *shown, cell.best, cell.status, cell.reason])
    write_file(path, file.getvalue())
