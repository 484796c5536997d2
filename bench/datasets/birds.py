"""Birds drawn from known attributes, each with captions in words that name the attributes."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from bench.data import Split
from bench.datasets import Seed, Source

COLOURS = {
    "red": (215, 40, 40), "orange": (240, 135, 20), "yellow": (245, 225, 60), "green": (60, 200, 80),
    "blue": (40, 70, 225), "purple": (150, 50, 190), "white": (245, 245, 245), "black": (35, 35, 40),
}  # fmt: skip
GROUNDS = {"sky": (165, 205, 235), "grass": (80, 120, 45), "water": (50, 110, 130), "sand": (205, 180, 135)}
SCALES = {"small": 0.7, "medium": 0.88, "large": 1.1}  # image sides; a bird is 0.8 of its scale long
BEAKS = {"short": 0.05, "long": 0.17}  # of the scale
DIRECTIONS = {"left": -1, "right": 1}
# The values of each attribute, in the order of the columns of `attributes`.
ATTRIBUTES = {
    "body": tuple(COLOURS), "wing": tuple(COLOURS), "beak": tuple(BEAKS), "size": tuple(SCALES),
    "facing": tuple(DIRECTIONS), "ground": tuple(GROUNDS),
}  # fmt: skip
# The pairs (body, wing) of colours that only the test set has: one or two of each colour on either part.
HELD_OUT = tuple((i, (i + 3) % 8) for i in range(8)) + tuple((i, (i + 6) % 8) for i in range(0, 8, 2))
SUBSETS = ("seen", "held_out")

SYNONYMS = {
    "red": "crimson", "orange": "amber", "yellow": "golden", "green": "emerald", "blue": "azure", "purple": "violet",
    "white": "snowy", "black": "inky", "small": "tiny", "medium": "midsized", "large": "big", "short": "stubby",
    "long": "lengthy", "sky": "clouds", "grass": "meadow", "water": "lake", "sand": "beach", "beak": "bill",
    "facing": "looking",
}  # fmt: skip
# One caption of each for an image. A word in capitals is the value of an attribute.
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
    examples: Annotated[int, Field(ge=1, le=20_000, strict=True)] = 20_000,
    data_seed: Seed = 0,
) -> Source:
    """x: [N, 3, size, size] uint8; the condition "caption": see `captions_of`; the truth: each of ATTRIBUTES, [N] int64.

    Attributes are uniform and independent, except that training images have no pair of HELD_OUT. A fifth of the images
    is the test set. Half of it are such pairs: the truth "subset" of the test images is an index into SUBSETS.
    """
    rng = np.random.default_rng(data_seed)
    tests = examples // 5
    subset = np.arange(tests) % len(SUBSETS)
    pairs = np.array([(body, wing) for body in range(len(COLOURS)) for wing in range(len(COLOURS))])
    is_held_out = np.array([tuple(pair) in HELD_OUT for pair in pairs.tolist()])
    seen, held_out = pairs[~is_held_out], pairs[is_held_out]
    pair = seen[rng.integers(len(seen), size=examples)]
    pair[:tests][subset == 1] = held_out[rng.integers(len(held_out), size=int(subset.sum()))]
    others = [rng.integers(len(values), size=examples) for values in list(ATTRIBUTES.values())[2:]]
    attributes = np.column_stack([pair, *others])
    captions = captions_of(attributes, rng)
    x = draw(attributes, size, rng)

    whole = Split(x, conditions={"caption": captions}, truth=dict(zip(ATTRIBUTES, attributes.T, strict=True)))
    test = whole.rows(slice(tests))
    return Source(
        train=whole.rows(slice(tests, None)),
        test=test._replace(truth={**test.truth, "subset": subset}),
        range=(0, 255),
        vocabulary={**ATTRIBUTES, "subset": SUBSETS, "caption": VOCABULARY},
    )


def captions_of(attributes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[N, captions, words, V] bool: one-hot words of VOCABULARY; rows that are all false come after the last word.

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
    pixels = np.empty((len(attributes), 3, size, size), np.uint8)
    for start in range(0, len(attributes), CHUNK):
        rows = slice(start, start + CHUNK)
        pixels[rows] = np.rint(255 * np.clip(_draw(attributes[rows], size, rng), 0, 1))
    return pixels


def _draw(attributes: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    n = len(attributes)
    body, wing, beak, scale, facing, ground = attributes.T
    colours = np.array(list(COLOURS.values())) / 255
    jitter = rng.uniform(-0.12, 0.12, (2, n, 3))
    body_colour, wing_colour = colours[body] + jitter[0], colours[wing] + jitter[1]
    scale = _of(SCALES, scale) * rng.uniform(0.95, 1.05, n)
    length = _of(BEAKS, beak) * rng.uniform(0.9, 1.1, n)
    side = _of(DIRECTIONS, facing)
    tilt = rng.uniform(-0.15, 0.15, n)
    # Where the middle of the body may be: beak and tail reach 0.44 and 0.34 of the scale from there.
    front, back = 0.02 + 0.44 * scale, 0.02 + 0.34 * scale
    along = back + (1 - back - front) * rng.random(n)  # 0 is behind the bird
    across = 0.02 + 0.25 * scale + (0.96 - 0.47 * scale) * rng.random(n)

    image = _ground(ground, size, rng)
    pixel = (np.arange(size) + 0.5) / size
    right = pixel - np.where(side > 0, along, 1 - along)[:, np.newaxis]
    down = pixel - across[:, np.newaxis]
    forward = np.broadcast_to((side[:, np.newaxis] * right)[:, np.newaxis], (n, size, size))
    below = np.broadcast_to(down[:, :, np.newaxis], (n, size, size))
    cos, sin = (f(tilt)[:, np.newaxis, np.newaxis] for f in (np.cos, np.sin))
    # The bird's own axes at scale 1.
    full = scale[:, np.newaxis, np.newaxis]
    u, v = (forward * cos + below * sin) / full, (below * cos - forward * sin) / full

    def paint(distance: np.ndarray, colour: np.ndarray) -> None:
        nonlocal image
        cover = np.clip(0.5 - distance * full * size, 0, 1)[:, np.newaxis]
        image = image + cover * (colour - image)

    shade = (1.05 - 1.1 * v)[:, np.newaxis]  # lighter above, darker below
    coat, feathers = (colour[:, :, np.newaxis, np.newaxis] for colour in (body_colour, wing_colour))
    tip = 0.235 + length[:, np.newaxis, np.newaxis]
    paint(_wedge(u, v + 0.125, tip, 0.15, 0.065), np.array([0.12, 0.1, 0.1])[:, np.newaxis, np.newaxis])
    paint(_wedge(-u, v - 0.01, 0.1, 0.33, 0.1), 0.8 * coat)
    paint(_ellipse(u, v, 0.2, 0.135), coat * shade)
    paint(_ellipse(u - 0.17, v + 0.13, 0.09, 0.09), coat * shade)
    paint(_ellipse(u - 0.19, v + 0.15, 0.022, 0.022), np.array([0.05, 0.05, 0.05])[:, np.newaxis, np.newaxis])
    paint(_ellipse(u + 0.05, v + 0.005, 0.145, 0.095), 0.55 * feathers)  # the outline of the wing
    paint(_ellipse(u + 0.05, v + 0.005, 0.12, 0.07), feathers * shade)
    return image


def _of(values: dict[str, float], index: np.ndarray) -> np.ndarray:
    return np.array(list(values.values()))[index]


def _ellipse(u: np.ndarray, v: np.ndarray, a: float, b: float) -> np.ndarray:
    """The first-order signed distance to an ellipse with half axes a and b."""
    level = (u / a) ** 2 + (v / b) ** 2 - 1
    return level / np.maximum(2 * np.hypot(u / a**2, v / b**2), 1e-6)


def _wedge(u: np.ndarray, v: np.ndarray, tip: np.ndarray | float, base: float, half: float) -> np.ndarray:
    """The signed distance to a wedge between u = tip, where it ends in a point, and its base of +-half."""
    slope = half / (base - tip)  # of the upper edge, as a half width over u
    edge = (np.abs(v) - slope * (u - tip)) / np.sqrt(1 + slope**2)
    return np.maximum(edge, np.where(base > tip, u - base, base - u))


def _ground(ground: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The background [n, 3, size, size]: its colour, with noise that is blotchy, upright, level or fine by ground."""
    n, fine = len(ground), 16
    colour = np.array(list(GROUNDS.values()))[ground] / 255 + rng.uniform(-0.05, 0.05, (n, 3))
    noise = rng.uniform(-1, 1, (n, fine, fine))
    texture = np.empty((n, size, size))
    for number, (rows, columns) in enumerate(((3, 4), (3, fine), (8, 3), (fine, fine))):
        members = ground == number
        texture[members] = _grid(size, rows) @ noise[members, :rows, :columns] @ _grid(size, columns).T
    return colour[:, :, np.newaxis, np.newaxis] + 0.13 * texture[:, np.newaxis]


def _grid(size: int, points: int) -> np.ndarray:
    """[size, points]: linear interpolation from points at equal distances to pixels."""
    place = (np.arange(size) + 0.5) / size * (points - 1)
    return np.maximum(0, 1 - np.abs(place[:, np.newaxis] - np.arange(points)))
