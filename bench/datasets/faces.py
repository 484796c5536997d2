"""Synthetic faces with known parameters: an identity, an age, and a placement in the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import Field

from bench.core import Rate
from bench.data import Split
from bench.datasets import Seed, Source
from bench.datasets.drawing import (
    Coordinates,
    as_bytes,
    blend,
    box,
    coordinates,
    coverage,
    ellipse,
    reduced,
    segment,
    stroke,
)
from bench.datasets.misalignment import Rotation, Scale, random_placements, truth_of

# The parameters of an identity, each from 0 to 1.
IDENTITY = (
    *("skin_tone", "skin_warmth", "face_width", "jaw", "eye_spacing", "eye_size", "eye_colour", "eye_height"),
    *("brow_thickness", "brow_tilt", "nose_length", "nose_width", "mouth_width", "lips", "smile"),
    *("hair_colour", "hair_length", "fringe", "clothes", "background", "background_light", "lighting"),
)
BINS = ("0 to 0.2", "0.2 to 0.4", "0.4 to 0.6", "0.6 to 0.8", "0.8 to 1")  # of the age
GREYING = 0.8  # of faces at several ages: entirely grey hair would hide its original colour
SMALL = 32  # smaller images are drawn at a multiple of their size, and averaged down
CHUNK = 8  # images drawn at once, so that intermediate arrays stay in the cache

MIDDLE = 0.06  # how far the centre of the face is below that of the image
FEATURES = 0.65  # the largest distance of eyes, nose, mouth and wrinkles from the middle

SKIN = np.array([[0.99, 0.86, 0.76], [0.92, 0.70, 0.54], [0.66, 0.44, 0.30], [0.34, 0.21, 0.15]])
HAIR = np.array([[0.09, 0.07, 0.07], [0.33, 0.19, 0.10], [0.62, 0.28, 0.12], [0.88, 0.70, 0.36]])
EYES = np.array([[0.25, 0.14, 0.07], [0.45, 0.35, 0.15], [0.25, 0.45, 0.25], [0.25, 0.45, 0.75]])
GREY, WHITE, BLACK = np.array([0.80, 0.80, 0.82]), np.array([0.97, 0.96, 0.95]), np.array([0.08, 0.05, 0.05])
RED = np.array([0.72, 0.22, 0.24])

Size = Annotated[int, Field(ge=8, le=128, strict=True)]
Examples = Annotated[int, Field(ge=15, le=50_000, strict=True)]


def tiny_faces(size: Size = 32, source_size: Size = 16, examples: Examples = 10_000, data_seed: Seed = 0) -> Source:
    """x: [N, 3, size, size] uint8, faces of random identity and age; source: the same faces at source_size.

    The last fifth of them is the test set.
    """
    identity, age, _ = _random_faces(examples, data_seed)
    return _cut(Split(draw(identity, age, size), source=draw(identity, age, source_size)))


def unaligned_faces(
    size: Size = 64,
    source_size: Size = 16,
    rotation: Rotation = 30.0,
    scale: Scale = 0.8,
    shift: Rate = 0.1,
    examples: Examples = 7500,
    data_seed: Seed = 0,
) -> Source:
    """x: [N, 3, size, size] uint8, upright faces; source: the same at source_size, rotated, scaled and shifted.

    rotation, scale and shift: as in `random_placements`. Conditions: placement, for models that are upper bounds. The
    last fifth of the faces is the test set, with the truth of `truth_of`.

    This is the task of Yu & Porikli 2017, who have 45 degrees and a shift of 0.05.
    """
    identity, age, rng = _random_faces(examples, data_seed)
    placement = random_placements(examples, rng, rotation, scale, shift)
    source = draw(identity, age, source_size, placement)
    whole = Split(draw(identity, age, size), source=source, conditions={"placement": placement})
    return _cut(whole, lambda rows: truth_of(placement[rows], size))


def aging_faces(size: Size = 32, examples: Examples = 10_000, data_seed: Seed = 0) -> Source:
    """x: [N, 3, size, size] uint8, each identity at one random age. Conditions: age, [N, 5] bool, one of BINS.

    Truth: age, [N] float32, and identity, [N, 22] float32, both from 0 to 1. The last fifth is the test set. Its truth
    also has aged, [N, 5, 3, size, size] uint8: the same identity at the middle of each bin. Hair loses only GREYING of
    its colour, so that the colour of its youth is visible at any age.
    """
    identity, age, _ = _random_faces(examples, data_seed)
    bins = np.arange(len(BINS))
    condition = np.floor(age * len(BINS))[:, np.newaxis] == bins
    x = draw(identity, age, size, greying=GREYING)
    whole = Split(x, conditions={"age": condition}, truth={"age": age, "identity": identity})

    def aged(rows: slice) -> dict[str, np.ndarray]:
        people = identity[rows]
        middles = np.tile((bins + 0.5) / len(BINS), len(people))
        images = draw(np.repeat(people, len(BINS), 0), middles, size, greying=GREYING)
        return {"aged": images.reshape(len(people), len(BINS), *images.shape[1:])}

    return _cut(whole, aged)._replace(vocabulary={"age": BINS})


def _random_faces(count: int, data_seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Identities [count, 22] and ages [count], float32, uniform and independent; and the generator for later draws."""
    rng = np.random.default_rng(data_seed)
    return rng.random((count, len(IDENTITY)), np.float32), rng.random(count, np.float32), rng


