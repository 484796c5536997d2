"""Which files of a folder are pictures, of which split and of which class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from os.path import splitext
from typing import NamedTuple

from PIL import Image, ImageFile

from bench.core import InputError

# What the folder of a split may be called, in small letters.
SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
LAYOUTS = "expected pictures or class folders of pictures, directly or in train/, test/ and, if any, val/"
KINDS = 5  # of unread files that are counted apart


class Found(NamedTuple):
    """The pictures of a split, by their paths below the root with slashes, and the class of each, if there are any."""

    files: list[str]
    classes: list[str] | None


class Listing(NamedTuple):
    """splits: train, validation and test, as far as there are folders for them; without any, all pictures are train.

    unread: how many other files there are, by suffix; warnings: a line for each thing that was left out.
    """

    has_splits: bool  # folders for them
    splits: dict[str, Found]
    unread: Counter[str]
    warnings: list[str]


@cache
def suffixes() -> frozenset[str]:
    """Of the pictures that Pillow decodes, in small letters. It recognises stubs and videos, but decodes neither."""

    def decodes(kind: str) -> bool:
        opener = Image.OPEN[kind][0] if kind in Image.OPEN else ImageFile.StubImageFile
        return kind != "MPEG" and not (isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile))

    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if decodes(kind))


def find(root: str) -> Listing:
    """The pictures below root, sorted by path, without hidden files and the __MACOSX folders of archives.

    Raises InputError for a layout that has no pictures or more than one meaning, naming the place.
    """
    folders, files = _entries(root)
    named = {folder: SPLITS[folder.lower()] for folder in folders if folder.lower() in SPLITS}
    counts = Counter(named.values())
    unread: Counter[str] = Counter()
    if not ("train" in counts and (len(counts) > 1 or len(named) == len(folders))):  # train/ can be a class, too
        if folders and len(named) == len(folders):
            raise InputError(f"{root} holds {_listed(folders)} but no train/: {LAYOUTS}")
        return Listing(False, {"train": _split(root, "", unread)}, unread, [])

    for split, count in counts.items():
        if count > 1:
            same = [folder for folder in named if named[folder] == split]
            raise InputError(f"{root} holds {_listed(same)}, which all mean {split}: keep one of them")
    found = {folder: _split(root, f"{folder}/", unread) for folder in named}
    _check_classes(root, found)
    beside = {folder: sum(1 for _ in walk(root, f"{folder}/")) for folder in folders if folder not in named}
    warnings = [f"{folder}/ is no split and was not read: {count} files" for folder, count in beside.items() if count]
    loose, others = _parted(files)
    unread.update(others)
    if loose:
        warnings.append(f"{len(loose)} pictures outside {_listed(named)} were not read: {loose[0]}, ...")
    return Listing(True, {named[folder]: split for folder, split in found.items()}, unread, warnings)


def walk(root: str, folder: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Every file below a folder of the root, by its path below the root. A link to a folder above is not followed."""
    real = os.path.realpath(root + folder)
    if real in above:
        return
    folders, files = _entries(root + folder)
    yield from (folder + file for file in files)
    for inner in folders:
        yield from walk(root, f"{folder}{inner}/", (*above, real))


def kinds(unread: Counter[str]) -> list[str]:
    """How many files there are of each suffix, as in "38 .txt": the most frequent ones, and the others together."""
    common = unread.most_common()
    counted = [f"{count} {suffix or 'without a suffix'}" for suffix, count in common[:KINDS]]
    rest = sum(count for _, count in common[KINDS:])
    return [*counted, f"{rest} others"] if rest else counted


def _split(root: str, folder: str, unread: Counter[str]) -> Found:
    """folder: below the root, "" or with a slash at its end."""
    folders, files = _entries(root + folder)
    loose = _parted(files)[0] if folders else []
    if loose:
        raise InputError(
            f"{root}{folder} holds folders ({folders[0]}/) and loose pictures ({loose[0]}): put each picture into a "
            "class folder, or all of them side by side"
        )
    places: dict[str, str | None] = {f"{folder}{name}/": name for name in folders} or {folder: None}
    found = Found([], [] if folders else None)
    for place, name in places.items():
        _check_no_splits(root, place)
        pictures, others = _parted([folder + file for file in files] if name is None else walk(root, place))
        if not pictures:
            raise InputError(f"{root}{place} holds no pictures: {LAYOUTS}")
        unread.update(others)
        found.files.extend(pictures)
        if found.classes is not None and name is not None:
            found.classes.extend([name] * len(pictures))
    if folders:
        unread.update(_suffix(file) for file in files)
    return found


def _check_no_splits(root: str, place: str) -> None:
    """Raises InputError for a class folder that holds train/ and test/: its pictures would become one split."""
    inside = [name for name in _entries(root + place)[0] if name.lower() in SPLITS]
    if len({SPLITS[name.lower()] for name in inside}) > 1:
        raise InputError(
            f"{root}{place} holds {_listed(inside)}, which must be directly in dataset.root: set dataset.root to it"
        )


def _check_classes(root: str, found: dict[str, Found]) -> None:
    bare = [folder for folder, split in found.items() if split.classes is None]
    others = [folder for folder in found if folder not in bare]
    if bare and others:
        raise InputError(
            f"{root}: class folders are in {_listed(others)} but not in {_listed(bare)}: give each split class "
            "folders, or none of them"
        )
    every = {name for split in found.values() for name in split.classes or ()}
    missing = {folder: sorted(every - set(split.classes or ())) for folder, split in found.items()}
    if any(missing.values()):
        each = "; ".join(f"{folder}/ has no {', '.join(names)}" for folder, names in missing.items() if names)
        raise InputError(f"{root}: {_listed(found)} must hold the same classes: {each}")


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """The names of the folders and of the files in a folder, sorted, without hidden ones."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name != "__MACOSX":
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}; get permission there") from error
    return sorted(folders), sorted(files)


def _parted(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """The pictures among files, and the suffixes of the others."""
    known, pictures, others = suffixes(), [], []
    for file in files:
        if (suffix := _suffix(file)) in known:
            pictures.append(file)
        else:
            others.append(suffix)
    return pictures, others


def _suffix(file: str) -> str:
    return splitext(file)[1].lower()


def _listed(folders: Iterable[str]) -> str:
    *most, last = [f"{folder}/" for folder in folders]
    return f"{', '.join(most)} and {last}" if most else last
