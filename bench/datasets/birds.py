"""Synthetic birds with known attributes, and captions that name these attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from bench.data import Split
from bench.datasets import Seed, Source
from bench.datasets.drawing import as_bytes, blend, coordinates, coverage, ellipse, polygon

COLOURS = {
    "red": (215, 40, 40), "orange": (240, 135, 20), "yellow": (245, 225, 60), "green": (60, 200, 80),
    "blue": (40, 70, 225), "purple": (150, 50, 190), "white": (245, 245, 245), "black": (35, 35, 40),
}  # fmt: skip
GROUNDS = {"sky": (165, 205, 235), "grass": (80, 120, 45), "water": (50, 110, 130), "sand": (205, 180, 135)}
SCALES = {"small": 0.66, "medium": 0.83, "large": 1.04}  # image sides; a bird is 0.86 of its scale long
BEAKS = {"short": 0.05, "long": 0.26}  # of the scale
HORN, DARK = np.array([0.98, 0.6, 0.1]), np.array([0.12, 0.1, 0.1])  # of beaks and of eyes
DIRECTIONS = {"left": -1, "right": 1}
# The values of each attribute, in the order of the columns of `attributes`.
ATTRIBUTES = {
    "body": tuple(COLOURS), "wing": tuple(COLOURS), "beak": tuple(BEAKS), "size": tuple(SCALES),
    "facing": tuple(DIRECTIONS), "ground": tuple(GROUNDS),
}  # fmt: skip
# The pairs (body, wing) of colours that only the test set has. Each colour is in one or two of them on either part.
HELD_OUT = tuple((i, (i + 3) % 8) for i in range(8)) + tuple((i, (i + 6) % 8) for i in range(0, 8, 2))
SUBSETS = ("seen", "held_out")

SYNONYMS = {
    "red": "crimson", "orange": "amber", "yellow": "golden", "green": "emerald", "blue": "azure", "purple": "violet",
    "white": "snowy", "black": "inky", "small": "tiny", "medium": "midsized", "large": "big", "short": "stubby",
    "long": "lengthy", "sky": "clouds", "grass": "meadow", "water": "lake", "sand": "beach", "beak": "bill",
    "facing": "looking",
}  # fmt: skip
# Each image has one caption of each template. A word in capitals stands for the value of an attribute.
TEMPLATES = tuple(
    template.split()
    for template in (
        "a SIZE BODY bird with WING wings and a BEAK beak facing FACING against the GROUND",
        "a bird facing FACING its size is SIZE its body BODY its wings WING its beak BEAK against the GROUND",
        "WING wings and a BEAK beak on a SIZE BODY bird facing FACING against the GROUND",
        "against the GROUND a SIZE bird facing FACING with a BODY body and WING wings and a BEAK beak",
        "facing FACING a SIZE bird with a BEAK beak a BODY body and WING wings against the GROUND",
    )
)
WORDS = max(map(len, TEMPLATES))
_ALL = (word for template in TEMPLATES for word in template if word.islower())
VOCABULARY = tuple(
    dict.fromkeys(
        word
        for known in [*_ALL, *(value for values in ATTRIBUTES.values() for value in values)]
        for word in (known, SYNONYMS.get(known, known))
    )
)

CHUNK = 500  # images drawn at once, so that intermediate arrays stay small


def birds(
    size: Annotated[int, Field(ge=16, le=128, strict=True)] = 32,
    examples: Annotated[int, Field(ge=12, le=20_000, strict=True)] = 20_000,
    data_seed: Seed = 0,
) -> Source:
    """x: [N, 3, size, size] uint8; condition: "caption", see `captions_of`; truth: each of ATTRIBUTES, [N] int64.

    Attributes are uniform and independent, except that training images have no pair of HELD_OUT. A fifth of the images
    is the test set, and half of that has pairs of HELD_OUT: the truth "subset" of test images is an index into SUBSETS.
    Their truth "x_again" is a second image for the same captions, [N, 3, size, size] uint8. Judges learn from
    examples / 2 further images, which have all pairs.
    """
    rng = np.random.default_rng(data_seed)
    pairs = np.array([(body, wing) for body in range(len(COLOURS)) for wing in range(len(COLOURS))])
    is_held_out = np.array([tuple(pair) in HELD_OUT for pair in pairs.tolist()])
    subset = np.arange(examples // 5) % len(SUBSETS)
    judged = max(examples // 2, 2)

    def attributes(count: int, pairs: np.ndarray) -> np.ndarray:
        others = [rng.integers(len(values), size=count) for values in list(ATTRIBUTES.values())[2:]]
        return np.column_stack([pairs[rng.integers(len(pairs), size=count)], *others])

    def split(known: np.ndarray, **conditions: np.ndarray) -> Split:
        truth = dict(zip(ATTRIBUTES, known.T, strict=True))
        return Split(draw(known, size, rng), conditions=conditions, truth=truth)

    train = attributes(examples - len(subset), pairs[~is_held_out])
    tests = [attributes(len(subset), pairs[chosen]) for chosen in (~is_held_out, is_held_out)]
    test = np.where(subset[:, np.newaxis] == 1, tests[1], tests[0])
    of_test = split(test, caption=captions_of(test, rng))
    more = {"subset": subset, "x_again": draw(test, size, rng)}
    return Source(
        train=split(train, caption=captions_of(train, rng)),
        test=of_test._replace(truth={**of_test.truth, **more}),
        range=(0, 255),
        vocabulary={**ATTRIBUTES, "subset": SUBSETS, "caption": VOCABULARY},
        judging=split(attributes(judged, pairs)),
    )


def captions_of(attributes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[N, captions, words, V] bool: one-hot words of VOCABULARY, padded with rows that are all false.

    attributes: [N, 6]. Each image has one caption for each of TEMPLATES, with random synonyms.
    """
    number = {word: i for i, word in enumerate(VOCABULARY)}
    synonym = np.array([number[SYNONYMS.get(word, word)] for word in VOCABULARY])
    words = np.full((len(attributes), len(TEMPLATES), WORDS), len(VOCABULARY), np.uint8)  # V: no word
    for i, template in enumerate(TEMPLATES):
        for j, word in enumerate(template):
            if word.islower():
                words[:, i, j] = number[word]
            else:
                values = np.array([number[value] for value in ATTRIBUTES[word.lower()]])
                words[:, i, j] = values[attributes[:, list(ATTRIBUTES).index(word.lower())]]
    chosen = rng.random(words.shape) < 0.5
    words = np.where(chosen, np.append(synonym, len(VOCABULARY))[words], words)
    one_hot = np.eye(len(VOCABULARY) + 1, len(VOCABULARY), dtype=bool)
    return one_hot[words]


