"""A folder of pictures: class folders or pictures alone, directly or in train/, val/ and test/."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import PIL

from bench.core import Count, InputError
from bench.data import OnDisk, Split
from bench.datasets import Source, hold_out
from bench.datasets.cache import kept, mapped
from bench.datasets.decoding import Form, colour, decode_all
from bench.datasets.folders import LAYOUTS, Listing, find, kinds
from bench.datasets.ranges import BYTES, UNIT, Range, range_warnings

VERSION = 1  # of what is kept in the cache: raised whenever pictures are decoded otherwise
IN_MEMORY = 2**28  # bytes of decoded pictures that are read into memory; more of them stay on disk
DAMAGED = 0.1  # of the pictures at most; with more of them, the folder itself is broken
NOTICE = 2000  # pictures whose decoding takes long enough to be announced


def images(
    root: str | None = None,
    size: Count | tuple[Count, Count] = 32,
    channels: Literal[1, 3] = 3,
    background: str = "black",
    range: Literal["auto"] | tuple[float, float] = "auto",
    limit: Count | None = None,
    groups: str | None = None,
    cache: Path | None = None,
) -> Source:
    """x: [N, channels, height, width] uint8, each picture cropped around its centre and resized (bicubic).

    size: height and width, or one number for both; background: the colour behind what is transparent; range: the stored
    values that are black and white, by default 0 and the largest that a file of the kind can hold; limit: the most
    pictures of a class in each split, the first ones by path; groups: a regular expression whose capture group names
    what pictures have in common, searched in their paths below root. Classes are numbered in the order of their names.
    Without test/, a fixed fifth of the training pictures becomes the test set. The decoded pictures are kept in the
    folder `cache` and, unless there are few, stay there; without a cache all are in memory. Raises InputError for a
    folder that is missing, empty or ambiguous and for pictures that cannot be read, naming the place.
    """
    if root is None:
        raise InputError(f"dataset.root is not set: {LAYOUTS}")
    if not Path(root).expanduser().is_dir():
        raise InputError(f"dataset.root: {root} is not a folder")
    place = f"{Path(root).expanduser()}/"
    height, width = (size, size) if isinstance(size, int) else size
    ends = None if range == "auto" else (float(range[0]), float(range[1]))
    if ends is not None and not -np.inf < ends[0] < ends[1] < np.inf:
        raise InputError(f"dataset.range={list(ends)}: expected two finite numbers, the smaller one first")
    form = Form(height, width, channels, colour(background), ends)

    listing = find(place)
    source, files = _planned(listing, limit, _grouping(groups))
    if cache is None:
        with TemporaryDirectory() as temporary:
            pixels, answer = _pixels(Path(temporary) / "images", place, files, form, most=np.inf)
    else:
        pixels, answer = _pixels(cache / "images" / _key(place, files, form), place, files, form, most=IN_MEMORY)

    rows = np.full(len(files), -1)  # of the decoded pictures, by the number of the file
    rows[np.delete(np.arange(len(files)), answer["damaged"])] = np.arange(len(pixels))

    def decoded(split: Split[Any]) -> Split[Any]:
        good = split.rows(rows[split.x] >= 0)
        return good._replace(x=Split(pixels).rows(rows[good.x]).x)

    return source._replace(
        train=decoded(source.train),
        test=decoded(source.test),
        validation=source.validation and decoded(source.validation),
        range=BYTES,
        stored_range=tuple(answer["range"]),
        warnings=(*source.warnings, *_warnings(listing, files, answer, background), *_doubts(ends, answer["ends"])),
    )


def _planned(listing: Listing, limit: int | None, group_of: Callable[[str], str] | None) -> tuple[Source, list[str]]:
    """The splits, in which x are numbers of files; and the files."""
    names = sorted({name for split in listing.splits.values() for name in split.classes or ()})
    number = {name: i for i, name in enumerate(names)}
    files: list[str] = []
    splits: dict[str, Split] = {}
    for name, found in listing.splits.items():
        label = None if found.classes is None else np.array([number[name] for name in found.classes])
        group = None if group_of is None else np.array([group_of(file) for file in found.files])
        splits[name] = Split(len(files) + np.arange(len(found.files)), label, group=group)
        files += found.files
    warnings = listing.warnings
    if "test" not in splits:
        held_out = hold_out(splits["train"])
        splits |= {"train": held_out.train, "test": held_out.test}
        if listing.has_splits:
            warnings = [*warnings, "there is no test/ folder: a fifth of train/ became the test set"]
    splits = {name: _first(split, limit) for name, split in splits.items()}
    chosen = np.sort(np.concatenate([split.x for split in splits.values()]))
    # Sorted by class, the first pictures would be all of one kind, and first pictures are what gets looked at.
    for name in splits.keys() - {"train"}:
        splits[name] = splits[name].rows(np.random.RandomState(0).permutation(len(splits[name].x)))
    splits = {name: split._replace(x=np.searchsorted(chosen, split.x)) for name, split in splits.items()}
    classes = None if splits["train"].label is None else list(number.values())
    source = Source(splits["train"], splits["test"], splits.get("validation"), classes, warnings=tuple(warnings))
    return source, [files[i] for i in chosen]


def _first(split: Split, limit: int | None) -> Split:
    """The first `limit` pictures of each class, by their paths."""
    split = split.rows(np.argsort(split.x))
    if limit is None:
        return split
    label = np.zeros(len(split.x), int) if split.label is None else split.label
    first = [np.flatnonzero(label == number)[:limit] for number in np.unique(label)]
    return split.rows(np.sort(np.concatenate(first)))


def _grouping(pattern: str | None) -> Callable[[str], str] | None:
    """What finds the group of a path below the root."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"dataset.groups={pattern} is not a regular expression: {error}") from error
    if compiled.groups != 1:
        raise InputError(
            f"dataset.groups={pattern} has {compiled.groups} capture groups: expected one, as in '/(\\d+)_'"
        )

    def group_of(file: str) -> str:
        found = compiled.search(file)
        if found is None or found[1] is None:
            raise InputError(f"dataset.groups={pattern} does not match {file}: expected a group for each picture")
        return found[1]

    return group_of


