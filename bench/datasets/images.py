"""A folder of pictures, directly or in train/, val/ and test/: class folders, pairs, or pictures alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL

from bench.core import Count, InputError
from bench.data import OnDisk, Split
from bench.datasets import Source, hold_out
from bench.datasets.cache import get_or_build, memory_map
from bench.datasets.decoding import PixelFormat, decode_all, parse_colour
from bench.datasets.folders import LAYOUTS, Listing, count_suffixes, find_pictures
from bench.datasets.ranges import BYTES, UNIT, Range, range_warnings
from bench.datasets.source import limited
from bench.datasets.tables import columns_of, read_rows

VERSION = 2  # of the cached pixels: increase it whenever decoding changes
IN_MEMORY = 2**28  # bytes of decoded pictures that are read into memory; larger sets stay on disk
MAX_DAMAGED = 0.1  # a fraction of the pictures; if more are damaged, the folder itself is broken
MIN_ANNOUNCED = 2000  # pictures; decoding so many takes long enough to announce it


def images(
    root: str | None = None,
    size: Count | tuple[Count, Count] = 32,
    channels: Literal[1, 3] = 3,
    background: str = "black",
    range: Literal["auto"] | tuple[float, float] = "auto",
    limit: Count | None = None,
    groups: str | None = None,
    source_size: Count | tuple[Count, Count] | None = None,
    cache: Path | None = None,
) -> Source:
    """x: [N, channels, height, width] uint8, each picture cropped around its centre and resized (bicubic).

    If there are folders source/ and target/, x are the targets, and the sources are read in the same way at the size
    source_size (None: size). conditions.csv has the conditions; see `read_rows` and `columns_of`.

    size: height and width, or one number for both; background: the colour behind transparent pixels; range: the stored
    values of black and white, by default 0 and the largest value that such a file can hold; limit: the maximum number
    of pictures per class in each split, the first ones by path; groups: a regular expression that is searched in each
    path below root, and whose capture group is the picture's group. Classes are numbered in the order of their names.
    Without test/, a fixed fifth of the training pictures becomes the test set. The decoded pictures are stored in the
    folder `cache` and read from there, or loaded into memory if they are small enough; without a cache they are all in
    memory. Raises InputError for a missing, empty or ambiguous folder and for unreadable pictures; the message gives
    the path.
    """
    if root is None:
        raise InputError(f"dataset.root is not set: {LAYOUTS}")
    if not Path(root).expanduser().is_dir():
        raise InputError(f"dataset.root: {root} is not a folder")
    root = f"{Path(root).expanduser()}/"
    stored_range = None if range == "auto" else (float(range[0]), float(range[1]))
    if stored_range is not None and not -np.inf < stored_range[0] < stored_range[1] < np.inf:
        raise InputError(f"dataset.range={list(stored_range)}: expected two finite numbers, the smaller one first")
    pixel_format = PixelFormat(*_sides(size), channels, parse_colour(background), stored_range)

    listing = find_pictures(root)
    rows, tables = read_rows(root, listing.splits)
    source, files = _plan_splits(root, listing, limit, _group_function(groups))
    sources = dict(
        pair
        for split in listing.splits.values()
        if split.sources
        for pair in zip(split.files, split.sources, strict=True)
    )
    if source_size is not None and not sources:
        raise InputError(f"dataset.source_size has no effect: {root} holds no source/ and target/; leave it out")
    columns, vocabulary = columns_of(list(rows.values())) if rows else ({}, {})
    row_of = {file: i for i, file in enumerate(rows)}
    pictures = {"x": read_pictures(cache, root, files, pixel_format)}
    if sources:
        height, width = _sides(size if source_size is None else source_size)
        small = pixel_format._replace(height=height, width=width)
        pictures["source"] = read_pictures(cache, root, [sources[file] for file in files], small)
        _check_aspects(root, pictures["source"], pictures["x"], small, pixel_format)

    def read(split: Split[Any]) -> Split[Any]:
        undamaged = split.rows(np.all([part.rows[split.x] >= 0 for part in pictures.values()], axis=0))
        at = [row_of[files[i]] for i in undamaged.x] if rows else []
        return undamaged._replace(
            x=pictures["x"].at(undamaged.x),
            source=pictures["source"].at(undamaged.x) if sources else None,
            conditions={name: column[at] for name, column in columns.items()},
        )

    return source._replace(
        train=read(source.train),
        test=read(source.test),
        validation=source.validation and read(source.validation),
        range=BYTES,
        stored_range=tuple(pictures["x"].summary["range"]),
        vocabulary=vocabulary,
        warnings=(
            *source.warnings,
            *_warnings(listing.unread - Counter({".csv": len(tables)}), list(pictures.values()), background),
            *dict.fromkeys(
                line for part in pictures.values() for line in _unused_range_warnings(stored_range, part.summary)
            ),
        ),
    )


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


def _plan_splits(
    root: str, listing: Listing, limit: int | None, group_of: Callable[[str], str] | None
) -> tuple[Source, list[str]]:
    """Returns the splits, with indices into the files as x, and the files."""
    names = sorted({name for split in listing.splits.values() for name in split.classes or ()})
    number = {name: i for i, name in enumerate(names)}
    files: list[str] = []
    splits: dict[str, Split] = {}
    for name, pictures in listing.splits.items():
        label = None if pictures.classes is None else np.array([number[name] for name in pictures.classes])
        group = None if group_of is None else np.array([group_of(file) for file in pictures.files])
        splits[name] = Split(len(files) + np.arange(len(pictures.files)), label, group=group)
        files += pictures.files
    warnings = listing.warnings
    if "test" not in splits:
        held_out = hold_out(splits["train"], root + listing.splits["train"].folder)
        splits |= {"train": held_out.train, "test": held_out.test}
        if listing.has_splits:
            warnings = [*warnings, "there is no test/ folder: a fifth of train/ became the test set"]
    splits = {name: split.rows(np.argsort(split.x)) for name, split in splits.items()}  # sorted by path
    if limit is not None:
        splits = {name: limited(split, limit) for name, split in splits.items()}
    used = np.sort(np.concatenate([split.x for split in splits.values()]))
    # Users look at the first pictures of a split. In the order of the paths they would all be of one class.
    for name in splits.keys() - {"train"}:
        splits[name] = splits[name].rows(np.random.RandomState(0).permutation(len(splits[name].x)))
    splits = {name: split._replace(x=np.searchsorted(used, split.x)) for name, split in splits.items()}
    classes = None if splits["train"].label is None else list(number.values())
    source = Source(splits["train"], splits["test"], splits.get("validation"), classes, warnings=tuple(warnings))
    return source, [files[i] for i in used]


def _group_function(pattern: str | None) -> Callable[[str], str] | None:
    """A function from a path below the root to its group."""
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
        match = compiled.search(file)
        if match is None or match[1] is None:
            raise InputError(f"dataset.groups={pattern} does not match {file}: expected a group for each picture")
        return match[1]

    return group_of


def _cache_key(root: str, files: list[str], pixel_format: PixelFormat) -> str:
    """A hash of everything that determines the decoded pixels and is known without reading the pictures."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([VERSION, PIL.__version__, os.path.realpath(root), pixel_format]).encode())
    for file in files:
        try:
            status = os.stat(root + file)
            stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        except OSError:  # a broken link counts as a damaged picture
            stamp = "missing"
        digest.update(f"\n{file}\0{stamp}".encode(errors="surrogateescape"))
    return digest.hexdigest()


