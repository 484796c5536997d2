"""Orthographic views of voxels: which voxel each pixel shows, how far away it is, and which of its faces.

Voxels are [N, D, H, W]: depth from front to back, rows from top to bottom, columns from left to right, so that a slice
[H, W] is an image of the shape as seen from the front.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

AT_ONCE = 2**24  # voxels looked up at once: only memory depends on it


class Hits(NamedTuple):
    """What the pixels [N, side, side] of a view show.

    depth: float32, in voxels behind the picture's plane, which touches the nearest corner of the grid; inf where
    nothing is hit. face: int8, the axis that the visible face is perpendicular to (0 depth, 1 rows, 2 columns); -1
    where nothing is hit. reach: the depth of the farthest corner of the grid.
    """

    depth: np.ndarray
    face: np.ndarray
    reach: float


class _Rays(NamedTuple):
    """The voxels that each of P rays passes, in order: numbers of voxels [P, K], and the depths and faces of entry."""

    voxel: np.ndarray
    depth: np.ndarray
    face: np.ndarray
    reach: float


def axes(azimuth: float, elevation: float) -> np.ndarray:
    """The directions away from the viewer, downwards and to the right in the picture: rows of [3, 3], orthonormal.

    Their components are along depth, rows and columns of the voxels. azimuth, elevation: degrees by which the viewer is
    to the right of the front, and above it.
    """
    a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
    return np.array(
        [
            [np.cos(e) * np.cos(a), np.sin(e), -np.cos(e) * np.sin(a)],
            [-np.sin(e) * np.cos(a), np.cos(e), np.sin(e) * np.sin(a)],
            [np.sin(a), 0.0, np.cos(a)],
        ]
    )


def first_hits(occupied: np.ndarray, side: int, azimuth: float, elevation: float) -> Hits:
    """What each of side x side pixels shows of voxels [N, D, H, W] bool. The whole grid fits into the picture.

    azimuth, elevation: as in `axes`. Rays go through the centres of pixels and meet every voxel that they pass.
    """
    count, *shape = occupied.shape
    rays = _rays(tuple(shape), side, azimuth, elevation)
    # The last column is the empty space outside the grid.
    flat = np.pad(occupied.reshape(count, int(np.prod(shape))), ((0, 0), (0, 1)))
    pixels = np.arange(side * side)
    depth, face = np.full((count, side * side), np.inf, np.float32), np.full((count, side * side), -1, np.int8)
    block = max(1, AT_ONCE // rays.voxel.size)
    for start in range(0, count, block):
        rows = slice(start, start + block)
        is_hit = flat[rows].take(rays.voxel, axis=1)
        first = is_hit.argmax(2)
        found = is_hit.any(2)
        depth[rows] = np.where(found, rays.depth[pixels, first], np.inf)
        face[rows] = np.where(found, rays.face[pixels, first], -1)
    return Hits(depth.reshape(count, side, side), face.reshape(count, side, side), rays.reach)


@lru_cache(maxsize=8)
def _rays(shape: tuple[int, int, int], side: int, azimuth: float, elevation: float) -> _Rays:
    """The rays through a grid: each enters and leaves voxels where it crosses the planes between them."""
    away, down, right = axes(azimuth, elevation)
    corners = (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5) * shape  # [8, 3], from the centre of the grid
    half = max(np.abs(corners @ down).max(), np.abs(corners @ right).max())
    reach = 2 * np.abs(corners @ away).max()
    along = ((np.arange(side) + 0.5) * 2 / side - 1) * half
    middle = along[:, np.newaxis, np.newaxis] * down + along[:, np.newaxis] * right  # of each ray, [side, side, 3]
    start = middle.reshape(-1, 3) - reach / 2 * away + np.array(shape) / 2

    crossings, faces = [], []
    for axis, size in enumerate(shape):
        if abs(away[axis]) > 1e-9:
            crossings.append((np.arange(size + 1) - start[:, axis, np.newaxis]) / away[axis])
            faces += [axis] * (size + 1)
    depth = np.concatenate(crossings, 1)
    order = depth.argsort(1)
    depth, face = np.take_along_axis(depth, order, 1), np.array(faces, np.int8)[order]
    enter, leave = depth[:, :-1], depth[:, 1:]
    place = np.floor(start[:, np.newaxis] + ((enter + leave) / 2)[..., np.newaxis] * away).astype(int)
    # A ray that meets an edge only touches a voxel there.
    is_inside = (leave - enter > 1e-9) & ((place >= 0) & (place < shape)).all(2)
    voxel = np.where(is_inside, np.ravel_multi_index(tuple(place.transpose(2, 0, 1)), shape, mode="clip"), -1)

    longest = max(1, int(is_inside.sum(1).max()))
    first = np.argsort(~is_inside, axis=1, kind="stable")[:, :longest]  # the voxels inside, still in order
    voxel, enter, face = (np.take_along_axis(part, first, 1) for part in (voxel, enter, face[:, :-1]))
    return _Rays(voxel, enter.astype(np.float32), face, float(reach))
