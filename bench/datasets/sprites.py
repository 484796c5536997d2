"""Sprites drawn from known factors, after dSprites: one white shape on black, at any scale, angle and place."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from bench.data import Split
from bench.datasets import Seed, Source, hold_out

SHAPES = ("square", "ellipse", "heart")
REACH = 0.25  # image sides from a shape's centre of mass to its farthest point, at full scale
SMALLEST = 0.5  # of full scale
FLAT = 0.5  # the ellipse's short axis divided by its long one
CHUNK = 500  # images drawn at once, so that intermediate arrays stay small

# The heart of Quilez: a square on its corner (0, 0), and half discs of radius sqrt(1/8) on its upper sides. Its centre
# of mass lies at this height, and its farthest point from there is the corner.
HEART = (1 / 4 + (3 / 4 + 1 / (3 * np.pi)) * np.pi / 8) / (1 / 2 + np.pi / 8)


def sprites(
    size: Annotated[int, Field(ge=8, le=128, strict=True)] = 32,
    examples: Annotated[int, Field(ge=1, le=20_000, strict=True)] = 20_000,
    data_seed: Seed = 0,
) -> Source:
    """x: [N, 1, size, size] uint8; label: 0 square, 1 ellipse, 2 heart; a fixed fifth of them is the test set.

    Factors: those that `draw` takes, drawn uniformly and independently by data_seed.

    Source: dSprites (Matthey et al. 2017), which holds the full grid of such factors, at 64x64 pixels.
    """
    rng = np.random.default_rng(data_seed)
    label = rng.integers(len(SHAPES), size=examples)
    factors = np.column_stack([label / (len(SHAPES) - 1), rng.random((examples, 4))]).astype(np.float32)
    return hold_out(Split(draw(factors, size), label, factors), classes=range(len(SHAPES)), range=(0, 255))


def draw(factors: np.ndarray, size: int) -> np.ndarray:
    """The images [N, 1, size, size] uint8 of factors [N, 5] in [0, 1]: shape, scale, angle, x, y.

    shape: 0, 0.5 or 1, as in SHAPES; scale: from half to full; angle: one turn, clockwise; x to the right and y
    downwards: the centre of mass, over all places where the largest shape stays inside. The brightness of a pixel is
    its part inside the shape, from the signed distance of its centre to the outline: the edge is one pixel wide.
    """
    label = np.rint(factors[:, 0] * (len(SHAPES) - 1))
    pixels = np.empty((len(factors), size, size), np.uint8)
    for number, distance in enumerate((_square, _ellipse, _heart)):
        (members,) = np.nonzero(label == number)
        for start in range(0, len(members), CHUNK):
            rows = members[start : start + CHUNK]
            scale = SMALLEST + (1 - SMALLEST) * factors[rows, 1, np.newaxis, np.newaxis].astype(np.float64)
            radius = REACH * scale
            u, v = _own_axes(factors[rows], size)
            coverage = np.clip(0.5 - distance(u / radius, v / radius) * radius * size, 0, 1)
            pixels[rows] = np.rint(255 * coverage)
    return pixels[:, np.newaxis]


def _own_axes(factors: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The offsets of each pixel from the centre along the shape's axes (right, down): [N, size, size] image sides."""
    # Double precision: the last bit of a machine's cosine must not change a grey level, and so the fingerprint.
    angle, *centre = factors[:, 2:, np.newaxis, np.newaxis].swapaxes(0, 1).astype(np.float64)
    along = (np.arange(size) + 0.5) / size
    right, down = (
        place - (REACH + (1 - 2 * REACH) * middle)
        for place, middle in zip((along, along[:, np.newaxis]), centre, strict=True)
    )
    cos, sin = np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)
    return right * cos + down * sin, down * cos - right * sin


# Signed distances, negative inside, of shapes whose farthest point is 1 away; u to the right, v downwards.
# Source: Inigo Quilez, "2D distance functions".


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Exact except beyond a corner: there it is the distance to the line of a side, less than that to the corner."""
    return np.maximum(np.abs(u), np.abs(v)) - np.sqrt(0.5)


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The first-order distance f / |grad f|: exact at the outline, the only place where it matters."""
    level = u**2 + (v / FLAT) ** 2 - 1
    return level / np.maximum(2 * np.hypot(u, v / FLAT**2), 1e-6)


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = np.abs(u) * HEART, HEART - v * HEART
    disc = np.hypot(x - 1 / 4, y - 3 / 4) - np.sqrt(1 / 8)
    foot = np.maximum(x + y, 0) / 2  # of the perpendicular on the lower side, along either axis
    body = np.minimum(np.hypot(x, y - 1), np.hypot(x - foot, y - foot)) * np.sign(x - y)
    return np.where(x + y > 1, disc, body) / HEART
