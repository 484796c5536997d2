"""UTKFace: photographs of faces with age, gender and race in their file names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from os.path import basename
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from bench.core import Count, InputError
from bench.data import Split
from bench.datasets import Source, hold_out
from bench.datasets.decoding import PixelFormat
from bench.datasets.folders import count_suffixes, located, separate, walk
from bench.datasets.images import read_pictures
from bench.datasets.ranges import BYTES

OLDEST = 116  # years, in the published set
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "other")
NAME = re.compile(r"(\d+)_([01])_([0-4])_\d+")  # age, gender, race, and when the picture was collected
LAYOUT = "expected pictures with names such as 25_0_2_20170116174525125.jpg.chip.jpg: age, gender, race, time"
# The highest ages of the groups of Zhang, Song & Qi 2017; the last group has none.
BINS = (5, 10, 15, 20, 30, 40, 50, 60, 70)

LastYear = Annotated[int, Field(ge=0, lt=OLDEST, strict=True)]


class Face(NamedTuple):
    """A picture and the contents of its name. age: years; gender, race: indices of GENDERS and RACES."""

    file: str
    age: int
    gender: int
    race: int


def utkface(
    name: str = "utkface",
    root: str | None = None,
    size: Count = 32,
    bins: tuple[LastYear, ...] = BINS,
    gender: bool = False,
    cache: Path | None = None,
) -> Source:
    """x: [N, 3, size, size] uint8, the faces in the folder `root` or in $BENCH_DATA/<name>.

    Conditions, one-hot: age [N, len(bins) + 1]; with gender=true also gender [N, 2]. bins are the highest ages of the
    groups; the last group has none. Truth: age [N] float32, years; gender and race [N] int64. A fixed fifth of the
    faces is the test set. The data do not say which faces are of the same person, so a person may be in several splits.
    Pictures whose names lack a field are not read, and a warning counts them. cache: a folder for decoded pictures.
    Raises InputError for a folder without faces, an age above OLDEST, too many damaged pictures, and bins that do not
    increase or have no faces.
    """
    if not bins or any(one >= other for one, other in pairwise(bins)):
        raise InputError(f"dataset.bins={list(bins)}: expected the highest ages of the age groups, in increasing order")
    folder = _folder(name, root)
    faces, unread = find_faces(folder)
    files = [face.file for face in faces]
    pictures = read_pictures(cache, folder, files, PixelFormat(size, size, 3, (0, 0, 0), BYTES))
    if damaged := pictures.summary["damaged"]:
        unread.append(f"{len(damaged)} damaged (first: {files[damaged[0]]}, {pictures.summary['reason']})")
    warnings = (f"not all files of {folder} were read: {', '.join(unread)}",) if unread else ()

    age, gender_of, race = np.array([face[1:] for face in faces])[pictures.rows >= 0].T
    words, group = group_names(bins), np.searchsorted(bins, age)
    if missing := [word for number, word in enumerate(words) if number not in group]:
        raise InputError(f"dataset.bins={list(bins)}: no face in {folder} is {missing[0]} years old; change the bins")
    conditions = {"age": np.eye(len(words), dtype=bool)[group]}
    if gender:
        conditions["gender"] = np.eye(len(GENDERS), dtype=bool)[gender_of]
    truth = {"age": age.astype(np.float32), "gender": gender_of, "race": race}
    vocabulary = {"age": words, "gender": GENDERS, "race": RACES}
    whole = Split(pictures.x, conditions=conditions, truth=truth)
    return hold_out(whole, folder, range=BYTES, vocabulary=vocabulary, warnings=warnings)


def group_names(bins: Sequence[int]) -> list[str]:
    """The names of the age groups with these highest ages: "0 to 5", "6 to 10" and "over 10" for 5 and 10."""
    first_years = [0, *(last + 1 for last in bins)]
    return [*(f"{first} to {last}" for first, last in zip(first_years, bins, strict=False)), f"over {bins[-1]}"]


def find_faces(folder: str) -> tuple[list[Face], list[str]]:
    """The faces below a folder, sorted by path, and the numbers of other files, as items of a warning.

    Raises InputError if there are no faces, and for an age above OLDEST.
    """
    pictures, suffixes = separate(walk(folder))
    faces, unnamed = [], []
    for file in sorted(pictures):
        match = NAME.match(basename(file))
        if match is None:
            unnamed.append(file)
            continue
        face = Face(file, *map(int, match.groups()))
        if face.age > OLDEST:
            raise InputError(
                f"{folder}{file} says that the age is {face.age}: expected 0 to {OLDEST}; correct the name, or remove "
                "the file"
            )
        faces.append(face)
    if not faces:
        raise InputError(f"dataset.root: {folder} has no faces: {LAYOUT}")
    unread = [f"{len(unnamed)} without age, gender and race in the name (first: {unnamed[0]})"] if unnamed else []
    return faces, unread + count_suffixes(Counter(suffixes))


def _folder(name: str, root: str | None) -> str:
    """The folder of the faces, with a slash at the end."""
    folder = located(root, name, LAYOUT)
    if not folder.is_dir():
        key = "dataset.root" if root is not None else f"$BENCH_DATA/{name}"
        raise InputError(f"{key}: {folder} is not a folder; set dataset.root to the folder of the faces")
    return f"{folder}/"
