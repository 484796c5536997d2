"""Paper dolls: synthetic people in random poses, with garments, textures and colours independent of the pose."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from bench.data import Split
from bench.datasets import Seed, Source

CLOTHING = ("background", "hair", "face", "top", "bottom", "arms", "legs", "shoes")  # the classes of a sketch
BODY = ("background", "head", "torso", "left arm", "right arm", "left leg", "right leg")  # sides as in the picture
FACTORS = ("sleeves", "bottom", "boots", "hair")

# Lengths in units of the height of a standing person.
HEAD = 0.092  # the radius
NECK, SPINE = 0.11, 0.29  # from the shoulders up to the centre of the head, and down to the pelvis
SHOULDER, HIP = 0.105, 0.062  # from the spine
ARM, LEG = (0.16, 0.15), (0.21, 0.2)  # of the upper and the lower half
ARM_RADIUS, LEG_RADIUS = (0.045, 0.04, 0.034), (0.062, 0.052, 0.04)  # at the ends and at the joint between
SLEEVES = np.array([0, 0.3, 0.92])  # of an arm
BOTTOMS = np.array([0.95, 0.36, 0.3, 0.7])  # of a leg: trousers, shorts, a short and a long skirt
SKIRT_FROM = 2  # the first of BOTTOMS that is a skirt
BOOTS = np.array([0.93, 0.68])  # where shoes begin, of a leg
HAIR = np.array([0, 0.07, 0.16])  # below the centre of the head
# How often each kind is worn, in the order of FACTORS.
SHARES = ((0.2, 0.55, 0.25), (0.25, 0.45, 0.15, 0.15), (0.8, 0.2), (0.3, 0.4, 0.3))
SKINS = np.array([[0.36, 0.23, 0.17], [0.62, 0.42, 0.3], [0.88, 0.68, 0.55], [0.98, 0.85, 0.76]])
HAIRS = np.array([[0.08, 0.07, 0.07], [0.33, 0.2, 0.12], [0.85, 0.68, 0.38], [0.6, 0.25, 0.12], [0.62, 0.62, 0.64]])
LOOKS = 40
CHUNK = 50  # dolls drawn at once, so that intermediate arrays stay in the processor's cache

Point = np.ndarray  # [N, 2]: x to the right, y downwards
Limb = tuple[Point, Point, Point]  # shoulder, elbow and wrist, or hip, knee and ankle
Share = np.ndarray | float  # of the length of a limb, [N] or a number


class Joints(NamedTuple):
    """Points, in units of a person's height."""

    head: Point
    neck: Point
    pelvis: Point
    limbs: tuple[Limb, ...]  # left arm, right arm, left leg, right leg


class Doll(NamedTuple):
    """The random choices of N dolls."""

    joints: Joints
    scale: np.ndarray  # [N]: the height of a person, in picture heights
    place: Point  # of the pelvis, in picture heights from the centre of the picture
    build: np.ndarray  # [N]: the width of the body, relative to the usual one
    outfit: np.ndarray  # [N, 4] class numbers, as in FACTORS
    looks: np.ndarray  # [N, LOOKS], uniform in [0, 1]: colours, textures, light


def dolls(
    size: tuple[Annotated[int, Field(ge=24, le=256)], Annotated[int, Field(ge=16, le=256)]] = (48, 32),
    examples: Annotated[int, Field(ge=12, le=50_000, strict=True)] = 10_000,
    data_seed: Seed = 0,
) -> Source:
    """x: [N, 3, *size] uint8, portraits; a fixed fifth of them is the test set.

    Conditions: pose, the map of the bare body's parts, [N, 7, *size] bool, one-hot over BODY; sketch, the map of
    clothing, [N, 8, *size] bool, one-hot over CLOTHING. Truth: the same maps as class numbers, [N, *size] int64;
    joints, [N, 30] float32: x and y, from 0 to 1, of head, neck, pelvis and three joints each of left arm, right arm,
    left leg and right leg; for test examples also x_again and another_sketch, a second portrait in the same pose.
    Factors: the garments, as in FACTORS, from 0 to 1. Pose and garments are independent, so a pose has many sketches.
    """
    rng = np.random.default_rng(data_seed)
    test = examples // 5
    names = {"sketch": CLOTHING, "pose": BODY}
    return Source(_split(rng, examples - test, size), _split(rng, test, size, True), range=(0, 255), vocabulary=names)


