"""Tables for the terminal, as narrow as it is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.report.tables.answers import LEGEND, Answer, by_dataset
from bench.report.tables.formats import footnote_references
from bench.report.tables.table import Cell, Table, label_name

MAX_ROWS = 200  # of a table: nobody scrolls further, and printing is slow
WRAPPED = (16, 12, 10, 9, 8)  # widths that headings of a compact table are broken to; the first that fits is taken
_NO_BREAK = "\N{NO-BREAK SPACE}"
_UNBROKEN = re.compile(r"p [<=] \S+|\d+ seeds?|\(\S+ to \S+\)")  # of an answer, which a line keeps together
LABELS = (50, 36, 26, 18)  # widths of the lines with the labels of a row after the first one
GAPS = (2, 1)  # spaces between the columns of a compact table


@dataclass(frozen=True)
class _Grid:
    """The texts of a table: of its labels and seeds, and of its columns, each with its heading first."""

    labels: list[list[Text]]
    columns: list[list[Text]]

    def width(self, gap: int) -> int:
        return sum(map(_width, (*self.labels, *self.columns))) + gap * (len(self.labels) + len(self.columns) - 1)


def print_report(
    console: Console, title: str, tables: Sequence[Table], answers: Sequence[Answer] = (), beside: str = ""
) -> None:
    """Prints what the first tables answer, the tables, and last `beside`, a line on what else there is.

    A table that does not fit the console's width has its intervals below its means and broken headings; one that does
    not fit even so is printed in several parts. Of more than MAX_ROWS rows only the first are printed, with the number
    of the others. That nobody reads them any more, as after `| head`, is no error.
    """
    with suppress(OSError):
        with console.capture() as captured:
            console.print(Text(title, style="bold"))
            _print_answers(console, answers)
            printed: set[str] = set()
            compact = not all(table.prose or _grid(table).width(3) + 1 <= console.width for table in tables)
            for table in tables:
                _print_table(console, table, printed, compact)
            if beside:
                console.print()
                console.print(Text(beside, style="bold"), soft_wrap=True)  # a path stays whole
        console.file.write(captured.get())
        console.file.flush()


def _print_answers(console: Console, answers: Sequence[Answer]) -> None:
    found = by_dataset(answers)
    for dataset, members in found.items():
        console.print()
        if dataset:
            console.print(Text(dataset, style="bold cyan"))
        for answer in members:
            text = f"- {answer.question}: {_UNBROKEN.sub(_with_no_break, answer.text)}"
            lines = textwrap.wrap(text, console.width, subsequent_indent="  ", break_on_hyphens=False)
            line = Text("\n".join(lines).replace(_NO_BREAK, " "))
            line.highlight_words([f"- {answer.question}:"], style="bold")
            console.print(line)
    if found:
        console.print(Text(LEGEND, style="dim"))


def _print_table(console: Console, table: Table, printed: set[str], compact: bool) -> None:
    """printed: captions and notes that stand above, and are not repeated; compact: without lines between columns."""
    console.print()
    console.print(Text(table.title, style="bold cyan"))
    if table.caption and table.caption not in printed:
        console.print(Text(table.caption, style="italic"))
    wide = _grid(table)
    if table.prose:
        _print_prose(console, table, wide)
    elif not compact:
        _fill(console, RichTable(header_style="bold", pad_edge=False), wide, range(len(wide.columns)))
    elif wide.width(2) <= console.width:
        _fill(console, _compact(2), wide, range(len(wide.columns)))
    else:
        _print_compact(console, table)
    if (hidden := len(table.rows) - MAX_ROWS) > 0:
        console.print(Text(f"{hidden:,} more rows are in table.md, table.csv and the page.", style="bold"))
    for note in (note for note in table.notes if note not in printed):
        console.print(Text(note.replace("bold is", "bold (*) is").replace("Bold is", "Bold (*) is"), style="dim"))
    for i, note in enumerate(table.footnotes, 1):
        console.print(Text(f"[{i}] {note}", style="dim"))
    printed.update((table.caption, *table.notes))


def _with_no_break(found: re.Match[str]) -> str:
    return found[0].replace(" ", _NO_BREAK)


# What a table consists of


def _grid(table: Table) -> _Grid:
    """In single lines."""
    rows = table.rows[:MAX_ROWS]
    labels = [[Text(axis), *(Text(row.labels[i]) for row in rows)] for i, axis in enumerate(table.axes)]
    for text, row in zip(labels[-1][1:], rows, strict=True):
        text.append(footnote_references(row.footnotes))
    labels.append([Text("seeds"), *(Text(row.seeds) for row in rows)])
    columns = [
        [
            Text(f"{column.metric} {column.arrow}".strip() + (f"\n{column.pivot}" if column.pivot else "")),
            *(_cell(row.cells[i]) for row in rows),
        ]
        for i, column in enumerate(table.columns)
    ]
    return _Grid(labels, columns)


def _compact_grid(table: Table, width: int, label_width: int) -> _Grid:
    """Headings in lines of a width, and in further lines the intervals, the labels after the first, and footnotes.

    Where all rows have the same number of seeds there is no column for it.
    """
    rows = table.rows[:MAX_ROWS]
    named = [axis for i, axis in enumerate(table.axes) if i and any(_is_name(axis, row.labels[i]) for row in rows)]
    first = [Text(_lines(table.axes[0], named, label_width))]
    for row in rows:
        others = dict(zip(table.axes[1:], row.labels[1:], strict=True))
        shown = [label_name(axis, label) for axis, label in others.items() if axis in named or label != "-"]
        below = _lines(
            "", [*(shown if {*shown} != {"-"} else []), footnote_references(row.footnotes).strip()], label_width
        )
        first.append(Text(row.labels[0]).append(below, style="dim"))
    labels = [first]
    if not _common_seeds(table):
        labels.append([Text("seeds"), *(Text(row.seeds) for row in rows)])
    columns = [
        [
            Text(_broken(f"{column.metric} {column.arrow}".strip(), column.pivot, width)),
            *(_compact_cell(row.cells[i], width) for row in rows),
        ]
        for i, column in enumerate(table.columns)
    ]
    return _Grid(labels, columns)


def _is_name(axis: str, label: str) -> bool:
    """Whether a label is shown without the name of its axis, which is then in the heading."""
    return label != "-" and label_name(axis, label) == label


def _common_seeds(table: Table) -> str:
    """The number of seeds of all rows; "" where it differs."""
    found = {row.seeds for row in table.rows}
    return found.pop() if len(found) == 1 else ""


def _style(cell: Cell) -> str:
    return "bold green" if cell.best else "" if cell.estimate else "dim"


def _cell(cell: Cell) -> Text:
    text = Text(cell.text + ("*" if cell.best else ""), style=_style(cell))
    return text.append(footnote_references(cell.footnotes), style="dim")


def _compact_cell(cell: Cell, width: int) -> Text:
    """The mean, with its interval and footnotes in the lines below."""
    mean, _, rest = cell.text.partition(" ") if cell.estimate else (cell.text, "", "")
    below = [*rest.replace("± ", "±").split(), footnote_references(cell.footnotes).strip()]
    text = Text(mean + ("*" if cell.best else ""), style=_style(cell))
    return text.append(_lines("", below, width), style="not bold dim")


def _lines(first: str, others: Sequence[str], width: int) -> str:
    """The first text, and below it the others in lines of at most this width where that is possible."""
    lines = [first]
    for text in filter(None, others):
        if len(lines) > 1 and cell_len(f"{lines[-1]} {text}") <= width:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return "\n".join(lines)


def _broken(name: str, pivot: str, width: int) -> str:
    """A heading in lines of at most this width, before underscores and at spaces as far as that is possible."""
    lines = [""]
    for piece in [p for p in re.split(r"(?=_)|(?<= )", name) if p] + ([f"\n{pivot}"] if pivot else []):
        if piece.startswith("\n") or (lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width):
            lines.append("")
        text = lines[-1] + piece.lstrip("\n")
        while cell_len(text.rstrip()) > width:
            lines[-1], text = f"{text[: width - 1]}-", text[width - 1 :]
            lines.append("")
        lines[-1] = text
    return "\n".join(line.rstrip() for line in lines)


def _width(texts: Sequence[Text]) -> int:
    return max(cell_len(line) for text in texts for line in text.plain.split("\n"))


# How it is printed


def _print_prose(console: Console, table: Table, grid: _Grid) -> None:
    printed = RichTable(header_style="bold", pad_edge=False, show_lines=True)
    for texts in (*grid.labels, *grid.columns):
        printed.add_column(texts[0], overflow="fold")
    for i in range(1, len(table.rows[:MAX_ROWS]) + 1):
        printed.add_row(*(texts[i] for texts in (*grid.labels, *grid.columns)))
    console.print(printed)


def _print_compact(console: Console, table: Table) -> None:
    grids = ((_compact_grid(table, width, label), gap) for label, width, gap in product(LABELS, WRAPPED, GAPS))
    grid, gap = next(((g, gap) for g, gap in grids if g.width(gap) <= console.width), (None, 2))
    grid = grid or _compact_grid(table, WRAPPED[1], LABELS[-1])
    if seeds := _common_seeds(table):
        console.print(Text(f"Every row has {seeds} seed{'' if seeds == '1' else 's'}.", style="italic"))
    for part in _parts(grid, console.width, gap):
        _fill(console, _compact(gap), grid, part)


def _compact(gap: int) -> RichTable:
    return RichTable(
        box=box.SIMPLE_HEAD, header_style="bold", padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False
    )


def _fill(console: Console, printed: RichTable, grid: _Grid, part: Sequence[int]) -> None:
    """Prints a table with these columns of a grid."""
    sides: list[tuple[list[Text], Any]] = [
        *((texts, "left") for texts in grid.labels),
        *((grid.columns[i], "right") for i in part),
    ]
    for texts, justify in sides:
        printed.add_column(texts[0], justify=justify, no_wrap=True, overflow="fold")
    for row in zip(*(texts[1:] for texts, _ in sides), strict=True):
        printed.add_row(*row)
    console.print(printed)


def _parts(grid: _Grid, width: int, gap: int) -> list[list[int]]:
    """The numbers of the columns of each part, which fit beside the labels of the rows."""
    label_width = sum(_width(texts) + gap for texts in grid.labels)
    parts: list[list[int]] = [[]]
    left = width - label_width
    for i, texts in enumerate(grid.columns):
        needed = _width(texts) + gap
        if needed > left + gap and parts[-1]:  # the last column has no gap behind it
            parts.append([])
            left = width - label_width
        parts[-1].append(i)
        left -= needed
    return parts
