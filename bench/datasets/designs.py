"""Synthetic designs to recolour: pictures of six roles, each in one colour of a palette, under two palettes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb
from pydantic import Field

from bench.data import Split
from bench.datasets.source import Seed, Source
from bench.parts.colours import rgb_to_lab, with_lightness_of

# The roles in the order of a palette, with the features that identify them independently of their colours.
ROLES = (
    "background",  # one end of a gradient in any direction, grainy
    "far background",  # its other end, smooth
    "shape",  # an ellipse or a rounded rectangle with a shaded side
    "rim",  # around the shape, with a dark outline
    "dots",  # with a highlight
    "band",  # a translucent stripe with ribs
)
PALETTES = ("training palettes", "uniform RGB", "one hue")
CHUNK = 50  # pictures drawn at once, so that intermediate arrays stay in the cache
SHARED = 0.6  # the share of sources with several roles in one colour
DOTS = 6  # at most
EDGE = 3  # pixels, the width of a soft edge


def designs(
    size: Annotated[int, Field(ge=16, le=128, strict=True)] = 32,
    examples: Annotated[int, Field(ge=20, le=40_000, strict=True)] = 10_000,
    palettes: Annotated[int, Field(ge=1, le=8, strict=True)] = 1,
    data_seed: Seed = 0,
) -> Source:
    """source: [N, 3, size, size] uint8, a design; palette: [N, 6, 3], colours in sRGB from 0 to 1, one for each role.

    x is the design in the colours of the palette, but with the lightness of the source: it has a* and b* of the design
    under the palette and L* of the source, with less chroma where sRGB has no such colour. Source and target palettes
    are independent. examples: pairs in total, a fifth of which is the test set; palettes: targets per training source.
    A third each of the test pairs, in turn, has palettes like those of training, of uniform RGB colours and of one hue.
    """
    rng = np.random.default_rng(data_seed)
    kinds, of_kind = len(PALETTES), examples // (5 * len(PALETTES))
    train = _pairs(rng, size, (examples - kinds * of_kind) // palettes, "training palettes", palettes)
    tests = [_pairs(rng, size, of_kind, kind, 1) for kind in PALETTES]
    in_turn = np.arange(kinds * of_kind).reshape(kinds, of_kind).T.ravel()
    test = Split(
        np.concatenate([part.x for part in tests]),
        source=np.concatenate([part.source for part in tests]),
        conditions={"palette": np.concatenate([part.conditions["palette"] for part in tests])},
        truth={"subset": np.repeat(np.arange(kinds), of_kind)},
    ).rows(in_turn)
    if palettes > 1:  # so that no source is in two splits
        number = np.arange(len(train.x)) // palettes
        train, test = train._replace(group=number), test._replace(group=len(number) + in_turn)
    return Source(train, test, range=(0, 255), vocabulary={"subset": PALETTES})


def _pairs(rng: np.random.Generator, size: int, sources: int, kind: str, palettes: int) -> Split:
    """`palettes` successive examples of each source."""
    own = source_palettes(rng, sources)
    draw_palettes = {"training palettes": _harmonies, "uniform RGB": _uniform, "one hue": _one_hue}[kind]
    target = draw_palettes(rng, sources * palettes).reshape(sources, palettes, len(ROLES), 3)
    x = np.empty((sources, palettes, 3, size, size), np.uint8)
    source = np.empty((sources, 3, size, size), np.uint8)
    for start in range(0, sources, CHUNK):
        rows = slice(start, start + CHUNK)
        share, light = draw(rng, len(own[rows]), size)
        source[rows] = np.rint(255 * _picture(share, light, own[rows]))
        for i in range(palettes):
            x[rows, i] = recoloured(source[rows], _picture(share, light, target[rows, i]))
    return Split(
        x.reshape(-1, 3, size, size),
        source=source.repeat(palettes, 0),
        conditions={"palette": target.reshape(-1, len(ROLES), 3).astype(np.float32)},
    )


def source_palettes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Palettes [n, 6, 3] like those of training. In a share SHARED of them, two to four roles have the same colour."""
    palettes = _harmonies(rng, n)
    roles = rng.permuted(np.tile(np.arange(len(ROLES)), (n, 1)), axis=1)
    count = np.where(rng.random(n) < SHARED, rng.integers(2, 5, n), 1)
    for palette, order, first in zip(palettes, roles, count, strict=True):
        palette[order[:first]] = palette[order[0]]
    return palettes