def _split(rng: np.random.Generator, examples: int, size: tuple[int, int], redressed: bool = False) -> Split:
    """redressed: whether the truth has a second portrait in the same pose."""
    drawn = []
    for start in range(0, examples, CHUNK):
        doll = random_dolls(rng, min(CHUNK, examples - start))
        parts = [doll.outfit, joint_positions(doll, size), *draw(doll, size)]
        if redressed:
            n = len(doll.outfit)
            parts += draw(doll._replace(outfit=random_outfits(rng, n), looks=rng.random((n, LOOKS))), size)[:2]
        drawn.append(parts)
    outfit, joints, x, sketch, pose, *again = (np.concatenate(part) for part in zip(*drawn, strict=True))
    factors = (outfit / np.array([len(shares) - 1 for shares in SHARES])).astype(np.float32)
    conditions = {"pose": one_hot_map(pose, len(BODY)), "sketch": one_hot_map(sketch, len(CLOTHING))}
    truth = {"sketch": sketch, "pose": pose, "joints": joints}
    truth |= dict(zip(("x_again", "another_sketch"), again, strict=False))
    return Split(x, factors=factors, conditions=conditions, truth=truth)


def one_hot_map(classes: np.ndarray, count: int) -> np.ndarray:
    """Maps [N, H, W] of class numbers -> [N, count, H, W] bool."""
    return classes[:, np.newaxis] == np.arange(count)[:, np.newaxis, np.newaxis]


# --- what is drawn


def random_dolls(rng: np.random.Generator, n: int) -> Doll:
    """N dolls with independent poses, garments and looks."""
    build = rng.uniform(0.85, 1.15, n)
    joints = random_pose(rng, build)
    scale, place = rng.uniform(0.78, 0.92, n), rng.uniform(-1, 1, (n, 2)) * [0.04, 0.02] + [0, 0.03]
    return Doll(joints, scale, place, build, random_outfits(rng, n), rng.random((n, LOOKS)))


def random_outfits(rng: np.random.Generator, n: int) -> np.ndarray:
    """Class numbers [N, 4], as in FACTORS."""
    return np.column_stack([rng.choice(len(shares), n, p=shares) for shares in SHARES])


def random_pose(rng: np.random.Generator, build: np.ndarray) -> Joints:
    """The pelvis is at 0. The angle of a limb is 0 if it points down, and increases outwards."""
    n = len(build)

    def degrees(low: float, high: float) -> np.ndarray:
        return np.radians(rng.uniform(low, high, n))

    def away(angle: np.ndarray, length: float) -> Point:
        return length * np.column_stack([np.sin(angle), np.cos(angle)])

    lean = degrees(-12, 12)
    pelvis, side = np.zeros((n, 2)), np.column_stack([np.cos(lean), np.sin(lean)])
    neck = pelvis + SPINE * np.column_stack([np.sin(lean), -np.cos(lean)])
    tilt = lean + degrees(-12, 12)
    head = neck + NECK * np.column_stack([np.sin(tilt), -np.cos(tilt)])
    limbs = []
    for sign in (-1, 1):
        shoulder = neck + sign * SHOULDER * build[:, np.newaxis] * side + [0, 0.035]
        upper = np.where(rng.random(n) < 0.6, degrees(5, 60), degrees(60, 140))
        lower = upper + np.where(rng.random(n) < 0.5, 1, -1) * degrees(0, 100)
        elbow = shoulder + away(sign * upper, ARM[0])
        limbs.append((shoulder, elbow, elbow + away(sign * lower, ARM[1])))
    for sign in (-1, 1):
        hip = pelvis + sign * HIP * build[:, np.newaxis] * side
        upper = degrees(-4, 28)
        knee = hip + away(sign * upper, LEG[0])
        limbs.append((hip, knee, knee + away(sign * (upper - degrees(-12, 30)), LEG[1])))
    return Joints(head, neck, pelvis, tuple(limbs))


def joint_positions(doll: Doll, size: tuple[int, int]) -> np.ndarray:
    """x and y of every joint [N, 30] float32, from 0 at the left and at the top to 1."""
    head, neck, pelvis, limbs = doll.joints
    points = np.stack([head, neck, pelvis, *(point for limb in limbs for point in limb)], 1)
    heights = doll.place[:, np.newaxis] + doll.scale[:, np.newaxis, np.newaxis] * points  # from the centre
    return (0.5 + heights * [size[0] / size[1], 1]).reshape(len(points), -1).astype(np.float32)


