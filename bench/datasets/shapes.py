"""Solid shapes of eight classes as voxels, drawn from random numbers, with a depth view of each.

The coordinates of a shape are u to the right, v downwards and w away from the viewer. It lies in the cylinder
u^2 + w^2 <= 1, |v| <= 1, so that it stays there when it turns. A voxel is occupied if its centre is inside the shape.
Parts are so thick that they stay connected at 16 voxels a side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
from pydantic import Field

from bench.data import Split
from bench.datasets import Seed, Source, hold_out
from bench.datasets.occupancy import Azimuth, Elevation, ViewSize, depth_views

Class = Literal["box", "sphere", "cylinder", "cone", "torus", "chair", "table", "lamp"]
CLASSES = get_args(Class)
PARTS = 6  # numbers that decide the proportions and the style of a shape
SMALLEST = 0.7  # of full scale
AT_ONCE = 2**21  # voxels drawn at once, so that intermediate arrays stay small

LEG = 0.13  # half the width: at the smallest scale, and with 16 voxels a side, a leg has a voxel in each row
SLAB = 0.2  # the thickness of seats and the like

Size = Annotated[int, Field(ge=16, le=64, strict=True)]
Yaw = Annotated[float, Field(ge=0, le=180, allow_inf_nan=False)]


def shapes(
    size: Size = 16,
    classes: Annotated[tuple[Class, ...], Field(min_length=1)] | None = None,
    yaw: Yaw = 180.0,
    source_size: ViewSize = 32,
    azimuth: Azimuth = 30.0,
    elevation: Elevation = 20.0,
    examples: Annotated[int, Field(ge=1, le=20_000, strict=True)] = 5000,
    data_seed: Seed = 0,
) -> Source:
    """x: [N, 1, size, size, size] uint8, 0 or 255: depth, rows, columns; label: a number of CLASSES.

    classes: those that are drawn, such as (chair,); None: all. source: [N, 1, source_size, source_size] uint8,
    `depth_views` of x; None: no source. Factors: those of `draw` and, first, the class divided by 7; proportions and
    style are random, too, but no factors. yaw: the largest turn in degrees, in either direction; at 0 all chairs face
    the front. A fixed fifth of the shapes is the test set.
    """
    rng = np.random.default_rng(data_seed)
    drawn = sorted(map(CLASSES.index, classes or CLASSES))
    label = np.array(drawn)[rng.integers(len(drawn), size=examples)]
    factors = rng.random((examples, 5), np.float32)
    voxels = draw(label, factors, rng.random((examples, PARTS), np.float32), size, yaw)
    view = depth_views(voxels, source_size, azimuth, elevation)
    factors = np.column_stack([label / (len(CLASSES) - 1), factors]).astype(np.float32)
    whole = Split(np.uint8(255) * voxels[:, np.newaxis], label, factors, source=view)
    return hold_out(whole, classes=drawn, range=(0, 255))


def draw(label: np.ndarray, factors: np.ndarray, parts: np.ndarray, size: int, yaw: float = 180.0) -> np.ndarray:
    """The voxels [N, size, size, size] bool of shapes: class numbers [N], factors [N, 5] and parts [N, 6] in [0, 1].

    factors: scale, from SMALLEST to 1; turn, from -yaw to yaw degrees, anticlockwise as seen from above; and the place
    to the right, downwards and away, over all places where the cylinder around the shape stays inside.
    """
    voxels = np.empty((len(label), size, size, size), bool)
    kinds: list[Callable[..., np.ndarray]] = [_box, _sphere, _cylinder, _cone, _torus, _chair, _table, _lamp]
    for number, kind in enumerate(kinds):
        (members,) = np.nonzero(label == number)
        chunk = max(1, AT_ONCE // size**3)
        for start in range(0, len(members), chunk):
            rows = members[start : start + chunk]
            # Double precision: the last bit of a machine's cosine must not move a voxel, and so change the fingerprint.
            numbers = parts[rows].T.astype(np.float64)[..., np.newaxis, np.newaxis, np.newaxis]
            voxels[rows] = kind(_coordinates(factors[rows], size, yaw), *numbers)
    return voxels


class Place(NamedTuple):
    """The centres of voxels in the coordinates of a shape: u, w [N, size, 1, size] and v [N, 1, size, 1]."""

    u: np.ndarray
    v: np.ndarray
    w: np.ndarray


def _coordinates(factors: np.ndarray, size: int, yaw: float) -> Place:
    scale, turn, right, down, away = factors.T.astype(np.float64)[..., np.newaxis, np.newaxis, np.newaxis]
    scale = SMALLEST + (1 - SMALLEST) * scale
    along = (np.arange(size) + 0.5) * 2 / size - 1
    u, v, w = along, along[:, np.newaxis], along[:, np.newaxis, np.newaxis]
    u, v, w = ((here - (1 - scale) * (2 * at - 1)) / scale for here, at in ((u, right), (v, down), (w, away)))
    angle = np.deg2rad(yaw) * (2 * turn - 1)
    return Place(u * np.cos(angle) + w * np.sin(angle), v, w * np.cos(angle) - u * np.sin(angle))


# Each shape takes coordinates and PARTS numbers [N, 1, 1, 1] in [0, 1], and returns voxels [N, size, size, size].


def _within(low: np.ndarray | float, here: np.ndarray, high: np.ndarray | float) -> np.ndarray:
    return (low <= here) & (here <= high)


def _box(p: Place, width: np.ndarray, depth: np.ndarray, height: np.ndarray, *_: np.ndarray) -> np.ndarray:
    return _block(p, 0.35 + 0.35 * width, 0.35 + 0.35 * depth, -0.35 - 0.65 * height, 0.35 + 0.65 * height)


def _block(
    p: Place, width: np.ndarray, depth: np.ndarray, top: np.ndarray | float, bottom: np.ndarray | float
) -> np.ndarray:
    """A block around the vertical axis, with half sides width and depth."""
    return (np.abs(p.u) <= width) & (np.abs(p.w) <= depth) & _within(top, p.v, bottom)


def _disc(p: Place, radius: np.ndarray | float, top: np.ndarray | float, bottom: np.ndarray | float) -> np.ndarray:
    """A cylinder around the vertical axis, or with a radius [N, 1, size, 1] a solid of revolution."""
    return (np.hypot(p.u, p.w) <= radius) & _within(top, p.v, bottom)


def _sphere(p: Place, radius: np.ndarray, *_: np.ndarray) -> np.ndarray:
    return p.u**2 + p.v**2 + p.w**2 <= (0.5 + 0.5 * radius) ** 2


def _cylinder(p: Place, radius: np.ndarray, height: np.ndarray, *_: np.ndarray) -> np.ndarray:
    return _disc(p, 0.4 + 0.5 * radius, -0.4 - 0.6 * height, 0.4 + 0.6 * height)


def _cone(p: Place, radius: np.ndarray, height: np.ndarray, *_: np.ndarray) -> np.ndarray:
    """A cone with its tip on top."""
    half = 0.5 + 0.5 * height
    return _disc(p, (0.6 + 0.4 * radius) * (p.v + half) / (2 * half), -half, half)


def _torus(p: Place, tube: np.ndarray, style: np.ndarray, *_: np.ndarray) -> np.ndarray:
    """A ring, lying or standing."""
    lying, standing = np.hypot(np.hypot(p.u, p.w) - 0.65, p.v), np.hypot(np.hypot(p.u, p.v) - 0.65, p.w)
    return np.where(style < 0.5, lying, standing) <= 0.2 + 0.15 * tube


def _legs(p: Place, width: np.ndarray, depth: np.ndarray, top: np.ndarray, style: np.ndarray) -> np.ndarray:
    """Four legs at the corners of a block, or for a large style a column on a foot, from the top down to the floor."""
    corner = (np.abs(np.abs(p.u) - width + LEG) <= LEG) & (np.abs(np.abs(p.w) - depth + LEG) <= LEG)
    column = _disc(p, LEG, top, 1) | _disc(p, 0.9 * np.minimum(width, depth), 1 - SLAB, 1)
    return np.where(style < 0.7, corner & _within(top, p.v, 1), column)


def _chair(
    p: Place,
    width: np.ndarray,
    depth: np.ndarray,
    seat: np.ndarray,
    style: np.ndarray,
    back: np.ndarray,
    arms: np.ndarray,
) -> np.ndarray:
    """A seat on legs, with a back that may have a gap below it, and perhaps with arms."""
    width, depth, seat = 0.45 + 0.2 * width, 0.45 + 0.2 * depth, 0.25 * seat
    rest = np.where(back < 0.5, seat, seat - 0.2 - 0.5 * back)  # where the back ends
    is_back = _within(depth - SLAB, p.w, depth) & (np.abs(p.u) <= width)
    is_post = is_back & (np.abs(p.u) >= width - 2 * LEG)
    is_side = (np.abs(p.u) >= width - 2 * LEG) & (np.abs(p.u) <= width)
    arm = is_side & _within(-depth, p.w, depth) & _within(seat - 0.5, p.v, seat - 0.5 + SLAB)
    support = is_side & _within(-depth, p.w, -depth + 2 * LEG) & _within(seat - 0.5, p.v, seat)
    return (
        _block(p, width, depth, seat, seat + SLAB)
        | _legs(p, width, depth, seat, style)
        | (is_back & _within(-1, p.v, rest))
        | (is_post & _within(-1, p.v, seat))
        | ((arms < 0.4) & (arm | support))
    )


def _table(
    p: Place,
    width: np.ndarray,
    depth: np.ndarray,
    top: np.ndarray,
    style: np.ndarray,
    outline: np.ndarray,
    *_: np.ndarray,
) -> np.ndarray:
    """A rectangular or round top on legs."""
    width, depth, top = 0.5 + 0.2 * width, 0.4 + 0.3 * depth, -0.6 + 0.5 * top
    radius = np.hypot(width, depth)  # the legs are inside
    plate = np.where(outline < 0.6, _block(p, width, depth, top, top + SLAB), _disc(p, radius, top, top + SLAB))
    return plate | _legs(p, width, depth, top, style)


def _lamp(
    p: Place, foot: np.ndarray, shade: np.ndarray, tip: np.ndarray, height: np.ndarray, *_: np.ndarray
) -> np.ndarray:
    """A foot, a pole, and a shade that is narrower at its top."""
    bottom = -0.4 + 0.5 * height  # of the shade
    narrowing = 1 - (0.2 + 0.6 * tip) * (bottom - p.v) / (bottom + 1)
    return (
        _disc(p, 0.4 + 0.3 * foot, 1 - SLAB, 1)
        | _disc(p, LEG, bottom, 1)
        | _disc(p, (0.55 + 0.4 * shade) * narrowing, -1, bottom)
    )
