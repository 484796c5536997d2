"""Conditions of pictures from conditions.csv: one row per picture, one column per number or class."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from os.path import splitext
from typing import NamedTuple

import numpy as np

from bench.core import InputError
from bench.datasets.bounds import check_memory
from bench.datasets.conditions import check_name
from bench.datasets.folders import SplitPictures, suffixes

FILE = "conditions.csv"
EXPECTED = "expected the file name of a picture in the first column, and a number or a class in each other column"


class Row(NamedTuple):
    """place: the file and the line, for messages; values: texts by column."""

    place: str
    values: dict[str, str]


def read_rows(root: str, splits: Mapping[str, SplitPictures]) -> tuple[dict[str, Row], list[str]]:
    """The row of each picture, by its path below root, and the tables that were read. Both are empty without tables.

    A table is in root, or in the folder of each split. It names pictures by their paths from there, without the folder
    of the targets, with or without a suffix. Raises InputError for a picture without a row, a row without a picture,
    and tables that are ambiguous or incomplete; the message names the file.
    """
    folders = [pictures.folder for pictures in splits.values()]
    tables = [f"{folder}{FILE}" for folder in dict.fromkeys(["", *folders]) if os.path.isfile(f"{root}{folder}{FILE}")]
    if len(tables) > 1 and FILE in tables:
        raise InputError(f"{root} holds {' and '.join(tables)}: keep the first one, or one for each split")
    if tables and FILE not in tables and len(tables) < len(folders):
        missing = next(folder for folder in folders if f"{folder}{FILE}" not in tables)
        raise InputError(f"{root}{missing} has no {FILE}, but there is {tables[0]}: give one to each split")
    rows: dict[str, Row] = {}
    columns: dict[str, set[str]] = {}
    for table in tables:
        folder = table.removesuffix(FILE)
        read = _read_table(root + table)
        columns[table] = set(next(iter(read.values())).values)
        if columns[table] != columns[tables[0]]:
            different = sorted(columns[table] ^ columns[tables[0]])
            raise InputError(f"{root}{table} and {tables[0]} must have the same columns: only one has {different[0]}")
        rows |= _matched(root, table, read, [part for part in splits.values() if part.folder.startswith(folder)])
    return rows, tables


def columns_of(rows: list[Row]) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """A column of numbers as float32 [N, 1], or one of words as one-hot bool [N, V] and the V words, sorted.

    Raises InputError for numbers that are not finite, a column of both kinds, and words that are all different.
    """
    arrays, vocabulary = {}, {}
    for name in rows[0].values:
        texts = [row.values[name] for row in rows]
        numbers = [_number(text) for text in texts]
        is_word = np.array([number is None for number in numbers])
        if not is_word.any():
            with np.errstate(over="ignore"):
                arrays[name] = np.array(numbers).astype(np.float32)[:, np.newaxis]
            for i in np.flatnonzero(~np.isfinite(arrays[name])):
                raise InputError(f"{rows[i].place}: {name} is {texts[i]}; expected a finite number")
            continue
        if not is_word.all():
            odd = is_word if is_word.mean() <= 0.5 else ~is_word
            one, other = np.argmax(odd), np.argmin(odd)
            raise InputError(
                f"{rows[one].place}: {name} is {texts[one]}, but {rows[other].place} has {texts[other]}: expected "
                "numbers only, or words only"
            )
        words, index = np.unique(texts, return_inverse=True)
        if len(words) == len(rows):
            raise InputError(
                f"{rows[0].place}: {name} is {texts[0]}, and every row has another value: expected numbers, or a class "
                "that several pictures share; remove this column"
            )
        size = len(words) * (len(rows) + len(words))
        check_memory(f"{name}, as {len(words)} classes of {len(rows)} pictures,", size, "remove this column")
        arrays[name], vocabulary[name] = np.eye(len(words), dtype=bool)[index], words.tolist()
    return arrays, vocabulary


def _number(text: str) -> float | None:
    """The number that a text is, None for a word. Python also reads 1_2 as a number, which is rather a name."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _read_table(path: str) -> dict[str, Row]:
    """The rows of a table by the name of the picture, without its suffix."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            stripped = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
            lines = [(number, cells) for number, cells in stripped if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as comma-separated UTF-8: {error}") from error
    header = lines[0][1] if lines else []
    names = header[1:]
    if not names or len(lines) < 2:
        raise InputError(f"{path} has {max(len(lines) - 1, 0)} rows and {len(names)} columns of conditions: {EXPECTED}")
    if "" in names:
        raise InputError(f"{path}: column {2 + names.index('')} has no name: name it in the first line, or remove it")
    for name in names:
        check_name(f"{path}: the column {name}", name)
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{path} has two columns {twice[0]}: rename one of them")
    rows: dict[str, Row] = {}
    for number, (picture, *values) in lines[1:]:
        place = f"{path}, line {number} ({picture})"
        if len(values) != len(names):
            raise InputError(f"{place} has {len(values)} values for {len(names)} columns: {', '.join(names)}")
        if empty := [name for name, value in zip(names, values, strict=True) if not value]:
            raise InputError(f"{place}: {empty[0]} is empty; give it a value, or leave the picture out")
        row = rows.setdefault(_without_suffix(picture), Row(place, dict(zip(names, values, strict=True))))
        if row.place != place:
            raise InputError(f"{place} repeats the picture of {row.place}: keep one of the two rows")
    return rows


def _without_suffix(picture: str) -> str:
    name, suffix = splitext(picture.replace("\\", "/"))
    return name if suffix.lower() in suffixes() else name + suffix


def _matched(root: str, table: str, rows: dict[str, Row], splits: list[SplitPictures]) -> dict[str, Row]:
    """The rows by the path of the picture below root."""
    folder = table.removesuffix(FILE)
    file_of: dict[str, str] = {}
    for pictures in splits:
        for name, file in zip(pictures.names, pictures.files, strict=True):
            other = file_of.setdefault(pictures.folder.removeprefix(folder) + name, file)
            if other != file:
                raise InputError(
                    f"{root}{other} and {file} differ only in their suffix, but {table} has rows: rename one"
                )
    if without := [file for name, file in file_of.items() if name not in rows]:
        raise InputError(
            f"{root}{table} has no row for {without[0]} ({len(without)} of {len(file_of)} pictures have none): "
            "add a row for each picture"
        )
    if without := [row.place for name, row in rows.items() if name not in file_of]:
        raise InputError(f"{without[0]}: there is no such picture ({len(without)} rows have none): remove these rows")
    return {file: rows[name] for name, file in file_of.items()}