# --- how it is drawn


class Canvas:
    """N pictures on which layers are painted, each over the previous ones.

    size: (height, width). Coordinates are in picture heights, from the centre. A layer is the signed distance [N, H, W]
    of each pixel's centre to an outline, negative inside; its edge is one pixel wide.
    """

    def __init__(self, doll: Doll, size: tuple[int, int]):
        height, width = size
        self.x = single(np.arange(width) + 0.5 - width / 2).reshape(1, 1, -1) / height
        self.y = single(np.arange(height) + 0.5 - height / 2).reshape(1, -1, 1) / height
        self.place, self.scale, self.pixels = doll.place, doll.scale, single(doll.scale * height)
        n = len(doll.scale)
        self.rgb = np.zeros((n, 3, height, width), np.float32)
        self.classes = np.zeros((n, height, width), np.int64)

    def offset(self, point: Point) -> tuple[np.ndarray, np.ndarray]:
        """The offset of each pixel from a point, in units of a person's height: right [N, 1, W] and down [N, H, 1]."""
        x, y = (self.place + self.scale[:, np.newaxis] * point).T
        return (self.x - single(x)) / single(self.scale), (self.y - single(y)) / single(self.scale)

    def bone(
        self, start: Point, end: Point, radius: tuple[float, float], width: np.ndarray | None = None
    ) -> np.ndarray:
        """The signed distance to a capsule with a varying radius. radius: at its ends, multiplied by width [N]."""
        right, down = self.offset(start)
        along, across = (single(axis) for axis in (end - start).T)
        share = (right * along + down * across) / (along**2 + across**2 + single(1e-9))
        share = np.minimum(np.maximum(share, 0), 1)
        right, down = right - share * along, down - share * across
        thickness = single(radius[0]) + single(radius[1] - radius[0]) * share
        return np.sqrt(right * right + down * down) - (thickness if width is None else thickness * single(width))

    def limb(
        self, limb: Limb, radius: tuple[float, float, float], width: np.ndarray, start: Share = 0.0, end: Share = 1.0
    ) -> np.ndarray:
        """The signed distance to a part of a limb, from `start` to `end` [N] of its length."""
        points = [_along(limb, np.broadcast_to(share, len(width))) for share in (start, end)]
        middle = np.where((np.broadcast_to(start, len(width)) < 0.5)[:, np.newaxis], limb[1], points[0])
        middle = np.where((np.broadcast_to(end, len(width)) > 0.5)[:, np.newaxis], middle, points[1])
        upper = self.bone(points[0], middle, radius[:2], width)
        return np.minimum(upper, self.bone(middle, points[1], radius[1:], width))

    def paint(
        self, number: int, distance: np.ndarray, colour: np.ndarray | None = None, shown: np.ndarray | None = None
    ) -> None:
        """Paints a layer. colour: [N, 3] or [N, 3, H, W]; None: in the maps only. shown: [N] bool, whether to do so."""
        edge = distance * self.pixels  # in pixels
        if shown is not None:
            edge = np.where(shown[:, np.newaxis, np.newaxis], edge, single(1))
        np.copyto(self.classes, number, where=edge <= 0)
        rows = np.flatnonzero((edge < 0.5).any(axis=(0, 2)))  # the rest of the picture does not change
        if colour is None or len(rows) == 0:
            return
        band = slice(rows[0], rows[-1] + 1)
        edge = edge[:, np.newaxis, band]
        cover = np.minimum(np.maximum(0.5 - edge, 0), 1)
        shade = 0.72 + 0.28 * np.minimum(np.maximum(-edge / 2, 0), 1)  # darker at its edge
        colour = colour[:, :, band] if colour.ndim == 4 else single(colour)
        rgb = self.rgb[:, :, band]
        rgb += cover * (colour * shade - rgb)


def single(values: np.ndarray | float) -> np.ndarray:
    """In single precision and with two more axes: [...] -> [..., 1, 1].

    Single precision is twice as fast as double, and the operations used here give the same result on all machines.
    """
    return np.asarray(values, np.float32)[..., np.newaxis, np.newaxis]


