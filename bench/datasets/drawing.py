"""Anti-aliased drawing of batches of images: coordinates, signed distances, and layers of colour.

Coordinates are u to the right and v downwards; the image is [-1, 1] x [-1, 1]. They broadcast to [N, size, size], and
so do all functions of them. Parameters of shapes are numbers or [N, 1, 1]. Everything is in double precision, so that
machines whose sines differ in the last bit give the same grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Numbers = Any  # a number, or an array [N, 1, 1]


class Coordinates(NamedTuple):
    """u, v: the centre of each pixel, [1, 1, size] and [1, size, 1], or [N, size, size] under placements.

    pixel: the side of a pixel in these units, a number or [N, 1, 1].
    """

    u: np.ndarray
    v: np.ndarray
    pixel: Numbers


def coordinates(size: int, placement: np.ndarray | None = None) -> Coordinates:
    """The coordinates of the pixels of an image of size x size pixels, in the frame of what is drawn.

    placement: [N, 4]: rotation (radians, clockwise), log scale, shift to the right and downwards (2 is a whole side).
    The drawing's point p appears at exp(log scale) R(rotation) p + shift. None: its frame is that of the image.
    """
    along = (np.arange(size) + 0.5) * 2 / size - 1
    u, v = along[np.newaxis, np.newaxis, :], along[np.newaxis, :, np.newaxis]
    if placement is None:
        return Coordinates(u, v, 2 / size)
    rotation, log_scale, right, down = placement.T.astype(np.float64)[:, :, np.newaxis, np.newaxis]
    u, v, shrink = u - right, v - down, np.exp(-log_scale)
    cos, sin = np.cos(rotation) * shrink, np.sin(rotation) * shrink
    return Coordinates(u * cos + v * sin, v * cos - u * sin, shrink * 2 / size)


# --- signed distances, negative inside


def ellipse(u: np.ndarray, v: np.ndarray, width: Numbers, height: Numbers) -> np.ndarray:
    """An ellipse around the origin with half axes width and height. Correct to first order, so exact at its outline."""
    radius = np.sqrt((u / width) ** 2 + (v / height) ** 2)
    slope = np.sqrt((u / width**2) ** 2 + (v / height**2) ** 2)
    return radius * (radius - 1) / np.maximum(slope, 1e-9)


def box(u: np.ndarray, v: np.ndarray, width: Numbers, height: Numbers, corner: Numbers = 0.0) -> np.ndarray:
    """A box around the origin with half sides width and height, and corners rounded with a radius."""
    right, down = np.abs(u) - (width - corner), np.abs(v) - (height - corner)
    outside = np.hypot(np.maximum(right, 0), np.maximum(down, 0))
    return outside + np.minimum(np.maximum(right, down), 0) - corner


def segment(u: np.ndarray, v: np.ndarray, start: Sequence[Numbers], end: Sequence[Numbers]) -> np.ndarray:
    """The distance, at least 0, to the line between two points. Subtract a radius for a bar with round ends."""
    right, down = end[0] - start[0], end[1] - start[1]
    u, v = u - start[0], v - start[1]
    along = np.clip((u * right + v * down) / (right**2 + down**2), 0, 1)
    return np.hypot(u - along * right, v - along * down)


def polygon(u: np.ndarray, v: np.ndarray, corners: Sequence[Sequence[Numbers]]) -> np.ndarray:
    """A convex polygon, corners in clockwise order. Beyond a corner: the distance to the farther side's line."""
    sides = []
    for (u0, v0), (u1, v1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        right, down = u1 - u0, v1 - v0
        sides.append(((u - u0) * down - (v - v0) * right) / np.hypot(right, down))
    return np.maximum.reduce(np.broadcast_arrays(*sides))


# --- layers


def coverage(distance: np.ndarray, pixel: Numbers, softness: Numbers = 0.0) -> np.ndarray:
    """The part of each pixel inside a shape, from the signed distance of its centre. softness: of the edge, blurred."""
    return np.clip(0.5 - distance / (pixel + softness), 0, 1)


def stroke(distance: np.ndarray, width: Numbers, pixel: Numbers) -> np.ndarray:
    """The part of each pixel on a line, which may be much thinner than a pixel. distance: to the line's middle."""
    return coverage(distance - width / 2, pixel) - coverage(distance + width / 2, pixel)


def blend(images: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """Blends a colour into images [N, C, size, size], in place, with the opacity cover in [0, 1].

    colour: [C], [N, C], or [N, C, size, size].
    """
    colour = colour if colour.ndim == 4 else np.atleast_2d(colour)[:, :, np.newaxis, np.newaxis]
    images += cover[:, np.newaxis] * (colour - images)


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Values in [0, 1], clipped and rounded to uint8."""
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)


def reduced(images: np.ndarray, factor: int) -> np.ndarray:
    """The mean over blocks of factor x factor pixels: [N, C, H, W] -> [N, C, H / factor, W / factor]."""
    count, channels, height, width = images.shape
    blocks = images.reshape(count, channels, height // factor, factor, width // factor, factor)
    return blocks.mean((3, 5))


# --- texture


def noise(lattice: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth noise [N, size, size]: the values of a lattice [N, K, K], interpolated and periodic."""
    count, cells = len(lattice), lattice.shape[1]
    places = [np.broadcast_to((w + 1) * cells / 2, (count, *np.broadcast_shapes(u.shape, v.shape)[1:])) for w in (v, u)]
    low = [np.floor(place).astype(int) for place in places]
    (row, column), steps = low, [place - floor for place, floor in zip(places, low, strict=True)]
    down, right = (step * step * (3 - 2 * step) for step in steps)  # with slope 0 at the lattice points
    image = np.arange(count)[:, np.newaxis, np.newaxis]

    def value(i: int, j: int) -> np.ndarray:
        return lattice[image, (row + i) % cells, (column + j) % cells]

    upper, lower = (value(i, 0) + right * (value(i, 1) - value(i, 0)) for i in (0, 1))
    return upper + down * (lower - upper)
