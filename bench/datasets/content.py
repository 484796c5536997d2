"""The content of a data set: its fingerprint, and warnings about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from bench.core import InputError
from bench.data import OnDisk, Split
from bench.datasets.ranges import Images, chunks

Hashes = dict[str, dict[str, np.ndarray]]  # [N] `row_hashes`, by field (x and, if there is one, source) and split

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


def fingerprint(splits: dict[str, Split], hashes: Hashes, facts: Mapping[str, object]) -> str:
    """16 hexadecimal digits: a hash of all arrays of all splits, in order, and of the facts.

    splits: as converted by `prepare`, so the fingerprint does not depend on how they were stored; facts: anything else
    that affects how a model is built, trained or evaluated and that neither the splits nor the options contain.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, split in splits.items():
        kind = _kind(split.x)
        parts = {"x": hashes["x"][name].astype("<u8")}
        for field, dtype in (("label", "<i8"), ("factors", "<f4"), ("group", "<i8")):
            if (part := getattr(split, field)) is not None:
                parts[field] = part.astype(dtype)
        if split.source is not None:
            parts[f"source {_kind(split.source)} {tuple(split.source.shape)}"] = hashes["source"][name].astype("<u8")
        for field, arrays in (("conditions", split.conditions), ("truth", split.truth)):
            for key, part in arrays.items():
                dtype = part.dtype.newbyteorder("<")
                parts[f"{field}/{key} {dtype.str}"] = part.astype(dtype, copy=False)
        digest.update(f"{name} {kind} {tuple(split.x.shape)} {[(f, p.shape) for f, p in parts.items()]}".encode())
        for part in parts.values():
            digest.update(np.ascontiguousarray(part).data)
    for name, fact in facts.items():
        digest.update(f"{name} {fact!r}".encode())
    return digest.hexdigest()


def _kind(x: Images) -> str:
    return "uint8" if isinstance(x, OnDisk) else x.dtype.name


def content_warnings(splits: dict[str, Split], hashes: Hashes, classes: int) -> list[str]:
    """One line for each property that makes metrics doubtful.

    Constant images are counted only if they are in memory. Raises InputError if all training images are the same.
    """
    train, test = hashes["x"]["train"], hashes["x"]["test"]
    if len(np.unique(train)) == 1:
        raise InputError("all training images are the same: there is nothing to learn")
    lines = []

    def note(count: int, split: str, text: str) -> None:
        if count:
            lines.append(f"{count} of {len(splits[split].x)} {split} {text}")

    distinct = len(np.unique(test))
    if "source" in hashes:
        pairs = np.unique(np.stack([test, hashes["source"]["test"]]), axis=1).shape[1]
        note(len(test) - pairs, "test", "pairs repeat another test pair")
    else:
        note(len(test) - distinct, "test", "images repeat another test image")
    for field, of in hashes.items():
        kind = "images" if field == "x" else "sources"
        note(int(np.isin(of["test"], of["train"]).sum()), "test", f"{kind} are also training {kind}")
        note(int(np.isin(of["validation"], of["train"]).sum()), "validation", f"{kind} are also training {kind}")
        note(int(np.isin(of["test"], of["validation"]).sum()), "test", f"{kind} are also validation {kind}")
        for name, split in splits.items():
            note(_constant(getattr(split, field)), name, f"{kind} are constant")
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
    return sum(
        int((rows == rows[:, :1]).all(axis=1).sum()) for _, part in chunks(x) for rows in [part.reshape(len(part), -1)]
    )
