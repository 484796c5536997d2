"""Random misalignment of pictures by known amounts: rotation, scale and shift."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from bench.core import Rate
from bench.datasets.drawing import as_bytes, coordinates, reduced

Rotation = Annotated[float, Field(ge=0, le=90, allow_inf_nan=False)]
Scale = Annotated[float, Field(gt=0, le=1)]


def random_placements(
    count: int, rng: np.random.Generator, rotation: Rotation, scale: Scale, shift: Rate
) -> np.ndarray:
    """Placements [count, 4] float32 as in `bench.datasets.drawing.coordinates`, uniform and independent.

    rotation: at most, in degrees, in either direction; scale: the smallest, the largest is 1; shift: at most, as a
    share of the image's side, in each direction. Yu & Porikli 2017 have 45 degrees, 0.8 and 0.05.
    """
    low = np.array([-rotation, scale, -shift, -shift])
    high = np.array([rotation, 1, shift, shift])
    degrees, size, right, down = (low + (high - low) * rng.random((count, 4))).T
    return np.column_stack([np.deg2rad(degrees), np.log(size), 2 * right, 2 * down]).astype(np.float32)


def truth_of(placement: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """The truth of placements [N, 4] that metrics of alignment need; all float32.

    rotation: [N] degrees, clockwise; scale: [N]; shift: [N, 2], to the right and downwards, in pixels of an image of
    `size` pixels a side.
    """
    return {
        "rotation": np.rad2deg(placement[:, 0]),
        "scale": np.exp(placement[:, 1]),
        "shift": placement[:, 2:] * np.float32(size / 2),
    }


def misaligned(pictures: np.ndarray, placement: np.ndarray, size: int, crop: float = 1.0) -> np.ndarray:
    """Pictures [N, C, H, H] uint8 at placements [N, 4], in [N, C, size, size] uint8; all zero: upright.

    crop: the share of a picture's side, around its centre, that fills an upright image; what lies outside is visible
    when the picture is rotated. Each pixel is the mean over samples, about one for each pixel of the picture. Beyond
    the border, the outermost pixels are repeated.
    """
    height = pictures.shape[2]
    factor = max(1, round(height * crop / size))
    images = np.empty((len(pictures), pictures.shape[1], size, size), np.uint8)
    for row, (picture, place) in enumerate(zip(pictures, placement, strict=True)):
        u, v, _ = coordinates(size * factor, place[np.newaxis])
        across, down = ((crop * w[0] + 1) * height / 2 - 0.5 for w in (u, v))  # in pixels of the picture
        images[row] = as_bytes(reduced(_sampled(picture / 255, across, down)[np.newaxis], factor))[0]
    return images


def _sampled(picture: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """The picture [C, H, H] at places [S, S], interpolated linearly: [C, S, S]."""
    last = picture.shape[1] - 1
    across, down = np.clip(across, 0, last), np.clip(down, 0, last)
    left, top = np.minimum(across.astype(int), last - 1), np.minimum(down.astype(int), last - 1)
    right, low = across - left, down - top
    upper, lower = (picture[:, top + i, left] * (1 - right) + picture[:, top + i, left + 1] * right for i in (0, 1))
    return upper * (1 - low) + lower * low
