"""The range of stored values, that is black and white, and their conversion to pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.core import InputError
from bench.data import OnDisk

Images = np.ndarray | OnDisk
Range = tuple[float, float]

UNIT, BYTES = (0.0, 1.0), (0.0, 255.0)
SOUND = (-32768.0, 32768.0)  # of waves of int16, which stay int16: silence is exactly 1/2
ROUNDING = 3e-7  # of float32 in [0, 1]: a value this close to an 8-bit level is taken as that level
AS_STORED = ((BYTES, np.uint8), (SOUND, np.int16))
CHUNK = 2**22  # numbers that are converted at once, so that float64 copies stay small
HALF = 127  # images are read as 8-bit only if a value is above half of that range
DOUBTFUL = 8  # a set range is doubted if the usual one is this many times narrower, a split if it is this much darker


def chunks(x: Images) -> Iterator[tuple[int, np.ndarray]]:
    """Yields consecutive parts of the images, each with the index of its first image."""
    rows = max(1, CHUNK // max(1, int(np.prod(x.shape[1:]))))
    for start in range(0, len(x), rows):
        yield start, np.asarray(x[start : start + rows])


def extremes(x: Images) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest value of each image, [N] float64; nan if an image contains one."""
    axes = tuple(range(1, len(x.shape)))
    ends = [(part.min(axis=axes).astype(np.float64), part.max(axis=axes).astype(np.float64)) for _, part in chunks(x)]
    return np.concatenate([low for low, _ in ends]), np.concatenate([high for _, high in ends])


def grey_levels_of(x: Images, ends: Range) -> int:
    """The number of whole numbers in the range if x holds only whole numbers; otherwise 256."""
    is_float = not isinstance(x, OnDisk) and x.dtype.kind == "f"
    if is_float and any(not np.array_equal(part, np.rint(part)) for _, part in chunks(x)):
        return 256
    steps = ends[1] - ends[0]
    return round(steps) + 1 if steps == round(steps) else 256


def common_range(is_float: bool, low: float, high: float) -> Range | None:
    """The usual range of images with values from low to high; is_float: whether their type is.

    It is [0, 1] if all values lie in it, or [0, 255] if all lie in it and one exceeds 127, or [-1, 1] for floats if all
    lie in it and one is below -0.5. Otherwise the meaning of the values is unknown, and it is None.
    """
    if low >= 0 and high <= 1:
        return UNIT
    if is_float and -1 <= low < -0.5 and high <= 1:
        return -1.0, 1.0
    return BYTES if low >= 0 and HALF < high <= 255 else None


def decide(name: str, is_float: bool, lowest: np.ndarray, highest: np.ndarray) -> Range:
    """The `common_range` of training images. lowest, highest: [N], the extremes of each image.

    Raises InputError if there is none, and if all values are the same.
    """
    low, high = float(lowest.min()), float(highest.max())
    if low == high:
        raise InputError(f"{name} holds the value {low:g} only: there is nothing to learn")
    if (ends := common_range(is_float, low, high)) is not None:
        return ends
    dark = ", or dataset.range=[0,255] for dark 8-bit pictures" if low >= 0 and high <= HALF else ""
    raise InputError(
        f"{name} has values from {low:g} (image {lowest.argmin()}) to {high:g} (image {highest.argmax()}): which "
        f"of them are black and white? Set dataset.range=[{low:g},{high:g}] if these are{dark}; auto reads 0 and 1, "
        "[0, 1], [0, 255] and, for floats, [-1, 1]"
    )


def check_finite(name: str, low: np.ndarray, high: np.ndarray) -> None:
    """Raises InputError if an image holds a value that is not finite. low, high: [N], the extremes of each image."""
    good = np.isfinite(low) & np.isfinite(high)
    if not good.all():
        raise InputError(
            f"{name} has {np.sum(~good)} images with values that are not finite numbers, the first of them image "
            f"{np.argmin(good)}: expected numbers in [0, 1], [0, 255] or dataset.range"
        )


def check_inside(name: str, low: np.ndarray, high: np.ndarray, ends: Range, origin: str) -> None:
    """Raises InputError if an image leaves the range. low, high: [N], extremes of each image; origin: of the range."""
    good = (low >= ends[0]) & (high <= ends[1])
    if not good.all():
        i = int(np.argmin(good))
        raise InputError(
            f"{name} has {np.sum(~good)} images with values that are not in [{ends[0]:g}, {ends[1]:g}], {origin}; "
            f"the first of them is image {i} (from {low[i]:g} to {high[i]:g}): correct them, or set "
            "dataset.range=[low,high]"
        )