class Pictures(NamedTuple):
    """Decoded files: x [N, C, H, W] and their sizes [N, 2] (height, width), without those that are damaged.

    rows: [files], the row of each file, -1 if it is damaged; summary: the one of `_decode`.
    """

    files: list[str]
    x: np.ndarray | OnDisk
    sizes: np.ndarray
    rows: np.ndarray
    summary: dict[str, Any]

    def at(self, index: np.ndarray) -> np.ndarray | OnDisk:
        """The pictures of the files at index."""
        return Split(self.x).rows(self.rows[index]).x


def read_pictures(cache: Path | None, root: str, files: list[str], pixel_format: PixelFormat) -> Pictures:
    """The decoded files, in memory if they are small enough or if there is no cache."""
    if cache is None:
        with TemporaryDirectory() as temporary:
            return _load_or_decode(Path(temporary) / "images", root, files, pixel_format, max_in_memory=np.inf)
    folder = cache / "images" / _cache_key(root, files, pixel_format)
    return _load_or_decode(folder, root, files, pixel_format, max_in_memory=IN_MEMORY)


def _load_or_decode(
    folder: Path, root: str, files: list[str], pixel_format: PixelFormat, max_in_memory: float
) -> Pictures:
    summary = get_or_build(folder, lambda new_folder: _decode(root, files, pixel_format, new_folder))
    x, sizes = memory_map(folder / "x.npy"), np.load(folder / "sizes.npy")
    rows = np.full(len(files), -1)
    rows[np.delete(np.arange(len(files)), summary["damaged"])] = np.arange(len(x))
    is_small = x.nbytes <= max_in_memory
    stored = np.array(x) if is_small else OnDisk(x, np.array(memory_map(folder / "hashes.npy")))
    return Pictures(files, stored, sizes, rows, summary)


