"""Finds the files of shapes in class folders, and reads them, once if there is a cache."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import compress
from os.path import splitext
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.core import InputError
from bench.datasets.cache import get_or_build, memory_map, write_rows
from bench.datasets.folders import SPLITS, count_suffixes, walk

VERSION = 1  # of the cached voxels: increase it whenever reading changes
MIN_ANNOUNCED = 500  # files; reading so many takes long enough to announce it


class Shapes(NamedTuple):
    """Shapes as they were read: voxels [N, side, side, side] bool, and the name of the class of each.

    split: the names of their splits, if there are any; object: the name of what each shape shows, if known.
    """

    voxels: np.ndarray
    label: list[str]
    split: list[str] | None = None
    object: list[str] | None = None


class _File(NamedTuple):
    """path: below the root; split: train, validation, test or, without such folders, ""."""

    path: str
    label: str
    split: str
    object: str


def model_folder(classes: list[str], name: str) -> str:
    """The object of <class>/<model>/..., as in ShapeNet, where a model may have several files; "" without <model>/."""
    return "/".join(classes[:2]) if len(classes) > 1 else ""


def read_folder(
    root: Path,
    suffix: str,
    read: Callable[[Path], np.ndarray],
    kind: list[object],
    cache: Path | None,
    classes: Sequence[str] | None = None,
    object_of: Callable[[list[str], str], str | None] = model_folder,
) -> Shapes:
    """The shapes of all files with the suffix, sorted by path. A class is the first folder that is not train or test.

    read: returns the voxels of a file; kind: what they depend on besides the file; cache: a folder to keep them in.
    classes: the others are not read. object_of: maps the folders besides train and test, and the name of a file without
    suffix, to the object; "": each file shows another one; None: the name is wrong. Raises InputError that names the
    file for a wrong file or place.
    """
    files = _find(root, suffix, classes, object_of)
    if cache is None:
        side, bits = _read(root, files, read)
    else:
        place = cache / "voxels" / _cache_key(root, files, kind)
        side, bits = get_or_build(place, lambda part: _write(part, root, files, read)), memory_map(place / "bits.npy")
    voxels = np.unpackbits(bits, axis=1, count=side**3).reshape(-1, side, side, side).astype(bool)
    splits = [file.split for file in files] if files[0].split else None
    return Shapes(voxels, [file.label for file in files], splits, [file.object for file in files])


def check_cube(file: Path, shape: tuple[int, ...], side: int) -> None:
    """Raises InputError unless the voxels of a file have this number along each side, like those of other files."""
    if shape != (side,) * 3:
        raise InputError(f"{file} has {' x '.join(map(str, shape))} voxels: expected {side} a side, like other files")


def is_chosen(labels: Sequence[str], classes: Sequence[str] | None) -> np.ndarray:
    """Whether each label is one of the classes, [N] bool; None: all are. Raises InputError for an unknown class."""
    if classes is None:
        return np.ones(len(labels), bool)
    if unknown := [label for label in classes if label not in labels]:
        known = ", ".join(sorted({*labels}))
        raise InputError(f"dataset.classes: there is no class {unknown[0]}; expected null or some of {known}")
    return np.isin(np.array(labels), np.array(classes))


def _find(
    root: Path, suffix: str, classes: Sequence[str] | None, object_of: Callable[[list[str], str], str | None]
) -> list[_File]:
    everything = sorted(walk(f"{root}/"))
    paths = [path for path in everything if splitext(path)[1].lower() == suffix]
    if not paths:
        others = count_suffixes(Counter(splitext(path)[1].lower() for path in everything))
        raise InputError(f"{root} has no {suffix} files, but {', '.join(others) or 'no others'}: set dataset.root")
    files = []
    for path in paths:
        *folders, name = path.split("/")
        splits = [SPLITS[part.lower()] for part in folders if part.lower() in SPLITS]
        names = [part for part in folders if part.lower() not in SPLITS]
        if not names or len(splits) > 1:
            raise InputError(f"{root}/{path}: expected it in <class>/, or in <class>/train/ and <class>/test/")
        found = object_of(names, splitext(name)[0])
        if found is None:
            raise InputError(f"{root}/{path}: expected a name such as {names[0]}_0001_1{suffix}: class, id, rotation")
        files.append(_File(path, names[0], splits[0] if splits else "", found or path))
    files = list(compress(files, is_chosen([file.label for file in files], classes)))
    if other := next((file for file in files if (not file.split) != (not files[0].split)), None):
        raise InputError(f"{root} has {files[0].path} and {other.path}: put all files into train/ and test/, or none")
    if files[0].split and (missing := {"train", "test"} - {file.split for file in files}):
        raise InputError(f"{root} has no {suffix} files in {missing.pop()}/: expected <class>/train/ and <class>/test/")
    return files


def _read(root: Path, files: list[_File], read: Callable[[Path], np.ndarray]) -> tuple[int, np.ndarray]:
    """The number of voxels along each side, and the voxels [N, bytes], packed because thousands take gigabytes."""
    if len(files) >= MIN_ANNOUNCED:
        print(f"reading {len(files)} shapes of {root}, once", file=sys.stderr, flush=True)
    side, rows = 0, []
    for file in files:
        voxels = read(root / file.path)
        side = side or len(voxels)
        check_cube(root / file.path, voxels.shape, side)
        rows.append(np.packbits(voxels))
    return side, np.stack(rows)


def _write(place: Path, root: Path, files: list[_File], read: Callable[[Path], np.ndarray]) -> int:
    side, bits = _read(root, files, read)
    write_rows(place / "bits.npy", [bits])
    return side


def _cache_key(root: Path, files: list[_File], kind: list[object]) -> str:
    """A hash of everything that determines the voxels and is known without reading them."""
    digest = hashlib.blake2b(json.dumps([VERSION, os.path.realpath(root), *kind]).encode(), digest_size=16)
    for file in files:
        status = os.stat(root / file.path)
        stamp = f"\n{file.path}\0{status.st_size} {status.st_mtime_ns}"
        digest.update(stamp.encode(errors="surrogateescape"))
    return digest.hexdigest()
