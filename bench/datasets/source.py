"""The result of a source function, and how test and validation examples are held out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field

from bench.core import InputError
from bench.data import Split
from bench.datasets import labels as labelling
from bench.datasets.conditions import check_rows

Seed = Annotated[int, Field(ge=0, lt=2**32)]

# The fewest images of each split. A tenth of the training images, at least one, becomes the validation split.
MINIMUM = {"train": 10, "validation": 1, "test": 2}


class Source(NamedTuple):
    """A data set as it was read: numpy arrays, which `prepare` checks and converts.

    x: [N, C, H, W] numbers of any type, or `OnDisk` (uint8, 0 to 255); label: one for each image, of any type, or None;
    source: images like x, of any size and with the range of x; the other fields as in `Split`. Conditions are numbers,
    bool for one-hot rows; vocabulary: the V words for the last axis of a condition [N, ..., V], or for axis 1 of a map
    of classes [N, V, H, W]. If validation is None, `prepare` takes validation images from train.
    """

    train: Split
    test: Split
    validation: Split | None = None
    classes: Sequence[Any] | None = None  # all values that a label may have; None: those of the training images
    range: tuple[float, float] | None = None  # the stored values of black and white; None: `prepare` finds them
    stored_range: tuple[float, float] | None = None  # of the files, where the source has scaled x to 0 to 255 itself
    modes: np.ndarray | None = None  # [M, C, H, W] float32: the centres of the true density's modes, if known
    mode_sigma: float | None = None  # their standard deviation, the same in each dimension
    vocabulary: Mapping[str, Sequence[str]] = {}  # words for the values of conditions and truth, by name
    warnings: tuple[str, ...] = ()  # a line each: what was not read
    # x (uint8, 0 to 255) and truth of examples that only judges learn from, because a judge predicts combinations badly
    # that it has never seen. None: judges learn from the training images.
    judging: Split | None = None
    noise: np.ndarray | None = None  # [noises, samples], of the type and range of x: to add to x in training


def hold_out(whole: Split, place: str = "all", **known: Any) -> Source:
    """Splits a data set without test images. Always the same fifth is for testing: that of `set_apart` with seed 0.

    whole: with labels and groups of any type that `prepare` reads; place: the folder or file that it was read from, for
    messages; known: other fields of the `Source`. Raises InputError if there are too few images.
    """
    count = len(whole.x)
    least = MINIMUM["train"] + MINIMUM["test"]
    if count < least:
        raise InputError(f"there are {count} images in {place}: expected at least {least}")
    check_rows(whole)
    if whole.label is not None:
        whole = whole._replace(label=labelling.flat("y", whole.label, count))
    if whole.group is not None:
        whole = whole._replace(group=labelling.flat("group", whole.group, count))
    train, test = set_apart(count, count // 5, whole.label, whole.group, seed=0)
    return Source(whole.rows(train), whole.rows(test), **known)


def limited(split: Split, limit: int) -> Split:
    """The first `limit` examples of each class, or of the whole split without labels, in order.

    label: [N] integers or strings.
    """
    if split.label is None:
        return split.rows(slice(limit))
    _, numbers, members = np.unique(split.label, return_inverse=True, return_counts=True)
    order = np.argsort(numbers, kind="stable")
    place = np.empty(len(order), int)  # of each example within its class
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(members) - members, members)
    return split.rows(np.flatnonzero(place < limit))


def set_apart(
    count: int, size: int, labels: np.ndarray | None, groups: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits `count` images at random. Returns the shuffled indices of the rest, and those of the `size` set apart.

    They are stratified by labels [N] if there is room for every class. The only example of a class stays in the rest;
    if there is no room, so does one example of each class. With groups [N], whole groups are set apart, with about
    `size` images. Raises InputError if nothing can be set apart.
    """
    from sklearn.model_selection import train_test_split  # slow to import, and not needed by `bench --help`

    if groups is not None:
        return _whole_groups(count, size, labels, groups, seed)
    everything = np.arange(count)
    if labels is None:
        return tuple(train_test_split(everything, test_size=size, random_state=seed))
    _, first, numbers, members = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    free = everything[members[numbers] > 1]
    room = np.sum(members > 1) <= min(size, len(free) - size)
    if not room:
        free = np.setdiff1d(everything, first)
    if len(free) <= size:
        raise InputError(
            f"there are {len(members)} classes in {count} images, too few of each to hold out {size}: add images, "
            "or leave the labels out"
        )
    rest, apart = train_test_split(free, test_size=size, random_state=seed, stratify=labels[free] if room else None)
    return np.concatenate([rest, np.setdiff1d(everything, free)]), apart


def _whole_groups(
    count: int, size: int, labels: np.ndarray | None, groups: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    y = np.zeros(count, int) if labels is None else np.unique(labels, return_inverse=True)[1]
    folds = min(round(count / size), len(np.unique(groups)), int(np.bincount(y).max()))
    if folds < 2:
        raise InputError(
            f"dataset.groups: {count} images of {len(np.unique(groups))} group cannot be split: expected at least "
            "three groups, for training, validation and testing"
        )
    random = np.random.RandomState(seed)
    with warnings.catch_warnings():
        # It has fewer members than there are folds. That does no harm, because only one fold is used.
        warnings.filterwarnings("ignore", "The least populated class")
        splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(y, y, groups))
    for fold in random.permutation(folds):
        rest, apart = splits[fold]
        if len(apart) and len(np.unique(y[rest])) == y.max() + 1:
            return random.permutation(rest), random.permutation(apart)
    raise InputError(
        "dataset.groups: every way to hold out groups leaves a class without training images; add groups of each "
        "class, or leave the labels out"
    )
