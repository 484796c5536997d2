"""The layouts of arrays of images, waves and volumes, and their conversion to [N, C, *sides]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from bench.core import Count, InputError

Position = Literal["first", "last"] | None
Shape = Annotated[tuple[Count, ...], Field(min_length=2, max_length=4)] | None
Sides = Literal[1, 2, 3] | None

CHANNELS = (1, 3)  # grey or colour; of waves and volumes the usual numbers, which tell where the channels are


@dataclass(frozen=True)
class Layout:
    """How arrays are stored. All options may be None, unless the shape of an array is ambiguous.

    image: the shape (C, *sides) of an example, needed for rows [N, C * H * W] unless they are square grey images;
    channels: their position, needed if an array fits both; in rows they are first by default; sides: their number, 1
    for waves, 2 for images, 3 for volumes, needed for arrays without channels, except [N, H, W].

    Without options, an array is [N, H, W], [N, C, H, W] or [N, H, W, C] with C 1 or 3, [N, side * side],
    [N, C, D, H, W] or [N, D, H, W, C]. With sides, it is [N, C, *sides], [N, *sides, C] or [N, *sides].
    """

    image: Shape = None
    channels: Position = None
    sides: Sides = None

    def __post_init__(self) -> None:
        if self.image is None:
            return
        if len(self.image) == 3 and self.image[0] not in CHANNELS:
            raise InputError(
                f"dataset.image={list(self.image)} has {self.image[0]} channels: expected 1 (grey) or 3 (colour)"
            )
        if self.sides is not None:
            raise InputError(
                f"dataset.sides={self.sides} has no effect: dataset.image={list(self.image)} has all sides; leave it "
                "out"
            )

    def of(self, name: str, x: np.ndarray, counts: set[int]) -> np.ndarray:
        """The examples as [N, C, *sides]. name: of the array, for messages.

        counts: the lengths of labels and the like, which decide if it is not clear which axis counts the examples.
        Raises InputError for a layout that does not fit or is ambiguous.
        """
        if self.image is not None:
            return _shaped(name, x, self.image, self.channels)
        if self.sides in (1, 3):
            return _with_sides(name, x, self.sides, self.channels)
        if x.ndim == 5:
            return _with_sides(name, x, 3, self.channels)
        if self.sides is None and x.ndim == 3 and x.shape[1] in CHANNELS:
            raise InputError(
                f"{name} has shape {x.shape}, which may be waves [N, C, T] or images [N, H, W]: set dataset.sides=1 or "
                "2"
            )
        images = _images(name, x, self.channels)
        _check_first_axis(name, x.shape, images.shape[1:], counts)
        return images

    def of_source(self, name: str, source: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Sources as [N, C, *sides]. They may have another number of sides than x, the array of their targets.

        The options are those of x, so they apply to sources that are stored like x.
        """
        if self.image is not None and source.shape[1:] == x.shape[1:]:
            return _shaped(name, source, self.image, self.channels)
        if self.sides in (1, 3) and source.ndim == x.ndim:
            return _with_sides(name, source, self.sides, self.channels)
        if source.ndim == 5:
            return _with_sides(name, source, 3, self.channels)
        if source.ndim not in (3, 4):
            raise InputError(f"{name} has shape {source.shape}; expected [N, H, W], [N, C, H, W] or [N, H, W, C]")
        return _images(name, source, self.channels if source.ndim == 4 else None)


def _with_sides(name: str, x: np.ndarray, sides: int, channels: Position) -> np.ndarray:
    """Waves or volumes, whose number of sides is known."""
    named = {1: "T", 3: "D, H, W"}[sides]
    if x.ndim == sides + 1 and channels is None:
        return x[:, np.newaxis]
    if x.ndim != sides + 2:
        raise InputError(
            f"{name} has shape {x.shape}; expected [N, C, {named}] or [N, {named}, C]"
            f"{f', or [N, {named}]' if channels is None else ''} for {sides} sides"
        )
    fits = {"first": x.shape[1] in CHANNELS, "last": x.shape[-1] in CHANNELS}
    if channels is None and (fits["first"] == fits["last"]) and max(x.shape[1:]) > 1:
        raise InputError(
            f"{name} has shape {x.shape}, whose channels may be first or last: set dataset.channels=first or last"
        )
    return np.moveaxis(x, -1, 1) if channels == "last" or (channels is None and not fits["first"]) else x


