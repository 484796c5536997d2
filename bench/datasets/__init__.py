"""Data sets: a source reads images and labels, `prepare` checks, splits and binarises them, `load` does both."""

from __future__ import annotations

import hashlib
import inspect
import json
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import ConfigDict, Field, ValidationError, validate_call
from torch import Tensor

from bench.core import Count, InputError
from bench.data import Data, Shapes, Split
from bench.draws import Draws

Array = np.ndarray | Tensor
Seed = Annotated[int, Field(ge=0, lt=2**32)]

MIN_TRAIN, MIN_TEST = 10, 2  # images; a tenth of the training images, at least one, is the validation set


class Source(NamedTuple):
    """What a source function returns. x: [N, C, H, W] uint8, or float32 in [0, 1]; y: [N] integers from 0, or None.

    Where the truth is known, factors: [N, F] float32, what each image was made from; modes: [M, C, H, W] float32, the
    centres of the density's modes, and mode_sigma, their standard deviation, the same in each dimension.
    """

    x_train: Array
    y_train: Array | None
    x_test: Array
    y_test: Array | None
    grey_levels: int = 256
    factors_train: Array | None = None
    factors_test: Array | None = None
    modes: Array | None = None
    mode_sigma: float | None = None


def hold_out(x: np.ndarray, y: np.ndarray | None, grey_levels: int = 256, factors: np.ndarray | None = None) -> Source:
    """A fifth of a set that has no test images of its own, the same one always: stratified by label, seed 0.

    x: [N, C, H, W], y: [N] or None, factors: [N, F] or None. Raises InputError if there are too few images.
    """
    if len(x) < MIN_TRAIN + MIN_TEST:
        raise InputError(f"there are {len(x)} images in all: expected at least {MIN_TRAIN + MIN_TEST}")
    train, test = _split(len(x), len(x) // 5, y, seed=0)
    labels = (None, None) if y is None else (y[train], y[test])
    known = (None, None) if factors is None else (factors[train], factors[test])
    return Source(x[train], labels[0], x[test], labels[1], grey_levels, *known)


def prepare(
    source: Source,
    *,
    split_seed: Seed = 0,
    binarize: Literal["none", "static", "dynamic"] = "none",
    dequantize: bool = False,
    validation: Count = 5000,
) -> Data:
    """A checked data set, with min(validation, a tenth of train) training images set apart by split_seed.

    The validation set is stratified by label where every class has two members and there is room for every class.
    binarize="static" draws every pixel of all splits once, as Bernoulli(x) by split_seed. The fingerprint is taken
    before that, so it tells the data and the split apart, and nothing else. Binarised data have no modes: those known
    are of the density before. Raises InputError for images, labels, factors or modes that are not what `Source` says,
    for too few of them, and for options that exclude one another.
    """
    if dequantize and binarize != "none":
        raise InputError(
            f"dataset.dequantize=true and dataset.binarize={binarize} exclude one another: binary pixels have no grey "
            "levels to fill; set one of the two"
        )
    x_train, x_test = np.asarray(source.x_train), np.asarray(source.x_test)
    _check_images("x_train", x_train, MIN_TRAIN)
    _check_images("x_test", x_test, MIN_TEST)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(
            f"x_train has images of shape {x_train.shape[1:]} and x_test of {x_test.shape[1:]} (channels, height, "
            "width): they must agree"
        )
    _check_both("y", "labels", source.y_train, source.y_test)
    _check_both("factors", "factors", source.factors_train, source.factors_test)
    _check_modes(source, x_train.shape[1:])
    if dequantize:
        _check_grid("x_train", x_train, source.grey_levels)
        _check_grid("x_test", x_test, source.grey_levels)
    y_train = _labels("y_train", source.y_train, len(x_train), len(x_train))
    y_test = _labels("y_test", source.y_test, len(x_test), len(x_train))
    factors_train = _factors("factors_train", source.factors_train, len(x_train))
    factors_test = _factors("factors_test", source.factors_test, len(x_test))
    if factors_train is not None and factors_test is not None and factors_train.shape[1] != factors_test.shape[1]:
        raise InputError(
            f"factors_train has {factors_train.shape[1]} factors an image and factors_test {factors_test.shape[1]}: "
            "they must agree"
        )

    kept, apart = _split(len(x_train), min(validation, len(x_train) // 10), y_train, split_seed)
    splits = {
        "train": _as_split(kept, x_train, y_train, factors_train),
        "validation": _as_split(apart, x_train, y_train, factors_train),
        "test": _as_split(np.arange(len(x_test)), x_test, y_test, factors_test),
    }
    fingerprint = _fingerprint(splits)
    if binarize == "static":
        draws = Draws(split_seed, "binarize")
        splits = {name: split._replace(x=_binarized(split.x, draws, name)) for name, split in splits.items()}
    return Data(
        **splits,
        shapes=Shapes(
            image=x_train.shape[1:],
            classes=0 if y_train is None or y_test is None else int(max(y_train.max(), y_test.max())) + 1,
        ),
        grey_levels=source.grey_levels,
        binarize=binarize,
        dequantize=dequantize,
        fingerprint=fingerprint,
        modes=None if source.modes is None or binarize != "none" else torch.as_tensor(source.modes),
        mode_sigma=source.mode_sigma if binarize == "none" else None,
    )


def load(options: dict[str, Any], device: torch.device | str = "cpu") -> Data:
    """The data set that a resolved `conf/dataset` file describes; the same options give the same object again.

    `_target_` is the dotted path of a source function, the keyword arguments of `prepare` go there, and the rest are
    the source's own. Raises InputError for a target that is not there, and for unknown or ill-typed options.
    """
    return _load(json.dumps(options, sort_keys=True), str(device))


@lru_cache(maxsize=4)  # the jobs of a sweep run in one process and mostly ask for the same few sets
def _load(options_json: str, device: str) -> Data:
    options = json.loads(options_json)
    target = options.pop("_target_")
    try:
        read = pkgutil.resolve_name(target)
    except (ImportError, AttributeError) as error:
        raise InputError(f"dataset._target_={target} cannot be imported: {error}") from error
    common = {key: options.pop(key) for key in _keywords(prepare) & options.keys()}
    source = _call(read, **options)
    data = _call(prepare, source=source, **common)
    moved = {name: _to(getattr(data, name), device) for name in ("train", "validation", "test")}
    return replace(data, **moved)


def _keywords(function: Callable) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def _call(function: Callable, **options: Any) -> Any:
    """The function's answer, its options checked against its annotations first."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)
    try:
        return checked(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"dataset.{key}={first['input']}: {first['msg']}") from error


def _to(split: Split, device: str) -> Split:
    return Split(split.x.to(device), *(None if part is None else part.to(device) for part in split[1:]))


def _check_both(name: str, what: str, train: Array | None, test: Array | None) -> None:
    if (train is None) != (test is None):
        given, missing = ("train", "test") if test is None else ("test", "train")
        raise InputError(f"{name}_{given} is there but {name}_{missing} is not: give {what} for both, or for neither")


def _check_images(name: str, x: np.ndarray, minimum: int) -> None:
    if x.dtype not in (np.uint8, np.float32):
        raise InputError(f"{name} has type {x.dtype}: expected uint8, or float32 in [0, 1]")
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise InputError(f"{name} has shape {x.shape}: expected [images, channels, height, width]")
    if len(x) < minimum:
        raise InputError(f"{name} has {len(x)} images: expected at least {minimum}")
    if x.dtype == np.uint8:
        return
    lowest, highest = x.min(axis=(1, 2, 3)), x.max(axis=(1, 2, 3))  # of each image; nan where it holds one
    good = (lowest >= 0) & (highest <= 1)
    if not good.all():
        i = int(np.argmin(good))
        raise InputError(
            f"{name} has {np.sum(~good)} images with values that are not in [0, 1], the first of them image {i} "
            f"(from {lowest[i]:g} to {highest[i]:g}): scale floats to [0, 1], or store grey levels 0 to 255 as uint8"
        )


def _check_grid(name: str, x: np.ndarray, grey_levels: int) -> None:
    values = np.unique(x)
    steps = (values / 255 if x.dtype == np.uint8 else values.astype(np.float64)) * (grey_levels - 1)
    off = np.abs(steps - np.rint(steps)) > 1e-3
    if off.any():
        raise InputError(
            f"dataset.dequantize=true needs pixels on {grey_levels} grey levels, but {name} holds {values[off][0]}: "
            "leave it false for continuous data, or say how many levels there are"
        )


def _labels(name: str, labels: Array | None, count: int, most: int) -> np.ndarray | None:
    if labels is None:
        return None
    y = np.asarray(labels)
    if y.dtype.kind not in "iu":
        raise InputError(f"{name} has type {y.dtype}: expected integer class numbers from 0")
    if y.shape != (count,):
        raise InputError(f"{name} has shape {y.shape}, but there are {count} images: expected one label an image")
    if y.min() < 0 or y.max() >= most:
        raise InputError(
            f"{name} holds labels from {y.min()} to {y.max()}: expected class numbers from 0, fewer than the {most} "
            "training images"
        )
    return y.astype(np.int64)


def _factors(name: str, factors: Array | None, count: int) -> np.ndarray | None:
    if factors is None:
        return None
    known = np.asarray(factors)
    if known.dtype != np.float32:
        raise InputError(f"{name} has type {known.dtype}: expected float32")
    if known.ndim != 2 or len(known) != count or known.shape[1] == 0:
        raise InputError(f"{name} has shape {known.shape}, but there are {count} images: expected [images, factors]")
    if not np.isfinite(known).all():
        raise InputError(f"{name} holds values that are not finite numbers: leave out what is not known")
    return known


def _check_modes(source: Source, image: tuple[int, ...]) -> None:
    modes, sigma = source.modes, source.mode_sigma
    if (modes is None) != (sigma is None):
        raise InputError("modes and mode_sigma belong together: give both, or neither")
    if modes is None or sigma is None:
        return
    centres = np.asarray(modes)
    if centres.dtype != np.float32 or centres.ndim != 4 or centres.shape[1:] != image or len(centres) == 0:
        raise InputError(
            f"modes has type {centres.dtype} and shape {centres.shape}: expected float32 [modes, {str(image)[1:-1]}]"
        )
    if not np.isfinite(centres).all() or not 0 < sigma < np.inf:
        raise InputError(f"modes must be finite, and mode_sigma={sigma} finite and over 0")


def _split(count: int, size: int, labels: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled indices of `count` images: the rest, and the `size` set apart, in every class alike where possible."""
    from sklearn.model_selection import train_test_split  # slow to import, and `bench --help` gets by without

    members = np.empty(0, int) if labels is None else np.unique(labels, return_counts=True)[1]
    room = labels is not None and members.min(initial=2) >= 2 and len(members) <= min(size, count - size)
    return train_test_split(np.arange(count), test_size=size, random_state=seed, stratify=labels if room else None)


def _as_split(index: np.ndarray, x: np.ndarray, *known: np.ndarray | None) -> Split:
    """The rows `index` of images, labels and factors."""
    rest = (None if part is None else torch.from_numpy(part[index]) for part in known)
    return Split(torch.from_numpy(x[index]), *rest)


def _binarized(x: Tensor, draws: Draws, name: str) -> Tensor:
    """uint8, 0 or 255: what `Data.observe` turns into exactly 0 and 1."""
    probability = x.float() / 255 if x.dtype == torch.uint8 else x
    return (draws.uniform(name, x.shape) < probability).to(torch.uint8) * 255


def _fingerprint(splits: dict[str, Split]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, split in splits.items():
        # Factors that are not there leave no trace, so that sets from before there were any keep their fingerprints.
        for part in split if split.factors is not None else split[:2]:
            digest.update(f"{name} {'none' if part is None else (part.dtype, tuple(part.shape))}".encode())
            if part is not None:
                digest.update(np.ascontiguousarray(part.numpy()).data)
    return digest.hexdigest()