def check_not_wider(name: str, is_float: bool, low: float, high: float, ends: Range) -> None:
    """Raises InputError if dataset.range=ends is DOUBTFUL times as wide as the `common_range` of low to high."""
    usual = common_range(is_float, low, high)
    if usual is not None and ends[1] - ends[0] > DOUBTFUL * (usual[1] - usual[0]):
        raise InputError(
            f"dataset.range=[{ends[0]:g},{ends[1]:g}] would remove the contrast of {name}, which has values from "
            f"{low:g} to {high:g}: set dataset.range=[{usual[0]:g},{usual[1]:g}], or leave it at auto"
        )


def range_warnings(low: float, high: float, ends: Range) -> list[str]:
    """A line for each half of the range that training pixels from low to high leave unused."""
    middle = (ends[0] + ends[1]) / 2
    found = {"brightest": (high < middle, high, "white"), "darkest": (low > middle, low, "black")}
    return [
        f"the {which} training pixel is {value:g} of [{ends[0]:g}, {ends[1]:g}]: set dataset.range if that is {colour}"
        for which, (is_unused, value, colour) in found.items()
        if is_unused
    ]


def split_warnings(found: dict[str, tuple[float, float]], ends: Range) -> list[str]:
    """A line for each split that is much darker or brighter than the training split.

    found: the lowest and highest value of x_train, x_test, source_train, ... The brightest pixels of two splits, as
    distances from black, must not differ by a factor of DOUBTFUL, and neither must the darkest pixels, as distances
    from white.
    """
    lines = []
    for name, (low, high) in found.items():
        field, split = name.split("_")
        train_name, kind = f"{field}_train", "" if field == "x" else f"{field} "
        for which, value, train, end in (
            ("brightest", high, found[train_name][1], ends[0]),
            ("darkest", low, found[train_name][0], ends[1]),
        ):
            small, large = sorted((abs(value - end), abs(train - end)))
            if DOUBTFUL * small < large:
                lines.append(
                    f"the {which} {split} {kind}pixel is {value:g}, but the {which} training {kind}pixel is {train:g}: "
                    f"check that {name} and {train_name} are stored in the same range"
                )
    return lines


def check_similar(name: str, low: float, high: float, ends: Range) -> None:
    """Raises InputError if a split with values from low to high seems to be stored in another range."""
    if (ends == BYTES and high <= 1) or (ends[0] < 0 <= low):
        raise InputError(
            f"{name} has values from {low:g} to {high:g}, but the training images have the range [{ends[0]:g}, "
            f"{ends[1]:g}]: store both in one range, or set dataset.range=[low,high] if they already are"
        )


def to_pixels(parts: list[np.ndarray], ends: Range) -> list[np.ndarray]:
    """All splits as uint8 from 0 to 255 if every value is one of these levels, else as float32 in [0, 1].

    int16 with the range SOUND stays as it is.
    """
    if any(ends == known and all(x.dtype == kind for x in parts) for known, kind in AS_STORED):
        return parts
    in_levels: list[np.ndarray] = []
    for x in parts:
        levels = _levels(x, ends)
        if levels is None:
            return [_fractions(x, ends) for x in parts]
        in_levels.append(levels)
    return in_levels


def _levels(x: np.ndarray, ends: Range) -> np.ndarray | None:
    """uint8, or None if a value lies between two levels."""
    x = x.view(np.uint8) if x.dtype == bool else x
    table = _nearest(np.arange(256), ends) if x.dtype == np.uint8 else None  # much faster
    levels = np.empty(x.shape, np.uint8)
    for start, part in chunks(x):
        nearest, exact = _nearest(part, ends) if table is None else (table[0][part], table[1][part])
        if not exact.all():
            return None
        levels[start : start + len(part)] = nearest
    return levels


def _nearest(values: np.ndarray, ends: Range) -> tuple[np.ndarray, np.ndarray]:
    """The nearest level of each value, uint8, and whether the value is equal to it, up to rounding."""
    levels = (values.astype(np.float64) - ends[0]) * (255 / (ends[1] - ends[0]))
    nearest = np.rint(levels).clip(0, 255)
    return nearest.astype(np.uint8), np.abs(levels - nearest) <= 255 * ROUNDING


def _fractions(x: np.ndarray, ends: Range) -> np.ndarray:
    if x.dtype == np.float32 and ends == UNIT:
        return x
    fractions = np.empty(x.shape, np.float32)
    for start, part in chunks(x):
        fractions[start : start + len(part)] = (part.astype(np.float64) - ends[0]) / (ends[1] - ends[0])
    return fractions
