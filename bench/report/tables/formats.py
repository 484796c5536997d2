"""Tables as Markdown, LaTeX, CSV and for the terminal."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

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


def markdown(title: str, tables: Sequence[Table], provenance: str) -> str:
    """Every table under a heading, with its notes below."""
    parts = [f"# {_escaped_prose(title)}"]
    for table in tables:
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
        parts += [f"## {_escaped_prose(table.title)}", _escaped_prose(table.caption), lines, "\n".join(notes)]
    return "\n\n".join(filter(None, [*parts, provenance and f"Made by {_escaped_prose(provenance)}."])) + "\n"


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


def tex(title: str, tables: Sequence[Table]) -> str:
    """One table environment per block, or several for a wide one, to be \\input with booktabs and graphicx."""
    return template(
        "bench.report.tables",
        "tables.tex.jinja",
        block_start_string="<%",  # braces and per cent signs are LaTeX's own
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    ).render(title=title, tables=[part for table in tables for part in _split(table)])


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


def _terminal_cell(cell: Cell) -> Text:
    style = "bold green" if cell.best else "" if cell.estimate else "dim"
    return Text(cell.text + ("*" if cell.best else ""), style=style).append(
        footnote_references(cell.footnotes), style="dim"
    )


MAX_ROWS = 200  # of a table in the terminal: nobody scrolls further, and printing is slow


def print_tables(console: Console, title: str, tables: Sequence[Table]) -> None:
    """Prints the tables, each in as many parts, one below the other, as its columns need in the console's width.

    Of more than MAX_ROWS rows only the first are printed, with the number of the others. That nobody reads them any
    more, as after `| head`, is no error.
    """
    with suppress(OSError):
        with console.capture() as captured:
            _print_tables(console, title, tables)
        console.file.write(captured.get())
        console.file.flush()


def _print_tables(console: Console, title: str, tables: Sequence[Table]) -> None:
    console.print(Text(title, style="bold"))
    for table in tables:
        console.print()
        console.print(Text(table.title, style="bold cyan"))
        if table.caption:
            console.print(Text(table.caption, style="italic"))
        keys = [
            [*map(Text, row.labels[:-1]), Text(row.labels[-1] + footnote_references(row.footnotes)), Text(row.seeds)]
            for row in table.rows[:MAX_ROWS]
        ]
        cells = [[_terminal_cell(cell) for cell in row.cells] for row in table.rows[:MAX_ROWS]]
        heads = [f"{c.metric} {c.arrow}".strip() + (f"\n{c.pivot}" if c.pivot else "") for c in table.columns]
        parts = [[*range(len(heads))]] if table.prose else _parts(table, keys, cells, heads, console.width)
        for part in parts:
            printed = RichTable(header_style="bold", pad_edge=False, show_lines=table.prose)
            for name in (*table.axes, "seeds"):
                printed.add_column(Text(name), no_wrap=not table.prose, overflow="fold")
            for i in part:
                justify: Any = "left" if table.prose else "right"
                printed.add_column(Text(heads[i]), justify=justify, no_wrap=not table.prose, overflow="fold")
            for key, line in zip(keys, cells, strict=True):
                printed.add_row(*key, *(line[i] for i in part))
            console.print(printed)
        if (hidden := len(table.rows) - MAX_ROWS) > 0:
            console.print(Text(f"{hidden:,} more rows are in table.md, table.csv and the page.", style="bold"))
        for note in table.notes:
            console.print(Text(note.replace("bold is", "bold (*) is").replace("Bold is", "Bold (*) is"), style="dim"))
        for i, note in enumerate(table.footnotes, 1):
            console.print(Text(f"[{i}] {note}", style="dim"))


def _parts(
    table: Table, keys: list[list[Text]], cells: list[list[Text]], heads: list[str], width: int
) -> list[list[int]]:
    """The numbers of the columns of each part, which fit beside the labels of the rows."""

    def text_width(texts: list[str]) -> int:
        return max(len(line) for text in texts for line in text.split("\n")) + 3

    names = (*table.axes, "seeds")
    label_width = sum(text_width([name, *(key[i].plain for key in keys)]) for i, name in enumerate(names)) + 1
    parts: list[list[int]] = [[]]
    left = width - label_width
    for i, head in enumerate(heads):
        needed = text_width([head, *(line[i].plain for line in cells)])
        if needed > left and parts[-1]:
            parts.append([])
            left = width - label_width
        parts[-1].append(i)
        left -= needed
    return parts
