"""The content of a data set: its fingerprint, and warnings about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from bench.core import InputError
from bench.data import OnDisk, Split
from bench.datasets.ranges import Images, chunks

NEIGHBOURS = 5  # of each test image, in precision, coverage and similar metrics


def row_hashes(x: Images) -> np.ndarray:
    """[N] uint64, a hash of the bytes of each image. Hashes that are stored with images on disk are used."""
    if isinstance(x, OnDisk) and x.hashes is not None:
        return x.hashes
    hashes = np.empty(len(x), np.uint64)
    for start, part in chunks(x):
        rows = np.ascontiguousarray(part).reshape(len(part), -1).view(np.uint8)
        for i, row in enumerate(rows, start):
            hashes[i] = int.from_bytes(hashlib.blake2b(row.data, digest_size=8).digest(), "little")
    return hashes


def fingerprint(splits: dict[str, Split], hashes: dict[str, np.ndarray], facts: Mapping[str, object]) -> str:
    """16 hexadecimal digits: a hash of every pixel, label, factor and group of every split, in order, and of the facts.

    splits: as `prepare` converts them, so that the fingerprint does not depend on how they were stored. facts: what
    else decides how a model is built, trained and evaluated, and follows neither from the splits nor from the options.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, split in splits.items():
        kind = "float32" if split.x.dtype == np.float32 else "uint8"
        parts = {"x": hashes[name].astype("<u8")}
        for field, dtype in (("label", "<i8"), ("factors", "<f4"), ("group", "<i8")):
            if (part := getattr(split, field)) is not None:
                parts[field] = part.astype(dtype)
        digest.update(f"{name} {kind} {tuple(split.x.shape)} {[(f, p.shape) for f, p in parts.items()]}".encode())
        for part in parts.values():
            digest.update(np.ascontiguousarray(part).data)
    for name, fact in facts.items():
        digest.update(f"{name} {fact!r}".encode())
    return digest.hexdigest()


def content_warnings(splits: dict[str, Split], hashes: dict[str, np.ndarray], classes: int) -> list[str]:
    """One line for each property that makes metrics doubtful. hashes: [N] for each split.

    Constant images are counted only if they are in memory. Raises InputError if all training images are the same.
    """
    train, validation, test = (hashes[name] for name in ("train", "validation", "test"))
    if len(np.unique(train)) == 1:
        raise InputError("all training images are the same: there is nothing to learn")
    lines = []

    def note(count: int, split: str, text: str) -> None:
        if count:
            lines.append(f"{count} of {len(splits[split].x)} {split} images {text}")

    distinct = len(np.unique(test))
    note(len(test) - distinct, "test", "repeat another test image")
    note(int(np.isin(test, train).sum()), "test", "are also training images")
    note(int(np.isin(validation, train).sum()), "validation", "are also training images")
    note(int(np.isin(test, validation).sum()), "test", "are also validation images")
    for name, split in splits.items():
        note(_constant(split.x), name, "are constant")
    if distinct <= NEIGHBOURS:
        lines.append(
            f"there are only {distinct} different test images: precision, coverage and similar metrics need more than "
            f"{NEIGHBOURS}"
        )
    if classes == 1:
        lines.append("all labels are the same: metrics that compare classes are meaningless")
    elif classes:
        members = np.bincount(np.asarray(splits["train"].label), minlength=classes)
        for count, text in ((0, "no training images"), (1, "one training image each")):
            if few := int((members == count).sum()):
                lines.append(f"{few} of {classes} classes have {text}")
    return lines


def _constant(x: Images) -> int:
    """The number of images with only one value. An image of one pixel is not counted."""
    if isinstance(x, OnDisk) or np.prod(x.shape[1:]) == 1:
        return 0
    return sum(int((part == part[:, :1, :1, :1]).all(axis=(1, 2, 3)).sum()) for _, part in chunks(x))