def recoloured(source: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The lightness of source [N, 3, H, W] uint8 with a* and b* of colours [N, 3, H, W] in [0, 1], as uint8.

    Where sRGB has no such colour, the chroma is reduced, so the lightness is exact up to rounding.
    """
    ab = rgb_to_lab(torch.from_numpy(colours))[:, 1:]
    return np.rint(255 * with_lightness_of(torch.from_numpy(source / 255), ab).numpy()).astype(np.uint8)


def _picture(share: np.ndarray, light: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The light times the mixture of the palette's colours, [N, 3, H, W] in [0, 1]; see `draw`."""
    return np.minimum(light[:, np.newaxis] * np.einsum("nrhw,nrc->nchw", share, palette), 1)


def _painted(rng: np.random.Generator, hue: np.ndarray, least_saturation: float) -> np.ndarray:
    """sRGB [..., 3] of hues (in turns), with random brightness and a random saturation of at least least_saturation."""
    return hsv_to_rgb(
        np.stack([hue % 1, rng.uniform(least_saturation, 1, hue.shape), rng.uniform(0.3, 1, hue.shape)], -1)
    )


def _harmonies(rng: np.random.Generator, n: int) -> np.ndarray:
    """Palettes [n, 6, 3] of up to three hues and their neighbours; the hues are a third and half a turn apart."""
    hues = rng.random((n, 1)) + np.array([0, 1 / 3, 1 / 2]) * rng.choice([-1, 1], (n, 1))
    hue = np.take_along_axis(hues, rng.integers(0, 3, (n, len(ROLES))), 1)
    return _painted(rng, hue + rng.normal(0, 0.04, hue.shape), least_saturation=0.2)


def _uniform(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.random((n, len(ROLES), 3))


def _one_hue(rng: np.random.Generator, n: int) -> np.ndarray:
    """Palettes [n, 6, 3] of one hue and its neighbours, from grey to saturated."""
    return _painted(rng, rng.random((n, 1)) + rng.normal(0, 0.1, (n, len(ROLES))), least_saturation=0)


def _ramp(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and smooth in between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def draw(rng: np.random.Generator, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The share of each role in each pixel, [n, 6, size, size], with a sum of 1, and the light, [n, size, size]."""

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (n, 1, 1))

    def turned(angle: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)

    def inside(distance: np.ndarray) -> np.ndarray:
        return _ramp(0.5 - distance * size / EDGE)

    along = (np.arange(size) + 0.5) / size
    x, y = along, along[:, np.newaxis]
    shares, light = np.zeros((n, len(ROLES), size, size)), np.zeros((n, size, size))

    def lay(role: str, share: np.ndarray, own_light: np.ndarray | float) -> None:
        shares[:] *= 1 - share[:, np.newaxis]
        shares[:, ROLES.index(role)] += share
        light[:] += share * (own_light - light)

    across, _ = turned(uniform(0, 2 * np.pi), x - 0.5, y - 0.5)
    far = _ramp(0.5 + uniform(0.8, 1.6) * across + uniform(-0.15, 0.15))
    lay("background", np.ones_like(far), 1 + rng.uniform(-0.15, 0.15, far.shape))
    lay("far background", far, 1)

    across, length = turned(uniform(0, 2 * np.pi), x - 0.5, y - 0.5)
    band = inside(np.abs(across - uniform(-0.3, 0.3)) - uniform(0.06, 0.12))
    lay("band", uniform(0.65, 0.9) * band, 1 + 0.2 * np.sin(2 * np.pi * (uniform(5, 7) * length + uniform(0, 1))))

    u, v = turned(uniform(0, 2 * np.pi), x - uniform(0.3, 0.7), y - uniform(0.3, 0.7))
    a, b, power = uniform(0.16, 0.28), uniform(0.16, 0.28), rng.choice([2.0, 4.0], (n, 1, 1))
    distance = ((np.abs(u / a) ** power + np.abs(v / b) ** power) ** (1 / power) - 1) * np.minimum(a, b)
    outline = distance - uniform(0.05, 0.09)
    lay("rim", inside(outline), 1)
    lay("shape", inside(distance), 1 - 0.4 * _ramp(0.5 + 1.5 * u / a))
    light *= 1 - 0.4 * np.exp(-((outline * size / 1.2) ** 2))

    for _ in range(DOTS):
        right, down, radius = x - uniform(0.05, 0.95), y - uniform(0.05, 0.95), uniform(0.035, 0.08)
        right = right + 9 * (rng.random((n, 1, 1)) < 0.2)  # some lie outside the picture, so the number of dots varies
        spot = ((right + 0.3 * radius) ** 2 + (down + 0.3 * radius) ** 2) / (0.5 * radius) ** 2
        lay("dots", inside(np.hypot(right, down) - radius), 0.85 + 0.3 * np.exp(-spot))

    across, _ = turned(uniform(0, 2 * np.pi), x - 0.5, y - 0.5)
    return shares, light * (0.85 + 0.25 * across)
