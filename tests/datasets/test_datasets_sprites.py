from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.sprites import draw, sprites

SQUARE, ELLIPSE, HEART = 0, 0.5, 1
SHAPES = [SQUARE, ELLIPSE, HEART]


def image(shape, scale=1.0, angle=0.0, x=0.5, y=0.5, size=64) -> np.ndarray:
    """[size, size], from 0 to 1."""
    return draw(np.array([[shape, scale, angle, x, y]], np.float32), size)[0, 0] / 255


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (SQUARE, 0.5 * 4 * 0.25**2),
        (ELLIPSE, np.pi * 0.25 * 0.125),
        (HEART, (1 / 2 + np.pi / 8) * (0.25 / 0.65665) ** 2),  # a square and two half discs, on a corner
    ],
)
@pytest.mark.parametrize("angle", [0, 0.07])
def test_the_area_is_exact_and_grows_with_the_square_of_the_scale(shape, area, angle):
    for factor, scale in [(0, 0.5), (0.5, 0.75), (1, 1)]:
        assert image(shape, factor, angle, size=128).mean() == pytest.approx(area * scale**2, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [0, 1])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 0), (0.3, 0.8)])
def test_the_centre_of_mass_follows_x_and_y(shape, scale, x, y):
    for angle in (0, 0.2, 0.6):
        centre = ndimage.center_of_mass(image(shape, scale, angle, x, y))
        expected = 64 * (0.25 + 0.5 * np.array([y, x])) - 0.5  # pixel centres are at whole numbers
        assert centre == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_quarter_turn_is_clockwise_and_a_full_turn_changes_nothing(shape):
    turned = np.rot90(image(shape, angle=0.05), -1)
    np.testing.assert_allclose(image(shape, angle=0.3), turned, atol=1.01 / 255)
    np.testing.assert_allclose(image(shape, angle=1), image(shape, angle=0), atol=1.01 / 255)


def test_each_shape_has_its_own_symmetry():
    def same(shape, turn):
        return np.allclose(image(shape, angle=turn), image(shape), atol=1.01 / 255)

    assert [same(SQUARE, turn) for turn in (0.125, 0.25, 0.5)] == [False, True, True]
    assert [same(ELLIPSE, turn) for turn in (0.125, 0.25, 0.5)] == [False, False, True]
    assert [same(HEART, turn) for turn in (0.125, 0.25, 0.5)] == [False, False, False]
    upright = image(HEART)
    np.testing.assert_allclose(upright, upright[:, ::-1], atol=1.01 / 255)
    assert upright[:32].sum() > upright[32:].sum()  # the lobes on top, the tip below


def test_the_largest_shapes_stay_inside_at_every_position_and_angle():
    corners = [(s, 1, a, x, y) for s in SHAPES for a in np.linspace(0, 1, 33) for x in (0, 1) for y in (0, 1)]
    drawn = draw(np.array(corners, np.float32), 32)[:, 0]
    whole = np.array([image(s, 1, size=32).sum() for s in SHAPES])
    assert np.abs(drawn.sum((1, 2)) / 255 / np.repeat(whole, 33 * 4) - 1).max() < 0.03


def test_the_edge_is_grey_and_one_pixel_wide():
    square = image(SQUARE, 0.3, 0.0, 0.41, 0.53)
    row = square[32]
    inside = np.flatnonzero(row)
    assert np.all(row[inside[2:-2]] == 1) and ((row > 0) & (row < 1)).sum() in (2, 3, 4)


def test_factors_are_uniform_and_follow_their_images_through_the_split():
    source = sprites(size=16, examples=1000)
    data = prepare(source, split_seed=4)
    everything = []
    for split in (data.train, data.validation, data.test):
        factors = split.factors.numpy()
        np.testing.assert_array_equal(draw(factors, 16), split.x)
        np.testing.assert_array_equal(split.label, np.rint(2 * factors[:, 0]))
        everything.append(factors)
    assert [len(factors) for factors in everything] == [720, 80, 200]
    factors = np.concatenate(everything)
    assert set(factors[:, 0]) == {0, 0.5, 1}
    assert np.abs(factors.mean(0) - 0.5).max() < 5 * (1 / 6 / 1000) ** 0.5
    assert np.abs(np.corrcoef(factors.T) - np.eye(5)).max() < 5 / 1000**0.5


def test_the_images_depend_on_the_data_seed_and_the_factors_not_on_the_size():
    one, again, other, larger = (sprites(size, 30, seed) for size, seed in [(16, 0), (16, 0), (16, 1), (24, 0)])
    np.testing.assert_array_equal(one.train.x, again.train.x)
    assert not np.array_equal(one.train.x, other.train.x)
    np.testing.assert_array_equal(one.test.factors, larger.test.factors)
    assert larger.test.x.shape == (6, 1, 24, 24) and larger.test.x.dtype == np.uint8


@pytest.mark.parametrize("change", [{"examples": 20_001}, {"size": 7}, {"size": 129}, {"data_seed": -1}])
def test_a_wrong_option_is_named(change):
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=rf"^dataset\.{name}={value}: Input should be "):
        load({"_target_": "bench.datasets.sprites.sprites"} | change)