def _cut(whole: Split, truth: Callable[[slice], dict[str, np.ndarray]] = lambda rows: {}) -> Source:
    """The last fifth becomes the test set. truth: returns further truth of the examples in these rows."""
    rows = slice(len(whole.x) - len(whole.x) // 5, None)
    test = whole.rows(rows)
    return Source(whole.rows(slice(rows.start)), test._replace(truth={**test.truth, **truth(rows)}), range=(0, 255))


def draw(
    identity: np.ndarray, age: np.ndarray, size: int, placement: np.ndarray | None = None, greying: float = 1.0
) -> np.ndarray:
    """The images [N, 3, size, size] uint8 of identities [N, 22] and ages [N], each from 0 to 1.

    Age moves the eyes up and makes them smaller, lengthens face and nose, thins the lips, raises the hairline, turns
    the hair grey, and adds wrinkles. placement: [N, 4], as in `bench.datasets.drawing.coordinates`; None: upright in
    the middle. greying: the share of its hair colour that the oldest face has lost.
    """
    factor = -(-SMALL // size)
    images = np.empty((len(identity), 3, size, size), np.uint8)
    for start in range(0, len(identity), CHUNK):
        rows = slice(start, start + CHUNK)
        portrait = _Portrait(identity[rows].astype(np.float64), age[rows].astype(np.float64), greying)
        painted = portrait.painted(coordinates(size * factor, None if placement is None else placement[rows]))
        images[rows] = as_bytes(reduced(painted, factor))
    return images


class _Portrait:
    """The sizes [N, 1, 1] and colours [N, 3] of N faces, and their layers."""

    def __init__(self, identity: np.ndarray, age: np.ndarray, greying: float):
        one = {name: column[:, np.newaxis, np.newaxis] for name, column in zip(IDENTITY, identity.T, strict=True)}
        age = age[:, np.newaxis, np.newaxis]
        grown, old, grey = _step(age / 0.4), _step((age - 0.35) / 0.65), _step((age - 0.4) / 0.55)
        self.one, self.grown, self.old = one, grown, old
        self.light = 2 * one["lighting"] - 1  # from the left or from the right

        self.width, self.height = 0.54 + 0.12 * one["face_width"] - 0.04 * grown, 0.66 + 0.05 * grown
        self.eyes = -0.01 + 0.10 * one["eye_height"] - 0.13 * grown
        self.spacing = 0.20 + 0.08 * one["eye_spacing"]
        self.eye = (0.85 + 0.3 * one["eye_size"]) * (1.35 - 0.35 * grown)
        self.brows = self.eyes - 0.13 - 0.05 * self.eye
        self.nose = 0.08 + 0.08 * one["nose_length"] + 0.05 * grown + 0.02 * old
        self.mouth, self.mouth_width = 0.40 + 0.03 * grown, 0.13 + 0.09 * one["mouth_width"]

        skin = _between(SKIN, one["skin_tone"]) + np.array([0.05, 0, -0.05]) * (one["skin_warmth"][:, 0] - 0.5)
        self.skin = skin + old[:, 0] * (0.03 - 0.06 * skin)
        self.shadow, self.wrinkle = 0.72 * self.skin, 0.45 * self.skin
        hair = _between(HAIR, one["hair_colour"])
        self.hair = hair + greying * grey[:, 0] * (GREY - hair)

    def painted(self, place: Coordinates) -> np.ndarray:
        """The images [N, 3, size, size], approximately in [0, 1]."""
        shape = np.broadcast_shapes(place.u.shape, place.v.shape)[1:]
        images = np.empty((len(self.skin), 3, *shape))
        for layer in (self._background, self._body, self._face):
            layer(images, *place)
        middle, inner = _middle(images, place)
        for layer in (self._eyes, self._nose, self._mouth, self._wrinkles):
            layer(middle, *inner)
        self._hair(images, *place)
        return images

    def _background(self, images: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float | np.ndarray) -> None:
        brightness = 0.25 + 0.5 * self.one["background_light"] + 0.12 * (self.light * u - v)
        images[:] = _shaded(_hue(self.one["background"], 0.3), brightness)

    def _body(self, images: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float | np.ndarray) -> None:
        """The hair behind the head, neck and clothes."""
        length = self.one["hair_length"]
        behind = ellipse(u, v + 0.08, self.width + 0.14, self.height + 0.06)
        fall = box(u, v - 0.20 - 0.35 * length, self.width + 0.10, 0.25 + 0.35 * length, 0.15)
        blend(images, coverage(np.where(length < 0.5, behind, np.minimum(behind, fall)), pixel), 0.8 * self.hair)
        blend(images, coverage(box(u, v - 0.85, 0.22, 0.35), pixel), self.shadow)
        blend(images, coverage(ellipse(u, v - 1.25, 0.85, 0.42), pixel), 0.75 * _hue(self.one["clothes"], 0.7))

    def _face(self, images: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float | np.ndarray) -> None:
        """Ears, and the face, which narrows towards the chin."""
        ears = ellipse(np.abs(u) - self.width, v - self.eyes - 0.1, 0.09, 0.14)
        blend(images, coverage(ears, pixel), self.shadow)
        narrowing = (0.12 + 0.22 * self.one["jaw"]) * np.maximum(v - MIDDLE, 0) / self.height
        face = ellipse(u / (1 - np.minimum(narrowing, 0.5)), v - MIDDLE, self.width, self.height)
        brightness = 1 + 0.22 * self.light * u / self.width - 0.06 * v
        blend(images, coverage(face, pixel), _shaded(self.skin, brightness))

    def _eyes(self, images: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float | np.ndarray) -> None:
        """Cheeks, eyes and brows."""
        mirrored = np.abs(u)
        cheeks = coverage(ellipse(mirrored - 0.30, v - 0.20, 0.13, 0.09), pixel, softness=0.12)
        blend(images, (0.5 - 0.25 * self.grown) * cheeks, 0.6 * self.skin + 0.4 * RED)
        across, down = mirrored - self.spacing, v - self.eyes
        outline = ellipse(across, down, 0.115 * self.eye, (0.066 - 0.014 * self.old) * self.eye)
        white, radius = coverage(outline, pixel), np.hypot(across, down)
        blend(images, white, WHITE)
        blend(images, white * coverage(radius - 0.058 * self.eye, pixel), _between(EYES, self.one["eye_colour"]))
        blend(images, white * coverage(radius - 0.026 * self.eye, pixel), BLACK)
        blend(images, (down < 0) * stroke(np.abs(outline), 0.03, pixel), self.wrinkle)
        tilt = 0.09 * (self.one["brow_tilt"] - 0.5)
        ends = (self.spacing - 0.11, self.brows + tilt), (self.spacing + 0.12, self.brows - tilt + 0.02)
        brow = stroke(segment(mirrored, v, *ends), 0.025 + 0.04 * self.one["brow_thickness"], pixel)
        blend(images, 0.9 * brow, 0.7 * self.hair)

    def _nose(self, images: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float | np.ndarray) -> None:
        """The shadow of the nose's bridge, away from the light, and that of its tip."""
        side = np.where(self.light > 0, -1.0, 1.0)
        bridge = segment(u, v, (0.03 * side, self.eyes + 0.05), (0.05 * side, self.nose))
        blend(images, 0.7 * coverage(bridge - 0.02, pixel, softness=0.04), self.shadow)
        tip = ellipse(u, v - self.nose, 0.06 + 0.05 * self.one["nose_width"], 0.035)
        blend(images, (v > self.nose) * coverage(tip, pixel, softness=0.03), 0.6 * self.skin)

    def _mouth(self, images: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float | np.ndarray) -> None:
        """Lips, bent by the smile, and the line between them."""
        bend = (3 * self.one["smile"] - 1.2) * (u**2 - 0.5 * self.mouth_width**2)
        down = v - self.mouth + bend
        lips = ellipse(u, down, self.mouth_width, (0.035 + 0.045 * self.one["lips"]) * (1 - 0.4 * self.old))
        blend(images, coverage(lips, pixel), 0.45 * self.skin + 0.55 * RED)
        between = coverage(np.abs(u) - 0.95 * self.mouth_width, pixel) * stroke(np.abs(down), 0.022, pixel)
        blend(images, 0.8 * between, 0.4 * RED)

    def _wrinkles(self, images: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float | np.ndarray) -> None:
        """Wrinkles on the forehead, beside and below the eyes, and from the nose to the mouth."""
        mirrored = np.abs(u)
        forehead = coverage(mirrored - 0.30, pixel, softness=0.05)
        for height in (0.10, 0.17, 0.24):
            fold = np.abs(v - self.brows + height - 0.04 * u**2)
            blend(images, self.old * forehead * stroke(fold, 0.02, pixel), self.wrinkle)
        corner = self.spacing + 0.14
        for slope in (-0.05, 0.0, 0.05):
            foot = segment(mirrored, v, (corner, self.eyes + 0.4 * slope), (corner + 0.09, self.eyes + 1.4 * slope))
            blend(images, self.old * stroke(foot, 0.018, pixel), self.wrinkle)
        fold = segment(mirrored, v, (0.12, self.nose), (self.mouth_width + 0.06, self.mouth - 0.02))
        blend(images, 0.8 * self.old * stroke(fold, 0.025, pixel), self.wrinkle)
        down = v - self.eyes - 0.03
        bag = np.abs(ellipse(mirrored - self.spacing, down, 0.12, 0.10))
        blend(images, 0.8 * self.old * (down > 0.02) * stroke(bag, 0.022, pixel), self.shadow)

    def _hair(self, images: np.ndarray, u: np.ndarray, v: np.ndarray, pixel: float | np.ndarray) -> None:
        """The hair on the head, down to the hairline, which is bent by the fringe."""
        head = ellipse(u, v - MIDDLE + 0.03, self.width + 0.05, self.height + 0.04)
        fringe = (0.10 - 0.9 * (u - 0.5 * (self.one["fringe"] - 0.5)) ** 2) * (0.3 + self.one["fringe"])
        below = v + 0.40 + 0.16 * self.old - fringe * (1 - 0.7 * self.old)
        blend(images, coverage(np.maximum(head, below), pixel), _shaded(self.hair, 1 + 0.25 * self.light * u))


def _middle(images: np.ndarray, place: Coordinates) -> tuple[np.ndarray, Coordinates]:
    """A view of the part of upright images with the features of a face; rotated images as a whole."""
    u, v, pixel = place
    if np.ndim(pixel):
        return images, place
    inside = slice(*np.searchsorted(u[0, 0], (-FEATURES, FEATURES)))
    return images[:, :, inside, inside], Coordinates(u[:, :, inside], v[:, inside], pixel)


def _step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and smooth in between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _between(colours: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Colours [N, 3], interpolated in a colour scale [K, 3]. place: [N, 1, 1] from 0 to 1."""
    at = place[:, 0, 0] * (len(colours) - 1)
    return np.stack([np.interp(at, np.arange(len(colours)), channel) for channel in colours.T], 1)


def _hue(hue: np.ndarray, saturation: float) -> np.ndarray:
    """[N, 3], the colour of full value with a hue, [N, 1, 1] from 0 to 1, once around the circle."""
    place = (np.array([5, 3, 1]) + 6 * hue[:, 0]) % 6
    return 1 - saturation * np.clip(np.minimum(place, 4 - place), 0, 1)


def _shaded(colour: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Images [N, 3, size, size]: a colour [N, 3] times a brightness [N, size, size]."""
    return colour[:, :, np.newaxis, np.newaxis] * brightness[:, np.newaxis]
