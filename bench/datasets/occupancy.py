"""Voxels as numbers: another resolution, near-duplicates, and the depth image that a camera sees.

Voxels are bool, 1 where they are occupied, and [N, D, H, W] as in `bench.rays`: depth from front to back, rows from top
to bottom, columns from left to right.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from bench.rays import first_hits

DUPLICATE = 0.95  # intersection over union: shapes above it are near-duplicates
ROWS = 256  # shapes compared at once with as many others: only memory depends on it
NEAREST, FARTHEST = 255, 64  # the brightness of the nearest and of the farthest corner of the grid

Azimuth = Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)]
Elevation = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
ViewSize = Annotated[int, Field(ge=8, le=256, strict=True)] | None


def resized(occupied: np.ndarray, size: int) -> np.ndarray:
    """Voxels [N, side, side, side] as [N, size, size, size]. One of side and size must be a multiple of the other.

    A coarser voxel is occupied if any of the voxels in it is: a majority of them would erase legs, which are as thin as
    one voxel.
    """
    side = occupied.shape[1]
    if size == side:
        return occupied
    if size > side:
        assert size % side == 0
        for axis in (1, 2, 3):
            occupied = occupied.repeat(size // side, axis)
        return occupied
    assert side % size == 0
    factor = side // size
    return occupied.reshape(-1, size, factor, size, factor, size, factor).max((2, 4, 6))


def near_duplicates(occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of shapes [N, ...] whose intersection over union is above DUPLICATE: two arrays of indices.

    Such shapes have almost equally many voxels, so only shapes of similar size are compared.
    """
    flat = occupied.reshape(len(occupied), -1)
    voxels = flat.sum(1)
    order = np.argsort(voxels, kind="stable")
    flat, voxels = flat[order], voxels[order]
    ones, others = [], []
    for start in range(0, len(flat), ROWS):
        rows = flat[start : start + ROWS].astype(np.float32)  # exact: counts are below 2^24
        end = np.searchsorted(voxels, voxels[start : start + ROWS][-1] / DUPLICATE, "right")
        for first in range(start, end, ROWS):
            columns = slice(first, min(first + ROWS, end))
            common = rows @ flat[columns].astype(np.float32).T
            union = voxels[start : start + ROWS, np.newaxis] + voxels[columns] - common
            row, column = np.nonzero(common > DUPLICATE * union)
            is_pair = start + row < first + column
            ones.append(order[start + row[is_pair]])
            others.append(order[first + column[is_pair]])
    return np.concatenate(ones), np.concatenate(others)


def depth_views(occupied: np.ndarray, size: int | None, azimuth: float, elevation: float) -> np.ndarray | None:
    """Orthographic depth images [N, 1, size, size] uint8; None without a size.

    azimuth, elevation: degrees, as in `bench.rays.axes`.

    The background is 0. A visible surface is the brighter the nearer it is: linear in its depth, from NEAREST to
    FARTHEST. The whole grid fits into the image, so that all images have the same scale.
    """
    if size is None:
        return None
    depth, _, reach = first_hits(occupied, size, azimuth, elevation)
    is_hit = np.isfinite(depth)
    brightness = NEAREST - (NEAREST - FARTHEST) * np.where(is_hit, depth, 0) / reach
    return np.where(is_hit, np.rint(brightness), 0).astype(np.uint8)[:, np.newaxis]
