"""MNIST and its relatives: four IDX files, images and labels for training and testing."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from pathlib import Path

import numpy as np

from bench.core import InputError
from bench.data import Split
from bench.datasets import Source
from bench.datasets.bounds import check_content, check_regular
from bench.datasets.openml import fetch

TRAIN = 60_000  # OpenML has one table for each data set, with the training images first
UINT8 = 0x08  # the third byte of an IDX file
PARTS = {"train": "train", "test": "(?:t10k|test)"}
KINDS = {"images": 3, "labels": 1}  # the number of dimensions of the arrays


def idx(name: str, openml: str, root: str | None = None, prefix: str | None = None) -> Source:
    """x: [N, 1, H, W] uint8, from `root`, or else $BENCH_DATA/<name>, or else the OpenML data set `openml` (cached).

    The folder holds train-images-idx3-ubyte, train-labels-idx1-ubyte and the same two files for t10k or test, plain or
    as .gz. .idx3-ubyte instead of -idx3-ubyte is accepted, and so is a prefix, as in
    emnist-letters-train-images-idx3-ubyte. prefix: the prefix of the files to read, if the folder holds several data
    sets. Raises InputError that names the file if one is missing, truncated, corrupt, or not what its name says.
    """
    shared = os.environ.get("BENCH_DATA")
    if root is None and not shared:
        if prefix is not None:
            raise InputError(
                f"dataset.prefix={prefix} has no effect without a folder: set dataset.root, or leave it out"
            )
        return _fetch(name, openml)
    folder = Path(root).expanduser() if root is not None else Path(str(shared), name)
    if not folder.is_dir():
        key = "dataset.root" if root is not None else f"$BENCH_DATA/{name}"
        raise InputError(f"{key}: {folder} is not a folder; set dataset.root to the folder with the four IDX files")
    return Source(_read_pair(folder, "train", prefix), _read_pair(folder, "test", prefix))


def _read_pair(folder: Path, part: str, prefix: str | None) -> Split:
    image_file, label_file = (_find(folder, part, kind, prefix) for kind in KINDS)
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels):
        raise InputError(f"{image_file} has {len(images)} images, but {label_file} has {len(labels)} labels")
    return Split(images[:, np.newaxis], labels)


def _find(folder: Path, part: str, kind: str, prefix: str | None) -> Path:
    """The file with the images or labels of a split. A plain file is preferred to its .gz, which some tools keep."""
    ending = f"{kind}-idx{KINDS[kind]}-ubyte"
    begins = "(?:.*[-_])?" if prefix is None else re.escape(prefix.rstrip("-_")) + "[-_]"
    pattern = re.compile(begins + PARTS[part] + "-" + ending.replace("-idx", "[-.]idx") + r"(?:\.gz)?", re.IGNORECASE)
    names = [entry.name for entry in folder.iterdir() if pattern.fullmatch(entry.name) and entry.is_file()]
    found = sorted(name for name in names if name[-3:].lower() != ".gz" or name[:-3] not in names)
    if len(found) > 1:
        raise InputError(
            f"{folder} has {len(found)} files of {part} {kind}, {' and '.join(found)}: set dataset.prefix to the start "
            "of the names of one data set, or keep each data set in its own folder"
        )
    if not found:
        name = f"{'train' if part == 'train' else 't10k'}-{ending}"
        raise InputError(
            f"{folder} has no file {name} or {name}.gz: set dataset.root to a folder with the four IDX files"
        )
    return folder / found[0]


def read_idx(file: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an IDX file: the bytes 0, 0, 8, dimensions; each size as a big-endian uint32; the values.

    Source: the format's description at yann.lecun.com/exdb/mnist. Raises InputError for anything else.
    """
    check_regular(file)
    stored, is_packed = file.stat().st_size, file.suffix.lower() == ".gz"
    try:
        with gzip.open(file) if is_packed else file.open("rb") as opened:
            start = opened.read(4 + 4 * dimensions)
            if start[:4] != bytes([0, 0, UINT8, dimensions]) or len(start) < 4 + 4 * dimensions:
                raise InputError(
                    f"{file} is not an IDX file of bytes with {dimensions} dimensions: it begins with "
                    f"{start[:4].hex() or 'nothing'}, expected 000008{dimensions:02x} and the sizes; get the file again"
                )
            shape = tuple(np.frombuffer(start, ">u4", dimensions, offset=4).tolist())
            raw, held, expected = b"", stored - len(start), math.prod(shape)
            if is_packed or held == expected:
                check_content(f"{file}, whose header says {shape},", expected, stored)
                raw = opened.read(expected + 1)  # one byte more shows whether the file ends there
                held = len(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read: {error}; get the file again") from error
    if held != expected:
        more = " or more" if is_packed and held > expected else ""
        raise InputError(
            f"{file} holds {held} bytes{more}, but its header says {shape}, that is {expected}: it is truncated or "
            "corrupt; get the file again"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _fetch(name: str, openml: str) -> Source:
    data, target = fetch(name, openml, 1, "set dataset.root to a folder with its four IDX files")
    if target is None:
        raise InputError(f"dataset.openml={openml}: it has no labels; choose another data set, or set dataset.root")
    whole = Split(data.reshape(-1, 1, 28, 28), target)
    return Source(whole.rows(slice(TRAIN)), whole.rows(slice(TRAIN, None)))
