from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bench.core import InputError
from bench.datasets import load
from bench.datasets.occupancy import depth_views
from bench.datasets.shapes import CLASSES, PARTS, draw, shapes

NUMBER = {name: number for number, name in enumerate(CLASSES)}
FULL = (1.0, 0.5, 0.5, 0.5, 0.5)  # full scale, not turned, in the middle


def shape(name: str, *parts: float, factors=FULL, size=64, yaw=180.0) -> np.ndarray:
    """[size, size, size] bool: depth, rows, columns. Other parts are 0."""
    numbers = np.zeros((1, PARTS), np.float32)
    numbers[0, : len(parts)] = parts
    return draw(np.array([NUMBER[name]]), np.array([factors], np.float32), numbers, size, yaw)[0]


def random_numbers(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(8, size=count), rng.random((count, 5), np.float32), rng.random((count, PARTS), np.float32)


@pytest.mark.parametrize(
    ("name", "parts", "volume"),
    [
        ("box", (1, 0, 0.5), 1.4 * 0.7 * (2 * 0.675)),
        ("sphere", (1,), 4 / 3 * np.pi),
        ("sphere", (0,), 4 / 3 * np.pi / 8),
        ("cylinder", (1, 0.5), np.pi * 0.81 * 1.4),
        ("cone", (1, 1), np.pi * 2 / 3),
        ("torus", (1, 0), 2 * np.pi**2 * 0.65 * 0.35**2),
        ("torus", (0, 1), 2 * np.pi**2 * 0.65 * 0.2**2),
    ],
)
@pytest.mark.parametrize("factors", [FULL, (0.5, 0.31, 0.1, 0.9, 0.4)])
def test_the_volume_is_exact_and_grows_with_the_cube_of_the_scale(name, parts, volume, factors):
    scale = 0.7 + 0.3 * factors[0]
    assert shape(name, *parts, factors=factors).mean() == pytest.approx(volume * scale**3 / 8, rel=0.03)


def test_solids_of_revolution_do_not_change_when_they_turn():
    for name in ("sphere", "cylinder", "cone", "lamp"):
        one, other = (shape(name, 0.5, 0.5, 0.5, factors=(0.5, turn, 0.2, 0.7, 0.6)) for turn in (0.1, 0.83))
        assert (one ^ other).sum() <= 0.002 * one.size, "voxels whose centres are on the surface"


def test_a_quarter_turn_is_anticlockwise_seen_from_above():
    """The back of a chair is away from the viewer, then at the left side, from the front."""
    parts = (0.3, 0.8, 0.5, 0.2, 0.3, 0.9)
    straight, turned = (shape("chair", *parts, factors=(1, turn, 0.5, 0.5, 0.5)) for turn in (0.5, 0.75))
    # From above, depth upwards and columns to the right, anticlockwise is from (depth, column) to (column, -depth).
    np.testing.assert_array_equal(turned, straight.transpose(2, 1, 0)[..., ::-1])
    assert ndimage.center_of_mass(straight[:, :16])[0] > 45 and ndimage.center_of_mass(turned[:, :16])[2] < 18
    np.testing.assert_array_equal(shape("chair", *parts, factors=(1, 0.3, 0.5, 0.5, 0.5), yaw=0), straight)
    np.testing.assert_array_equal(shape("chair", *parts, factors=(1, 0, 0.5, 0.5, 0.5), yaw=0), straight)


@pytest.mark.parametrize(("place", "axis"), [(2, 2), (3, 1), (4, 0)])
def test_a_place_moves_along_its_axis_up_to_the_border(place, axis):
    low, high = (list(FULL) for _ in range(2))
    low[0] = high[0] = 0.0
    low[place], high[place] = 0.0, 1.0
    one, other = (shape("cylinder", 1, 1, factors=factors, size=40) for factors in (low, high))
    centres = [np.array(ndimage.center_of_mass(voxels)) for voxels in (one, other)]
    moved = np.zeros(3)
    moved[axis] = 0.6 * 20  # from -0.3 to 0.3 of half a side, 20 voxels
    np.testing.assert_allclose(centres[1] - centres[0], moved, atol=0.05)
    np.testing.assert_array_equal(np.flip(one, axis), other)
    if axis == 1:
        assert one[:, 0].any() and other[:, -1].any(), "the cylinder is as high as the one around every shape"


def test_every_shape_is_inside_upright_and_in_one_piece():
    label, factors, parts = random_numbers(800)
    voxels = draw(label, factors, parts, 16)
    for one in voxels:
        assert ndimage.label(one, np.ones((3, 3, 3)))[1] == 1
    # At the smallest scale there is room on all sides.
    factors[:, 0], factors[:, 2:] = 0, 0.5
    small = draw(label, factors, parts, 20)
    for axis in (1, 2, 3):
        assert not small.take([0, 1, -2, -1], axis).any()
    mean = {name: draw(label, factors, parts, 32)[label == number].mean(0) for name, number in NUMBER.items()}
    rows = {name: part.mean((0, 2)) for name, part in mean.items()}
    assert rows["cone"][20:].sum() > 3 * rows["cone"][:12].sum(), "the tip is on top"
    assert rows["table"][:16].sum() > rows["table"][16:].sum(), "the top is on the legs"
    assert rows["lamp"][:16].sum() > 2 * rows["lamp"][16:].sum(), "the shade is on the pole"


def test_furniture_has_the_parts_that_it_is_asked_for():
    table = shape("table", 1, 1, 0.5, 0, 0, 0, size=64)
    feet = ndimage.label(table[:, 63])[1]
    assert feet == 4 and ndimage.label(shape("table", 1, 1, 0.5, 1.0)[:, 63])[1] == 1
    chair = {arms: shape("chair", 1, 1, 0.5, 0, 0, arms) for arms in (0.0, 1.0)}
    added = chair[0.0] & ~chair[1.0]
    assert not (chair[1.0] & ~chair[0.0]).any() and ndimage.label(added)[1] == 2
    full, gap = (shape("chair", 1, 1, 0.5, 0, back, 1.0) for back in (0.0, 1.0))
    assert (full & ~gap).any() and not (gap & ~full).any()


def test_a_finer_grid_shows_the_same_shapes():
    label, factors, parts = random_numbers(40)
    coarse, fine = (draw(label, factors, parts, size) for size in (16, 64))
    shares = fine.reshape(40, 16, 4, 16, 4, 16, 4).mean((2, 4, 6))
    assert (coarse == (shares > 0.5)).mean() > 0.98


def test_the_data_set():
    source = shapes(examples=500, source_size=24)
    assert [len(split.x) for split in (source.train, source.test)] == [400, 100]
    assert source.train.x.shape == (400, 1, 16, 16, 16) and source.train.x.dtype == np.uint8
    assert set(np.unique(source.train.x)) == {0, 255} and source.range == (0, 255)
    for split in (source.train, source.test):
        np.testing.assert_array_equal(split.source, depth_views(split.x[:, 0] > 0, 24, 30, 20))
        assert split.factors.dtype == np.float32 and split.factors.shape[1] == 6
        np.testing.assert_array_equal(split.label, np.rint(7 * split.factors[:, 0]))
        spheres = split.label == NUMBER["sphere"]  # their centres are at the factors
        for one, (scale, _, right, down, away) in zip(split.x[spheres, 0], split.factors[spheres, 1:], strict=True):
            room = 8 * 0.3 * (1 - scale)  # voxels
            expected = [7.5 + room * (2 * at - 1) for at in (away, down, right)]
            assert ndimage.center_of_mass(one) == pytest.approx(expected, abs=0.25)
    everything = np.concatenate([source.train.factors, source.test.factors])
    assert np.abs(everything.mean(0) - 0.5).max() < 5 * (1 / 6 / 500) ** 0.5
    assert np.abs(np.corrcoef(everything.T) - np.eye(6)).max() < 5 / 500**0.5


def test_the_shapes_depend_on_the_data_seed_and_the_factors_not_on_the_size():
    one, again, other, larger = (
        shapes(size, examples=30, data_seed=seed) for size, seed in [(16, 0), (16, 0), (16, 1), (32, 0)]
    )
    np.testing.assert_array_equal(one.train.x, again.train.x)
    assert not np.array_equal(one.train.x, other.train.x)
    np.testing.assert_array_equal(one.test.factors, larger.test.factors)
    assert larger.test.x.shape == (6, 1, 32, 32, 32)


@pytest.mark.parametrize("change", [{"examples": 20_001}, {"size": 15}, {"size": 65}, {"yaw": 181}, {"data_seed": -1}])
def test_a_wrong_option_is_named(change):
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=rf"^dataset\.{name}={value}: Input should be "):
        load({"_target_": "bench.datasets.shapes.shapes"} | change)


def test_only_the_chosen_classes_are_drawn():
    data = load({"_target_": "bench.datasets.shapes.shapes", "examples": 60, "classes": ["lamp", "chair"]})
    assert data.shapes.classes == 2
    assert sorted({*data.train.factors[:, 0].tolist()}) == pytest.approx([5 / 7, 1.0])
    with pytest.raises(InputError, match="^dataset.classes"):
        load({"_target_": "bench.datasets.shapes.shapes", "classes": ["sofa"]})