def _key(root: str, files: list[str], form: Form) -> str:
    """A hash of all that decides the decoded pixels, as far as it can be known without reading the pictures."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([VERSION, PIL.__version__, os.path.realpath(root), form]).encode())
    for file in files:
        try:
            status = os.stat(root + file)
            stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        except OSError:  # a link to nothing is a damaged picture
            stamp = "missing"
        digest.update(f"\n{file}\0{stamp}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _pixels(
    folder: Path, root: str, files: list[str], form: Form, most: float
) -> tuple[np.ndarray | OnDisk, dict[str, Any]]:
    """The decoded pictures, in memory if they take at most `most` bytes; and what `_decode` returned."""
    answer = kept(folder, lambda new: _decode(root, files, form, new))
    x = mapped(folder / "x.npy")
    if x.nbytes <= most:
        return np.array(x), answer
    return OnDisk(x, np.array(mapped(folder / "hashes.npy"))), answer


def _decode(root: str, files: list[str], form: Form, folder: Path) -> dict[str, Any]:
    """Decodes the files into a folder; what `decode_all` returns, and the range of the stored values."""
    if len(files) >= NOTICE:
        print(f"decoding {len(files)} pictures of {root}, once", file=sys.stderr, flush=True)
    answer = decode_all(root, files, form, folder)
    if len(answer["damaged"]) > DAMAGED * len(files):
        raise InputError(
            f"{len(answer['damaged'])} of {len(files)} pictures in {root} are damaged; the first is "
            f"{files[answer['damaged'][0]]}: {answer['reason']}; get the folder again, or remove them"
        )
    stored = form.range or _stored_range(root, answer["ends"])
    if form.range is None and stored == UNIT and answer["ends"][0][0] == BYTES[1]:
        answer = decode_all(root, files, form._replace(range=stored), folder)
    return answer | {"range": stored}


def _stored_range(root: str, ends: list[tuple[float, float, float]]) -> Range:
    """Black and white of pictures whose stored values reach from low to high, in files that can hold up to white.

    ends: (white, low, high) of each depth. As for arrays, more than half of what a file can hold must be used.
    """
    if max(high for _, _, high in ends) == 0:
        raise InputError(f"all pictures in {root} are black; if they are transparent, set dataset.background=white")
    white, low, high = ends[0]
    if len(ends) == 1 and white == BYTES[1] and high <= 1:
        return UNIT
    for white, low, high in ends:
        if white > 1 and high <= white / 2:
            raise InputError(
                f"{root} has pictures with values from {low:g} to {high:g}, in files that can hold {white:g}: set "
                f"dataset.range=[0,{high:g}] if {high:g} is white, or dataset.range=[0,{white:g}] if they are dark"
            )
    return (0.0, float(ends[0][0])) if len(ends) == 1 else BYTES


def _doubts(ends: Range | None, found: list[tuple[float, float, float]]) -> list[str]:
    """Warnings about the range that is set. found: as `ends` of `decode_all`, where 8-bit values are scaled already."""
    if ends is None:
        return []
    low, high = ends
    scale = (high - low) / BYTES[1]
    stored = [low + scale * value if white == BYTES[1] else value for white, *pair in found for value in pair]
    return range_warnings(min(stored), max(stored), ends)


def _warnings(listing: Listing, files: list[str], answer: dict[str, Any], background: str) -> list[str]:
    damaged = [files[i] for i in answer["damaged"]]
    others = listing.unread.total()
    parts = kinds(listing.unread)
    if damaged:
        parts.append(f"{len(damaged)} damaged (first: {damaged[0]}, {answer['reason']})")
    lines = []
    if parts:
        lines.append(f"{others + len(damaged)} of {others + len(files)} files were not read: {', '.join(parts)}")
    if count := answer["transparent"]:
        lines.append(f"{count} pictures are transparent in part: dataset.background={background} is behind them")
    return lines
