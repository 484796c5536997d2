"""Finds the pictures in a folder, with the split and class of each and, if there are pairs, its source."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from os.path import splitext
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFile

from bench.core import InputError
from bench.datasets.bounds import check_regular

# The names that the folder of a split may have, in lower case.
SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
LAYOUTS = (
    "expected pictures, class folders of pictures, or source/ and target/, directly or in train/, test/ and, if any, "
    "val/"
)
PAIR = ("source", "target")  # the folders of pairs, in lower case
MAX_SUFFIXES = 5  # that are counted separately


def located(place: str | None, name: str, expected: str, key: str = "root") -> Path:
    """The folder `place`, or else $BENCH_DATA/<name>. Raises InputError with what is expected if neither is given."""
    shared = os.environ.get("BENCH_DATA")
    if place is None and not shared:
        raise InputError(f"neither dataset.{key} nor BENCH_DATA is set: {expected}")
    return Path(place).expanduser() if place is not None else Path(str(shared), name)


class SplitPictures(NamedTuple):
    """The pictures of a split: their paths below the root, with slashes, and the class of each, if it has classes.

    folder: that of the split, below the root and with a slash at its end, or "". If there are pairs, files are the
    targets, `targets` is their folder, and sources are the paths of their sources.
    """

    folder: str
    files: list[str]
    classes: list[str] | None = None
    sources: list[str] | None = None
    targets: str = ""

    @property
    def names(self) -> list[str]:
        """The paths below the folder of the split, or of its targets, without suffixes."""
        return [splitext(file.removeprefix(self.targets or self.folder))[0] for file in self.files]


class Listing(NamedTuple):
    """splits: train, and validation and test if they have folders; without split folders all pictures are in train.

    unread: the number of other files by suffix; warnings: a line for each thing that was left out.
    """

    has_splits: bool  # whether there are split folders
    splits: dict[str, SplitPictures]
    unread: Counter[str]
    warnings: list[str]


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of files that Pillow decodes, in lower case. It recognises stubs and videos but decodes neither.

    EPS is left out: it is a program, which Pillow gives to Ghostscript.
    """

    def is_decoded(kind: str) -> bool:
        opener = Image.OPEN[kind][0] if kind in Image.OPEN else ImageFile.StubImageFile
        is_stub = isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)
        return not is_stub and kind not in ("MPEG", "EPS")

    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if is_decoded(kind))


def find_pictures(root: str) -> Listing:
    """The pictures below root, sorted by path. Ignores hidden files and the __MACOSX folders of archives.

    Raises InputError for a folder without pictures and for an ambiguous layout; the message gives the path.
    """
    folders, files = _entries(root)
    split_of = {folder: SPLITS[folder.lower()] for folder in folders if folder.lower() in SPLITS}
    counts = Counter(split_of.values())
    unread: Counter[str] = Counter()
    warnings: list[str] = []
    if not ("train" in counts and (len(counts) > 1 or len(split_of) == len(folders))):  # train/ may also be a class
        if folders and len(split_of) == len(folders):
            raise InputError(f"{root} holds {_join(folders)} but no train/: {LAYOUTS}")
        return Listing(False, {"train": _list_split(root, "", unread, warnings)}, unread, warnings)

    for split, count in counts.items():
        if count > 1:
            same = [folder for folder in split_of if split_of[folder] == split]
            raise InputError(f"{root} holds {_join(same)}, which all mean {split}: keep one of them")
    pictures = {folder: _list_split(root, f"{folder}/", unread, warnings) for folder in split_of}
    _check_pairs(root, pictures)
    _check_classes(root, pictures)
    warnings += _unread_folders(root, [f"{folder}/" for folder in folders if folder not in split_of], "a split")
    loose, others = separate(files)
    unread.update(others)
    if loose:
        warnings.append(f"{len(loose)} pictures outside {_join(split_of)} were not read: {loose[0]}, ...")
    return Listing(True, {split_of[folder]: split for folder, split in pictures.items()}, unread, warnings)


