"""Labels of any kind become class numbers from 0, and groups become numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from bench.core import InputError

FEW = 5  # values that a message shows


def flat(name: str, values: Any, count: int) -> np.ndarray:
    """[N] integers or strings, which sort as a person sorts them, of one label for each image.

    Read are integers, booleans, whole floats and strings, [N] or [N, 1], and one-hot rows [N, K]. Strings that are all
    whole numbers become integers, so that 10 comes after 9. Raises InputError for anything else.
    """
    y = np.asarray(values)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif y.ndim == 2 and len(y) == count and y.shape[1] > 1:
        y = _one_hot(name, y)
    if y.shape != (count,):
        raise InputError(f"{name} has shape {y.shape}, but there are {count} images: expected one for each image")
    if y.dtype.kind == "b":
        return y.astype(np.int64)
    if y.dtype.kind in "iu":
        return y
    if y.dtype.kind == "f":
        if not np.array_equal(y, np.rint(y)) or not np.isfinite(y).all():
            raise InputError(f"{name} holds values that are not whole numbers: expected classes, by number or by name")
        return y.astype(np.int64)
    if y.dtype.kind in "SUO":
        return _texts(name, y)
    raise InputError(f"{name} has type {y.dtype}: expected whole numbers or strings")


def _one_hot(name: str, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind not in "biuf" or not ((y == 0) | (y == 1)).all() or not (y.sum(axis=1) == 1).all():
        raise InputError(
            f"{name} has shape {y.shape}, and its rows are not one-hot: expected one label for each image, [N] or "
            "[N, 1], or rows of one 1 among 0s"
        )
    return y.argmax(axis=1)


def _texts(name: str, y: np.ndarray) -> np.ndarray:
    kinds = {type(value) for value in y} if y.dtype.kind == "O" else set()
    if not kinds <= {str, np.str_}:
        if kinds <= {int, bool, float} or kinds <= {np.bool_}:
            return flat(name, np.array(y.tolist()), len(y))
        raise InputError(
            f"{name} mixes {', '.join(sorted(kind.__name__ for kind in kinds))}: expected one kind of label"
        )
    text = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y.astype(str)
    try:
        number = text.astype(np.int64)
    except ValueError:
        return text
    return number if np.array_equal(number.astype(str), text) else text


def numbered(names: Sequence[str], labels: Sequence[np.ndarray | None], classes: Sequence[Any] | None) -> Any:
    """The labels [N] of the splits as class numbers, int64, and how many classes there are.

    The classes are the sorted values of the first split, which is train, or those given. Raises InputError if another
    split has a label that is none of them.
    """
    if labels[0] is None:
        return list(labels), 0
    known = np.unique(labels[0] if classes is None else np.asarray(classes))
    for name, y in zip(names, labels, strict=True):
        if y is None:
            continue
        comparable = (y.dtype.kind == "U") == (known.dtype.kind == "U")
        strange = ~np.isin(y, known) if comparable else np.ones(len(y), bool)
        if strange.any():
            where = f"{names[0]} has not" if classes is None else "are none of the classes"
            raise InputError(
                f"{name} has {strange.sum()} labels that {where}: {listed(np.unique(y[strange]))}; expected "
                f"{listed(known)}: leave these examples out, or give training examples of these classes"
            )
    return [None if y is None else np.searchsorted(known, y).astype(np.int64) for y in labels], len(known)


def listed(values: np.ndarray) -> str:
    """The first few of the values, for a message."""
    return ", ".join(map(str, values[:FEW])) + (f", ... ({len(values)} in all)" if len(values) > FEW else "")


def check_disjoint(groups: dict[str, np.ndarray]) -> None:
    """Raises InputError if a group [N] of one split is in another one too."""
    for (one, here), (other, there) in combinations(groups.items(), 2):
        both = np.intersect1d(here, there)
        if len(both):
            counts = f"{np.isin(here, both).sum()} and {np.isin(there, both).sum()} examples"
            raise InputError(
                f"dataset.groups: {len(both)} groups are in both {one} and {other} ({counts}): {listed(both)}; each "
                "group must be in one split only: split the data anew, or leave dataset.groups out"
            )