def _check_first_axis(name: str, shape: tuple[int, ...], image: tuple[int, ...], counts: set[int]) -> None:
    """Raises InputError if another axis seems to count the images, as in [H, W, N] and [D, N].

    image: (C, H, W), if the first axis counts them; counts: of labels and the like, which decide if there are any.
    """
    if len(shape) == 4 and shape[1:] == image:
        return
    axis = min(2, len(shape) - 1)
    if axis == 1:
        doubtful = shape[1] > shape[0] and math.isqrt(shape[0]) ** 2 == shape[0]
    else:
        doubtful = shape[2] != shape[1] and (shape[2] > max(shape[:2]) or shape[0] == shape[1])
    if shape[0] not in counts and (shape[axis] in counts or (doubtful and not counts)):
        raise InputError(
            f"{name} has shape {shape}, which may be {shape[0]} images or {shape[axis]}: set "
            f"dataset.image=[{','.join(map(str, image))}] if there are {shape[0]}; if there are {shape[axis]}, store "
            f"numpy.moveaxis(x, {axis}, 0) instead"
        )


def _images(name: str, x: np.ndarray, channels: Position) -> np.ndarray:
    """The images as [N, C, H, W], of a shape that is not known."""
    if channels is not None and x.ndim != 4:
        raise InputError(f"dataset.channels={channels} has no effect: {name} has shape {x.shape}; leave it out")
    if x.ndim == 2 and (side := math.isqrt(x.shape[1])) ** 2 == x.shape[1]:
        return x.reshape(len(x), 1, side, side)
    if x.ndim == 2 and x.shape[1] % 3 == 0 and (side := math.isqrt(x.shape[1] // 3)) ** 2 * 3 == x.shape[1]:
        raise InputError(
            f"{name} has shape {x.shape}: set dataset.image=[3,{side},{side}] if the rows are colour images, and "
            "dataset.channels=last as well if the three values of each pixel are side by side"
        )
    if x.ndim == 3 and (x.shape[2] == 3 or (x.shape[2] == 4 and x.shape[1] >= 16)):
        raise InputError(
            f"{name} has shape {x.shape}, which may be one colour image or {len(x)} grey ones: store all colour images "
            f"as one array [N, H, W, 3], or set dataset.image=[1,{x.shape[1]},{x.shape[2]}] if they are grey"
        )
    if x.ndim == 3:
        return x[:, np.newaxis]
    if x.ndim == 4:
        fits = {where: x.shape[axis] in CHANNELS for where, axis in (("first", 1), ("last", 3))}
        if channels is None and all(fits.values()) and max(x.shape[1:]) > 1:
            raise InputError(
                f"{name} has shape {x.shape}, whose channels may be first or last: set dataset.channels=first or last"
            )
        if channels is not None and any(fits.values()) and not fits[channels]:
            raise InputError(f"dataset.channels={channels}: {name} has shape {x.shape}; expected 1 or 3 channels there")
        if fits["first"] and channels != "last":
            return x
        if fits["last"]:
            return x.transpose(0, 3, 1, 2)
    raise InputError(
        f"{name} has shape {x.shape}; expected [N, H, W], [N, C, H, W] or [N, H, W, C] with C 1 or 3, or [N, D] with a "
        "square D: for other rows [N, C * H * W] set dataset.image=[C,H,W]; for waves set dataset.sides=1, for volumes "
        "dataset.sides=3; if the last axis counts the images, store numpy.moveaxis(x, -1, 0) instead"
    )


def _shaped(name: str, x: np.ndarray, image: tuple[int, ...], channels: Position) -> np.ndarray:
    """The examples as [N, C, *sides], of a known shape (C, *sides)."""
    colours, *sides = image
    last, named = (*sides, colours), ", ".join(map(str, sides))
    if x.shape[1:] == (math.prod(image),) and (colours > 1 or channels is None):
        return np.moveaxis(x.reshape(-1, *last), -1, 1) if channels == "last" else x.reshape(-1, *image)
    if x.shape[1:] == tuple(sides) and colours == 1 and channels is None:
        return x[:, np.newaxis]
    fits = {"first": x.shape[1:] == image, "last": x.shape[1:] == last}
    if all(fits.values()) and colours > 1 and channels is None:
        raise InputError(
            f"{name} has shape {x.shape}, whose channels may be first or last: set dataset.channels=first or last"
        )
    if fits["first"] and channels != "last":
        return x
    if fits["last"] and channels != "first":
        return np.moveaxis(x, -1, 1)
    raise InputError(
        f"dataset.image={list(image)}{'' if channels is None else f' dataset.channels={channels}'}: {name} has shape "
        f"{x.shape}; expected [N, {', '.join(map(str, image))}], [N, {', '.join(map(str, last))}] or "
        f"[N, {math.prod(image)}]{f', or [N, {named}]' if colours == 1 else ''}"
    )