def _check_aspects(root: str, source: Pictures, target: Pictures, *formats: PixelFormat) -> None:
    """Raises InputError if the pictures of a pair are cropped differently, because their aspect ratios differ.

    A difference of less than a pixel of the smaller picture counts as rounding. formats: of sources and targets.
    """
    (height, width), (other_height, other_width) = ((part.height, part.width) for part in formats)
    if height * other_width != width * other_height:
        raise InputError(
            f"dataset.source_size=[{height},{width}] and dataset.size=[{other_height},{other_width}] have different "
            "aspect ratios, so that the pictures of a pair would be cropped differently: make them agree"
        )
    both = np.flatnonzero((source.rows >= 0) & (target.rows >= 0))
    sizes = np.stack([source.sizes[source.rows[both]], target.sizes[target.rows[both]]])  # [2, N, 2]
    (heights, other_heights), (widths, other_widths) = sizes[..., 0], sizes[..., 1]
    differs = np.abs(heights * other_widths - widths * other_heights) >= sizes.max(axis=(0, 2))
    for i in both[differs][:1]:
        one, other = (" x ".join(map(str, part.sizes[part.rows[i]][::-1])) for part in (source, target))
        raise InputError(
            f"{root}{source.files[i]} has {one} pixels and {target.files[i]} {other} ({differs.sum()} of {len(both)} "
            "pairs differ in aspect ratio): expected the same part of the picture in both; crop one of them"
        )


def _decode(root: str, files: list[str], pixel_format: PixelFormat, folder: Path) -> dict[str, Any]:
    """Decodes the files into a folder. Returns the summary of `decode_all` and the range of the stored values."""
    if len(files) >= MIN_ANNOUNCED:
        print(f"decoding {len(files)} pictures of {root}, once", file=sys.stderr, flush=True)
    summary = decode_all(root, files, pixel_format, folder)
    if len(summary["damaged"]) > MAX_DAMAGED * len(files):
        raise InputError(
            f"{len(summary['damaged'])} of {len(files)} pictures in {root} are damaged; the first is "
            f"{files[summary['damaged'][0]]}: {summary['reason']}; get the folder again, or remove them"
        )
    stored_range = pixel_format.range or _find_range(root, summary["extremes"])
    if pixel_format.range is None and stored_range == UNIT and summary["extremes"][0][0] == BYTES[1]:
        summary = decode_all(root, files, pixel_format._replace(range=stored_range), folder)
    return summary | {"range": stored_range}


def _find_range(root: str, extremes: list[tuple[float, float, float]]) -> Range:
    """The stored values of black and white.

    extremes: for each bit depth (white, low, high): the largest value that a file can hold, and the lowest and highest
    value in the pictures. As for arrays, high must be more than half of white.
    """
    if max(high for _, _, high in extremes) == 0:
        raise InputError(f"all pictures in {root} are black; if they are transparent, set dataset.background=white")
    white, low, high = extremes[0]
    if len(extremes) == 1 and white == BYTES[1] and high <= 1:
        return UNIT
    for white, low, high in extremes:
        if white > 1 and high <= white / 2:
            raise InputError(
                f"{root} has pictures with values from {low:g} to {high:g}, in files that can hold {white:g}: set "
                f"dataset.range=[0,{high:g}] if {high:g} is white, or dataset.range=[0,{white:g}] if they are dark"
            )
    return (0.0, float(extremes[0][0])) if len(extremes) == 1 else BYTES


def _unused_range_warnings(stored_range: Range | None, summary: dict[str, Any]) -> list[str]:
    """Warnings about a range that the user set; 8-bit values of the summary are after scaling."""
    if stored_range is None:
        return []
    low, high = stored_range
    scale = (high - low) / BYTES[1]
    stored = [
        low + scale * value if white == BYTES[1] else value
        for white, *extremes in summary["extremes"]
        for value in extremes
    ]
    return range_warnings(min(stored), max(stored), stored_range)


def _warnings(unread: Counter[str], pictures: list[Pictures], background: str) -> list[str]:
    damaged = [(part.files[i], part.summary["reason"]) for part in pictures for i in part.summary["damaged"]]
    counts = count_suffixes(unread)
    if damaged:
        counts.append(f"{len(damaged)} damaged (first: {damaged[0][0]}, {damaged[0][1]})")
    warnings = []
    if counts:
        total = unread.total() + sum(len(part.files) for part in pictures)
        warnings.append(f"{unread.total() + len(damaged)} of {total} files were not read: {', '.join(counts)}")
    if count := sum(part.summary["transparent"] for part in pictures):
        warnings.append(f"{count} pictures are partly transparent: dataset.background={background} is behind them")
    return warnings
