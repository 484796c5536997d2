"""Any image data set on OpenML: a table with one image per row and one pixel value per column."""

from __future__ import annotations

import math
import warnings
from http.client import HTTPException

import numpy as np

from bench.core import Count, InputError
from bench.data import Split
from bench.datasets import Source, hold_out


def openml(
    name: str | None = None,
    version: Count = 1,
    image: tuple[Count, Count, Count] | None = None,
    test: Count | None = None,
) -> Source:
    """x: [N, C, H, W] float32, the values of the table, which scikit-learn caches.

    image: the shape (C, H, W) of a row, in this order; None: a square image, grey if the number of columns is a square
    number, else with three colours. test: the number of test images, which are the last rows; None: a fixed fifth. The
    target is the label; if it is missing or continuous, there are no labels. Raises InputError for a data set that
    cannot be fetched, and for a table that does not hold such images.
    """
    if name is None:
        raise InputError("dataset.name is not set: expected the name of an image data set on openml.org")
    data, target = fetch(name, name, version, "check dataset.name and dataset.version, and the connection")
    whole = Split(_images(name, data, image), None if target is None else _labels(name, target))
    unread = target is not None and whole.label is None
    remarks = (f"the target of {name} is continuous, so it was not read as a label",) if unread else ()
    if test is None:
        return hold_out(whole, name, warnings=remarks)
    if test >= len(whole.x):
        raise InputError(f"dataset.test={test}: {name} has {len(whole.x)} images in all; give fewer")
    return Source(whole.rows(slice(-test)), whole.rows(slice(-test, None)), warnings=remarks)


def fetch(title: str, name: str, version: int, advice: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The columns [N, D] and the target of an OpenML data set. Raises InputError, with the advice, if that fails."""
    from sklearn.datasets import fetch_openml  # slow to import, and not needed by `bench --help`

    try:
        with warnings.catch_warnings():  # of each attempt: the error below names the last one
            warnings.filterwarnings("ignore", "A network error occurred")
            table = fetch_openml(name, version=version, as_frame=False)
    except (OSError, HTTPException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{title} cannot be fetched from openml.org ({reason}): {advice}") from error
    return table.data, table.target


def _images(name: str, data: np.ndarray, image: tuple[int, int, int] | None) -> np.ndarray:
    shape = image or _deduced(name, data.shape[1])
    if shape[0] not in (1, 3):
        raise InputError(f"dataset.image={list(shape)} has {shape[0]} channels: expected 1 (grey) or 3 (colour)")
    if math.prod(shape) != data.shape[1]:
        raise InputError(
            f"dataset.image={list(shape)} needs {math.prod(shape)} columns, but {name} has {data.shape[1]}: give its "
            "images' channels, height and width"
        )
    # A sparse table has the method toarray. A column of text is not a pixel.
    full = data.toarray() if hasattr(data, "toarray") else data
    try:
        x = full.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} has columns that are not numbers ({error}): it is not an image data set") from error
    return x.reshape(-1, *shape)


def _deduced(name: str, columns: int) -> tuple[int, int, int]:
    for channels in (1, 3):
        side = math.isqrt(columns // channels)
        if channels * side**2 == columns:
            return channels, side, side
    raise InputError(
        f"{name} has {columns} columns, which is not a square image, grey or with three colours: set "
        "dataset.image=[channels,height,width]"
    )


def _labels(name: str, target: np.ndarray) -> np.ndarray | None:
    from pandas import isna  # slow to import

    if target.ndim != 1:
        raise InputError(f"{name} has {target.shape[1]} target columns: expected one; read it with dataset=arrays")
    missing = int(isna(target).sum())
    if missing:
        raise InputError(f"{name} has no target in {missing} of its rows: read the others with dataset=arrays")
    if target.dtype.kind == "f" and not np.array_equal(target, np.rint(target)):
        return None
    return target
