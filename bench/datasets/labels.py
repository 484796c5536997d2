"""Converts labels of any type to class numbers from 0, and groups to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from bench.core import InputError

FEW = 5  # values that a message lists


def flat(name: str, values: Any, count: int) -> np.ndarray:
    """Labels or groups as [N] integers or strings, one for each image.

    Accepts integers, booleans, whole floats and strings, [N] or [N, 1], and one-hot rows [N, K]. Strings that are all
    whole numbers become integers, so that 10 comes after 9. Raises InputError for anything else.
    """
    y = np.asarray(values)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif y.ndim == 2 and len(y) == count and y.shape[1] > 1:
        y = _one_hot(name, y)
    if y.shape != (count,):
        raise InputError(
            f"{name} has shape {y.shape}, but there are {count} images: expected one for each image, {_way_out(name)}"
        )
    if y.dtype.kind == "b":
        return y.astype(np.int64)
    if y.dtype.kind in "iu":
        return y
    if y.dtype.kind == "f":
        y = y.astype(np.float64)
        if not np.array_equal(y, np.rint(y)) or np.abs(y).max(initial=0) >= 2**53:
            raise InputError(
                f"{name} holds values that are not whole numbers: expected whole numbers or strings, {_way_out(name)}"
            )
        return y.astype(np.int64)
    if y.dtype.kind in "SUO":
        return _texts(name, y)
    raise InputError(f"{name} has type {y.dtype}: expected whole numbers or strings")


def _way_out(name: str) -> str:
    if name.startswith("group"):
        return "or leave dataset.groups out"
    return "or leave the labels out (for arrays: dataset.labels=false)"


def _one_hot(name: str, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind not in "biuf" or not ((y == 0) | (y == 1)).all() or not (y.sum(axis=1) == 1).all():
        raise InputError(
            f"{name} has shape {y.shape}, and its rows are not one-hot: expected one label for each image, [N] or "
            f"[N, 1], or rows of one 1 among 0s, {_way_out(name)}"
        )
    return y.argmax(axis=1)


def _texts(name: str, y: np.ndarray) -> np.ndarray:
    kinds = {type(value) for value in y} if y.dtype.kind == "O" else set()
    if not kinds <= {str, np.str_}:
        if kinds <= {int, bool, float} or kinds <= {np.bool_}:
            return flat(name, np.array(y.tolist()), len(y))
        raise InputError(
            f"{name} mixes {', '.join(sorted(kind.__name__ for kind in kinds))}: expected one kind, {_way_out(name)}"
        )
    text = np.char.decode(y, "utf-8", "backslashreplace") if y.dtype.kind == "S" else y.astype(str)
    try:
        number = text.astype(np.int64)
    except (ValueError, OverflowError):
        return text
    return number if np.array_equal(number.astype(str), text) else text


def with_one_type(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All parts as strings if one part holds strings: the names in a split may all look like numbers."""
    has_text = any(part.dtype.kind == "U" for part in parts.values())
    return {name: part.astype(str) for name, part in parts.items()} if has_text else parts


def numbered(labels: dict[str, np.ndarray], classes: Sequence[Any] | None) -> tuple[dict[str, np.ndarray], int]:
    """The labels [N] of each split as class numbers, int64, and the number of classes.

    classes: all classes; None: those of the training labels. They are numbered in sorted order. Raises InputError for
    a label that is not among them.
    """
    declared = {} if classes is None else {"classes": flat("classes", classes, len(classes))}
    labels = with_one_type(labels | declared)
    known = np.unique(labels.pop("classes", labels["train"]))
    for name, y in labels.items():
        unknown = ~np.isin(y, known)
        if unknown.any():
            where = "in y_train" if classes is None else "among the classes"
            raise InputError(
                f"y_{name} has {unknown.sum()} labels that are not {where}: {listed(np.unique(y[unknown]))}; expected "
                f"{listed(known)}: remove these examples, or add training examples of these classes"
            )
    return {name: np.searchsorted(known, y).astype(np.int64) for name, y in labels.items()}, len(known)


def listed(values: np.ndarray) -> str:
    """The first few of the values, for a message."""
    return ", ".join(map(str, values[:FEW])) + (f", ... ({len(values)} in all)" if len(values) > FEW else "")


def check_disjoint(groups: dict[str, np.ndarray]) -> None:
    """Raises InputError if a group is in two splits. groups: [N] for each split."""
    for (one, here), (other, there) in combinations(groups.items(), 2):
        both = np.intersect1d(here, there)
        if len(both):
            counts = f"{np.isin(here, both).sum()} and {np.isin(there, both).sum()} examples"
            raise InputError(
                f"dataset.groups: {len(both)} groups are in both {one} and {other} ({counts}): {listed(both)}; each "
                "group must be in only one split: split the data by groups, or leave dataset.groups out"
            )