def walk(root: str, folder: str = "", parents: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths below the root of all files in a folder and its subfolders. Skips links to a parent folder."""
    real = os.path.realpath(root + folder)
    if real in parents:
        return
    folders, files = _entries(root + folder)
    yield from (folder + file for file in files)
    for subfolder in folders:
        yield from walk(root, f"{folder}{subfolder}/", (*parents, real))


def count_suffixes(unread: Counter[str]) -> list[str]:
    """The number of files with each of the most frequent suffixes, as in "38 .txt", and the number of all others."""
    common = unread.most_common()
    frequent = [f"{count} {suffix or 'without a suffix'}" for suffix, count in common[:MAX_SUFFIXES]]
    rest = sum(count for _, count in common[MAX_SUFFIXES:])
    return [*frequent, f"{rest} others"] if rest else frequent


def _list_split(root: str, folder: str, unread: Counter[str], warnings: list[str]) -> SplitPictures:
    """folder: a path below the root that ends with a slash, or "" for the root. Adds to unread and to warnings."""
    folders, files = _entries(root + folder)
    halves = {name.lower(): f"{folder}{name}/" for name in folders if name.lower() in PAIR}
    if len(halves) == 1 and len(folders) == 1:
        missing = PAIR[1] if PAIR[0] in halves else PAIR[0]
        raise InputError(
            f"{root}{folder} holds {folders[0]}/ but no {missing}/: pairs of pictures need both; if {folders[0]} is a "
            "class, rename it"
        )
    loose = separate(files)[0] if folders else []
    if loose:
        raise InputError(
            f"{root}{folder} holds folders ({folders[0]}/) and loose pictures ({loose[0]}): put every picture into a "
            "class folder, or use no class folders"
        )
    if len(halves) == 2:
        others = [f"{folder}{name}/" for name in folders if name.lower() not in PAIR]
        warnings += _unread_folders(root, others, "source/ or target/")
        unread.update(_suffix(file) for file in files)
        return _list_pairs(root, folder, halves["source"], halves["target"], unread)
    class_of: dict[str, str | None] = {f"{folder}{name}/": name for name in folders} or {folder: None}
    split = SplitPictures(folder, [], [] if folders else None)
    for class_folder, name in class_of.items():
        _check_no_splits(root, class_folder)
        pictures, others = separate([folder + file for file in files] if name is None else walk(root, class_folder))
        if not pictures:
            raise InputError(f"{root}{class_folder} holds no pictures: {LAYOUTS}")
        unread.update(others)
        split.files.extend(pictures)
        if split.classes is not None and name is not None:
            split.classes.extend([name] * len(pictures))
    if folders:
        unread.update(_suffix(file) for file in files)
    return split


def _list_pairs(root: str, folder: str, source: str, target: str, unread: Counter[str]) -> SplitPictures:
    """The targets and sources whose paths in the folders `target` and `source` differ only in the suffix."""
    found: dict[str, dict[str, str]] = {}
    for half in (source, target):
        pictures, others = separate(walk(root, half))
        if not pictures:
            raise InputError(f"{root}{half} holds no pictures: {LAYOUTS}")
        unread.update(others)
        found[half] = {}
        for file in pictures:
            other = found[half].setdefault(splitext(file.removeprefix(half))[0], file)
            if other != file:
                raise InputError(f"{root}{other} and {file} differ only in their suffix: remove one of them")
    for half, other, kind in ((source, target, "target"), (target, source, "source")):
        if alone := [file for name, file in found[half].items() if name not in found[other]]:
            raise InputError(
                f"{root}{alone[0]} has no {kind} of this name in {other} ({len(alone)} of {len(found[half])} pictures "
                "have none): add them, or remove these pictures"
            )
    names = sorted(found[target])
    return SplitPictures(
        folder, [found[target][name] for name in names], None, [found[source][name] for name in names], target
    )


def _unread_folders(root: str, folders: list[str], kind: str) -> list[str]:
    counts = {folder: sum(1 for _ in walk(root, folder)) for folder in folders}
    return [f"{folder} is not {kind} and was not read: {count} files" for folder, count in counts.items() if count]


def _check_alike(root: str, has: dict[str, bool], what: str, advice: str) -> None:
    """Raises InputError if only some split folders have something. has: by folder; what, advice: for the message."""
    having, without = ([folder for folder in has if has[folder] == wanted] for wanted in (True, False))
    if having and without:
        raise InputError(f"{root}: {what} are in {_join(having)} but not in {_join(without)}: {advice}")


def _check_pairs(root: str, pictures: dict[str, SplitPictures]) -> None:
    has = {folder: split.sources is not None for folder, split in pictures.items()}
    _check_alike(root, has, "source/ and target/", "put pairs into all splits or into none")


def _check_no_splits(root: str, folder: str) -> None:
    """Raises InputError for a class folder that holds train/ and test/: all its pictures would become one split."""
    inside = [name for name in _entries(root + folder)[0] if name.lower() in SPLITS]
    if len({SPLITS[name.lower()] for name in inside}) > 1:
        raise InputError(
            f"{root}{folder} holds {_join(inside)}, which must be directly in dataset.root: set dataset.root to it"
        )


def _check_classes(root: str, pictures: dict[str, SplitPictures]) -> None:
    has = {folder: split.classes is not None for folder, split in pictures.items()}
    _check_alike(root, has, "class folders", "give class folders to all splits or to none")
    classes = {name for split in pictures.values() for name in split.classes or ()}
    missing = {folder: sorted(classes - set(split.classes or ())) for folder, split in pictures.items()}
    if any(missing.values()):
        details = "; ".join(f"{folder}/ has no {', '.join(names)}" for folder, names in missing.items() if names)
        raise InputError(f"{root}: {_join(pictures)} must hold the same classes: {details}")


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """The sorted names of the folders and of the files in a folder, without hidden ones. A broken link is a file.

    Raises InputError if there is something else, such as a pipe, which nobody may read.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if _leads_nowhere(entry):
                    files.append(entry.name)
                    continue
                if not entry.is_dir():
                    check_regular(entry.path)
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}; get permission there") from error
    return sorted(folders), sorted(files)


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to nothing, or to itself."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def separate(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns the pictures among the files, and the suffixes of the others."""
    known, pictures, others = suffixes(), [], []
    for file in files:
        if (suffix := _suffix(file)) in known:
            pictures.append(file)
        else:
            others.append(suffix)
    return pictures, others


def _suffix(file: str) -> str:
    return splitext(file)[1].lower()


def _join(folders: Iterable[str]) -> str:
    *first, last = [f"{folder}/" for folder in folders]
    return f"{', '.join(first)} and {last}" if first else last