def draw(attributes: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The images [N, 3, size, size] uint8 of attributes [N, 6], at random places where the whole bird is visible.

    Scale, tilt and colours vary a little, and each ground has its own random texture.
    """
    parts = [_draw(attributes[start : start + CHUNK], size, rng) for start in range(0, len(attributes), CHUNK)]
    return np.concatenate(parts)


def _draw(attributes: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    n = len(attributes)
    body, wing, beak, scale, facing, ground = attributes.T
    coat, feathers = _shades(COLOURS, body) + _varied(n, rng), _shades(COLOURS, wing) + _varied(n, rng)
    scale = _of(SCALES, scale) * rng.uniform(0.95, 1.05, n)
    length = (_of(BEAKS, beak) * rng.uniform(0.9, 1.1, n))[:, np.newaxis, np.newaxis]
    side, tilt = _of(DIRECTIONS, facing), rng.uniform(-0.15, 0.15, n)
    # The middle of the body. A margin of 0.02 of the image stays around beak and tail, head and belly.
    ahead = 0.02 + 0.34 * scale + (0.96 - 0.86 * scale) * rng.random(n)  # the distance from the edge behind the bird
    down = 0.02 + 0.25 * scale + (0.96 - 0.47 * scale) * rng.random(n)
    image = _ground(ground, size, rng)

    # u: forward, v: downwards, in units of the scale. An image is 2 wide in the coordinates of `coordinates`.
    placement = np.column_stack([side * tilt, np.log(2 * scale), side * (2 * ahead - 1), 2 * down - 1])
    u, v, pixel = coordinates(size, placement)
    u = side[:, np.newaxis, np.newaxis] * u
    shade = (1.05 - 1.1 * v)[:, np.newaxis]  # lighter above, darker below

    def paint(distance: np.ndarray, colour: np.ndarray) -> None:
        blend(image, coverage(distance, pixel), colour)

    tip, tail = 0.235 + length, polygon(u, v, [(-0.1, 0.01), (-0.33, 0.11), (-0.33, -0.09)])
    paint(polygon(u, v, [(0.15, -0.2), (tip, -0.12), (0.15, -0.04)]), HORN)  # the beak
    paint(tail, 0.8 * coat[:, :, 0, 0])
    paint(ellipse(u, v, 0.2, 0.135), coat * shade)
    paint(ellipse(u - 0.17, v + 0.13, 0.09, 0.09), coat * shade)  # the head
    paint(ellipse(u - 0.19, v + 0.15, 0.022, 0.022), DARK)  # the eye
    paint(ellipse(u + 0.05, v + 0.005, 0.145, 0.095), 0.55 * feathers[:, :, 0, 0])  # the outline of the wing
    paint(ellipse(u + 0.05, v + 0.005, 0.12, 0.07), feathers * shade)
    return as_bytes(image)


def _of(values: Mapping[str, float], index: np.ndarray) -> np.ndarray:
    return np.array(list(values.values()))[index]


def _shades(colours: dict[str, tuple[int, int, int]], index: np.ndarray) -> np.ndarray:
    """RGB [n, 3, 1, 1] from 0 to 1."""
    return np.array(list(colours.values()))[index, :, np.newaxis, np.newaxis] / 255


def _varied(n: int, rng: np.random.Generator) -> np.ndarray:
    """Small random changes of colour, [n, 3, 1, 1]."""
    return rng.uniform(-0.12, 0.12, (n, 3, 1, 1))


def _ground(ground: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The background [n, 3, size, size]: the colour of each ground, with its own kind of noise."""
    n, fine = len(ground), 16
    colour = _shades(GROUNDS, ground) + rng.uniform(-0.05, 0.05, (n, 3, 1, 1))
    noise = rng.uniform(-1, 1, (n, fine, fine))
    texture = np.empty((n, size, size))
    for number, (rows, columns) in enumerate(((3, 4), (3, fine), (8, 3), (fine, fine))):
        members = ground == number
        texture[members] = _grid(size, rows) @ noise[members, :rows, :columns] @ _grid(size, columns).T
    return colour + 0.13 * texture[:, np.newaxis]


def _grid(size: int, points: int) -> np.ndarray:
    """[size, points]: linear interpolation from points at equal distances to pixels."""
    place = (np.arange(size) + 0.5) / size * (points - 1)
    return np.maximum(0, 1 - np.abs(place[:, np.newaxis] - np.arange(points)))
