"""A folder of pictures: one folder a class, optionally under train/ and test/; or pictures alone, without labels."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from bench.core import Count, InputError
from bench.data import Split
from bench.datasets import Source, hold_out

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MODES = {1: "L", 3: "RGB"}  # by the number of channels
DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "F"})  # more than 8 bits a channel: pillow would clip them to 255
THREADS = 4  # pillow lets go of the interpreter while it decodes


def images(
    root: str | None = None, size: Count = 32, channels: Literal[1, 3] = 3, limit: Count | None = None
) -> Source:
    """x: [N, channels, size, size] uint8, each picture cropped around its centre to a square and resized (bicubic).

    Classes are numbered in the order of their names, limit is the most pictures of a class (in each of train and
    test, by name), and a folder without train/ and test/ gives a fixed fifth of its pictures for testing. Raises
    InputError for a folder that is missing, empty or mixed, and for a broken picture, naming it.
    """
    if root is None:
        raise InputError(
            "dataset.root is not set: expected a folder of class folders, optionally under train/ and test/"
        )
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise InputError(f"dataset.root: {folder} is not a folder")
    read = partial(_read_all, size=size, channels=channels)
    parts = folder / "train", folder / "test"
    if not all(part.is_dir() for part in parts):
        files, labels, _ = _find(folder, limit)
        return hold_out(Split(read(files), labels), range=(0, 255))

    (train, y_train, names), (test, y_test, test_names) = (_find(part, limit) for part in parts)
    if names != test_names:
        odd = ", ".join(sorted(set(names) ^ set(test_names)))
        raise InputError(f"{folder}: train/ and test/ must hold the same classes; only one of them has: {odd}")
    # Sorted by class, the first pictures would be all of one kind, and first pictures are what gets looked at.
    order = np.random.RandomState(0).permutation(len(test))
    return Source(Split(read(train), y_train), Split(read(test), y_test).rows(order), range=(0, 255))


def _find(folder: Path, limit: int | None) -> tuple[list[Path], np.ndarray | None, list[str]]:
    """Picture files, their labels (None without class folders) and the classes' names, all in sorted order."""
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    loose = _pictures(folder)
    if classes and loose:
        raise InputError(f"{folder} holds folders and loose pictures ({loose[0].name}): put each into a class folder")
    groups = [_pictures(entry)[:limit] for entry in classes or [folder]]
    for entry, group in zip(classes or [folder], groups, strict=True):
        if not group:
            raise InputError(
                f"{entry} holds no pictures: expected class folders of pictures, optionally under both train/ and test/"
            )
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups]) if classes else None
    return [file for group in groups for file in group], labels, [entry.name for entry in classes]


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
    )


def _read_all(files: list[Path], size: int, channels: int) -> np.ndarray:
    with ThreadPoolExecutor(THREADS) as pool:
        pixels = np.stack(list(pool.map(partial(_read, size=size, mode=MODES[channels]), files)))
    return np.ascontiguousarray(pixels.reshape(len(files), size, size, channels).transpose(0, 3, 1, 2))


def _read(file: Path, size: int, mode: str) -> np.ndarray:
    try:
        with Image.open(file) as picture:
            upright = ImageOps.exif_transpose(picture)
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(f"{file} cannot be read as a picture: {error}; replace or remove it") from error
    if upright.mode in DEEP:
        raise InputError(f"{file} has more than 8 bits a channel ({upright.mode}): convert it to 8 bits")
    return np.asarray(ImageOps.fit(upright.convert(mode), (size, size)))