def _along(limb: Limb, share: np.ndarray) -> Point:
    """The points at a share [N] of the length of a limb. Its two halves count as equally long."""
    near, far = (np.clip(2 * share - half, 0, 1)[:, np.newaxis] for half in (0, 1))
    return limb[0] + near * (limb[1] - limb[0]) + far * (limb[2] - limb[1])


def draw(doll: Doll, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Portraits [N, 3, H, W] uint8, maps of clothing and of the bare body's parts [N, H, W] int64."""
    portrait = Canvas(doll, size)
    _paint_portrait(portrait, doll)
    body = Canvas(doll, size)
    _paint_body(body, doll)
    return np.rint(255 * np.clip(portrait.rgb, 0, 1)).astype(np.uint8), portrait.classes, body.classes


def _torso(canvas: Canvas, doll: Doll, hem: np.ndarray | float = 0.0) -> np.ndarray:
    """hem: the distance from the hips down to the hem, [N]."""
    neck, pelvis = doll.joints.neck, doll.joints.pelvis
    down = (pelvis - neck) / SPINE
    chest = neck + 0.1 * down
    end = pelvis + np.reshape(hem, (-1, 1)) * down
    trunk = canvas.bone(chest, end, (0.105, 0.092), doll.build)
    (left, *_), (right, *_), *_ = doll.joints.limbs
    return np.minimum(trunk, canvas.bone(left, right, (0.045, 0.045)))


def _paint_body(canvas: Canvas, doll: Doll) -> None:
    left_arm, right_arm, left_leg, right_leg = doll.joints.limbs
    for name, leg in (("left leg", left_leg), ("right leg", right_leg)):
        canvas.paint(BODY.index(name), canvas.limb(leg, LEG_RADIUS, doll.build))
    canvas.paint(BODY.index("torso"), _torso(canvas, doll))
    for name, arm in (("left arm", left_arm), ("right arm", right_arm)):
        canvas.paint(BODY.index(name), canvas.limb(arm, ARM_RADIUS, doll.build))
    canvas.paint(BODY.index("head"), canvas.bone(doll.joints.neck, doll.joints.head, (0.04, 0.04)))
    canvas.paint(BODY.index("head"), canvas.bone(doll.joints.head, doll.joints.head, (HEAD, HEAD)))


def _paint_portrait(canvas: Canvas, doll: Doll) -> None:
    joints, build, looks = doll.joints, doll.build, doll.looks
    sleeves, bottom, boots, hair = doll.outfit.T
    background, hair_class, face, top_class, bottom_class, arms, legs, shoes = range(len(CLOTHING))
    skin, hair_colour = _ramp(SKINS, looks[:, 0]), HAIRS[np.minimum(5 * looks[:, 1], 4).astype(int)]
    hair_colour = np.clip(hair_colour + 0.12 * (looks[:, 2:5] - 0.5), 0, 1)
    _, down = canvas.offset(joints.pelvis)
    wall, floor = 0.35 + 0.6 * looks[:, 5:8], 0.25 + 0.6 * looks[:, 8:11]
    edge = np.clip((down - 0.3 - 0.1 * single(looks[:, 11])) * 40, 0, 1)[:, np.newaxis]
    canvas.rgb += single(wall) * (1 - edge) + single(floor) * edge
    top, trousers = (_texture(canvas, joints.pelvis, looks[:, start : start + 12]) for start in (12, 24))

    head = joints.head
    back = head + np.column_stack([np.zeros(len(hair)), HAIR[hair]])
    canvas.paint(hair_class, canvas.bone(head, back, (HEAD * 1.25, HEAD * 1.1)), hair_colour, hair > 0)
    for leg in joints.limbs[2:]:
        canvas.paint(legs, canvas.limb(leg, LEG_RADIUS, build), skin)
        sole = leg[2] + np.sign(leg[2][:, :1] - joints.pelvis[:, :1]) * [0.03, 0] + [0, 0.025]
        shoe = np.minimum(
            canvas.limb(leg, LEG_RADIUS, 1.15 * build, BOOTS[boots], 1.0), canvas.bone(leg[2], sole, (0.045, 0.04))
        )
        canvas.paint(shoes, shoe, 0.9 * looks[:, 36:39])
    is_skirt = bottom >= SKIRT_FROM
    for leg in joints.limbs[2:]:
        part = canvas.limb(leg, LEG_RADIUS, 1.25 * build, 0.0, BOTTOMS[bottom])
        canvas.paint(bottom_class, part, trousers, ~is_skirt)
    canvas.paint(bottom_class, _skirt(canvas, doll), trousers, is_skirt)
    canvas.paint(bottom_class, canvas.bone(joints.pelvis, joints.pelvis, (0.095, 0.095), build), trousers)
    canvas.paint(face, canvas.bone(joints.neck, head, (0.04, 0.04)), skin)
    canvas.paint(top_class, _torso(canvas, doll, -0.04), top)
    for arm in joints.limbs[:2]:
        canvas.paint(arms, canvas.limb(arm, ARM_RADIUS, build), skin)
        sleeve = canvas.limb(arm, ARM_RADIUS, 1.25 * build, 0.0, SLEEVES[sleeves])
        canvas.paint(top_class, sleeve, top, sleeves > 0)
    _paint_head(canvas, head, skin, hair_colour)
    light = 1 + 0.3 * (single(looks[:, 39]) - 0.5) * canvas.x / abs(canvas.x).max()
    canvas.rgb *= light[:, np.newaxis]


def _paint_head(canvas: Canvas, head: Point, skin: np.ndarray, hair_colour: np.ndarray) -> None:
    hair_class, face = CLOTHING.index("hair"), CLOTHING.index("face")
    canvas.paint(hair_class, canvas.bone(head, head, (HEAD * 1.1, HEAD)), hair_colour)
    canvas.paint(face, canvas.bone(head + [0, 0.028], head + [0, 0.028], (0.075, 0.075)), skin)
    for side in (-0.028, 0.028):
        eye = head + [side, 0.015]
        canvas.paint(face, canvas.bone(eye, eye, (0.013, 0.013)), 0.15 * skin)
    mouth = head + [0, 0.06]
    canvas.paint(face, canvas.bone(mouth - [0.015, 0], mouth + [0.015, 0], (0.007, 0.007)), skin * [0.75, 0.4, 0.4])


def _skirt(canvas: Canvas, doll: Doll) -> np.ndarray:
    """A quadrilateral from the waist to the hem. The distance is exact except at the corners."""
    joints, length = doll.joints, BOTTOMS[doll.outfit[:, 1]]
    flare = (0.05 + 0.06 * length)[:, np.newaxis] * [1, 0]
    hems = [_along(leg, length) for leg in joints.limbs[2:]]
    waists = [joints.pelvis + sign * 0.085 * doll.build[:, np.newaxis] * [1, 0] - [0, 0.06] for sign in (-1, 1)]
    corners = [waists[0], waists[1], hems[1] + flare, hems[0] - flare]  # clockwise
    outside = []
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        right, down = canvas.offset(start)
        along = (end - start) / np.sqrt(((end - start) ** 2).sum(1, keepdims=True))
        outside.append(right * single(along[:, 1]) - down * single(along[:, 0]))
    return np.maximum.reduce(outside)


def _texture(canvas: Canvas, origin: Point, looks: np.ndarray) -> np.ndarray:
    """Cloth in two colours [N, 3, H, W]: plain, striped in either direction, checked or dotted. looks: [N, 12]."""
    right, down = canvas.offset(origin)
    turns = 2 * np.pi / single(0.12 + 0.08 * looks[:, 0])
    # A sine in single precision would differ between machines by more than rounding to 8 bits hides.
    across, along = (
        np.sin((turns * axis + single(6.3 * looks[:, i])).astype(np.float64)).astype(np.float32)
        for i, axis in ((1, right), (2, down))
    )
    kind = single(np.floor(5 * looks[:, 3]))
    wave = np.choose(kind.astype(int), [single(-1), along, across, across * along, across + along - single(0.8)])
    mix = np.clip(0.5 + 1.2 * wave, 0, 1)[:, np.newaxis]
    first, second = (single(0.05 + 0.9 * looks[:, i : i + 3]) for i in (4, 7))
    return first + mix * (second - first)


def _ramp(colours: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colours [N, 3] interpolated at a share [N] of the way from the first to the last."""
    steps = np.arange(len(colours))
    return np.column_stack([np.interp(share * steps[-1], steps, channel) for channel in colours.T])
