from __future__ import annotations

import numpy as np
import pytest

from bench.core import InputError
from bench.data import as_floats
from bench.datasets import load, prepare
from bench.datasets.drawing import reduced
from bench.datasets.faces import BINS, IDENTITY, aging_faces, draw, tiny_faces, unaligned_faces
from bench.datasets.misalignment import misaligned

RNG = np.random.default_rng(7)
FACES, MIDDLE_AGED = RNG.random((6, len(IDENTITY)), np.float32), np.full(6, 0.5)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over pixels, in grey levels."""
    return np.abs(a.astype(float) - b).mean()


@pytest.mark.parametrize("number", range(len(IDENTITY)), ids=IDENTITY)
def test_each_parameter_of_an_identity_can_be_seen(number):
    low, high = FACES.copy(), FACES.copy()
    low[:, number], high[:, number] = 0.1, 0.9
    change = np.abs(draw(low, MIDDLE_AGED, 32).astype(int) - draw(high, MIDDLE_AGED, 32))
    assert (change.max((1, 2, 3)) > 10).all()


def test_each_step_of_age_can_be_seen():
    looks = [draw(FACES, np.full(6, age), 32) for age in np.linspace(0, 1, 11)]
    assert min(difference(a, b) for a, b in zip(looks, looks[1:], strict=False)) > 0.3


def test_eyes_shrink_and_hair_turns_grey_with_age():
    identity = np.full((1, len(IDENTITY)), 0.5, np.float32)
    identity[0, IDENTITY.index("hair_colour")] = 0
    young, old = (draw(identity, np.array([age]), 64)[0].astype(int) for age in (0.1, 1.0))
    hair = (slice(None), slice(7, 10), slice(30, 34))
    assert young[hair].mean() < 40 and old[hair].mean() > 150

    def whites(image):
        return (image.min(0) > 200)[20:40].sum()

    assert 0 < whites(old) < 0.6 * whites(young)


def test_a_small_image_is_a_large_one_reduced():
    large, small = draw(FACES, MIDDLE_AGED, 64), draw(FACES, MIDDLE_AGED, 16)
    assert difference(reduced(large.astype(float), 4), small) < 3


@pytest.mark.parametrize("degrees", [0, 25, -40])
def test_a_face_at_a_placement_is_the_upright_face_moved(degrees):
    """To three levels of grey: other parts of the body come into view at the border, so only the middle is compared."""
    placement = np.tile([np.deg2rad(degrees), np.log(0.9), 0.1, -0.06], (6, 1)).astype(np.float32)
    drawn, moved = draw(FACES, MIDDLE_AGED, 32, placement), misaligned(draw(FACES, MIDDLE_AGED, 128), placement, 32)
    middle = (..., slice(8, 24), slice(8, 24))
    assert difference(drawn[middle], moved[middle]) < 3
    assert difference(drawn[middle], draw(FACES, MIDDLE_AGED, 32)[middle]) > 8


def test_images_are_drawn_one_by_one():
    ages, placement = RNG.random(6), RNG.normal(0, 0.1, (6, 4))
    for place in (None, placement):
        together = draw(FACES, ages, 16, place)
        for i in range(6):
            rows = slice(i, i + 1)
            alone = draw(FACES[rows], ages[rows], 16, None if place is None else place[rows])
            np.testing.assert_array_equal(alone, together[rows])


# --- data sets


def test_tiny_faces_are_the_large_ones_reduced():
    source = tiny_faces(size=32, source_size=16, examples=20)
    assert source.train.x.shape == (16, 3, 32, 32) and source.test.x.shape == (4, 3, 32, 32)
    for split in (source.train, source.test):
        assert difference(reduced(split.x.astype(float), 2), split.source) < 3


def test_unaligned_faces_know_where_each_face_lies():
    source = unaligned_faces(size=32, source_size=32, examples=100, rotation=40, shift=0.05)
    truth, placement = source.test.truth, source.test.conditions["placement"]
    assert placement.dtype == np.float32 and not source.train.truth
    np.testing.assert_allclose(truth["rotation"], np.rad2deg(placement[:, 0]))
    np.testing.assert_allclose(truth["shift"], 16 * placement[:, 2:], rtol=1e-6)
    assert 20 < np.abs(truth["rotation"]).max() <= 40 and 0.8 <= truth["scale"].min() < 0.9
    assert 0.8 < np.abs(truth["shift"]).max() <= 0.05 * 32
    moved, middle = misaligned(source.test.x, placement, 32), (..., slice(8, 24), slice(8, 24))
    assert difference(source.test.source[middle], moved[middle]) < 6 < difference(source.test.source, source.test.x)


def test_without_misalignment_the_source_is_upright():
    source = unaligned_faces(size=16, source_size=16, rotation=0, scale=1, shift=0, examples=15)
    assert difference(source.test.source, source.test.x) < 0.01


def test_aging_faces_have_one_age_each_and_the_test_all():
    source = aging_faces(size=16, examples=30)
    for split in (source.train, source.test):
        np.testing.assert_array_equal(split.conditions["age"].argmax(1), np.floor(5 * split.truth["age"]))
        assert split.conditions["age"].dtype == bool and (split.conditions["age"].sum(1) == 1).all()
    assert set(source.train.truth) == {"age", "identity"} and source.vocabulary["age"] == BINS
    aged, own = source.test.truth["aged"], source.test.conditions["age"].argmax(1)
    assert aged.shape == (6, 5, 3, 16, 16) and aged.dtype == np.uint8
    by_bin = np.array([[difference(aged[i, k], source.test.x[i]) for k in range(5)] for i in range(6)])
    assert np.abs(by_bin.argmin(1) - own).max() <= 1  # an age near the edge of its bin looks like the next one


@pytest.mark.parametrize("make", [tiny_faces, unaligned_faces, aging_faces])
def test_the_images_depend_on_the_data_seed(make):
    one, again, other = (make(size=16, examples=15, data_seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.train.x, again.train.x)
    assert not np.array_equal(one.train.x, other.train.x)


def test_a_prepared_set_keeps_sources_and_placements_beside_their_images():
    data = prepare(unaligned_faces(size=16, source_size=16, examples=35), split_seed=3)
    assert data.shapes.source == (3, 16, 16) and data.shapes.conditions == {"placement": (4,)}
    for split in (data.train, data.validation, data.test):
        moved = misaligned(split.x.numpy(), split.conditions["placement"].numpy(), 16)
        own = as_floats(split.source) - as_floats(split.x.new_tensor(moved))
        other = as_floats(split.source) - as_floats(split.x.new_tensor(moved[::-1].copy()))
        assert own.abs().mean() < 0.5 * other.abs().mean()


@pytest.mark.parametrize("change", [{"rotation": -1}, {"scale": 0}, {"scale": 1.1}, {"shift": 2}, {"size": 7}])
def test_a_wrong_option_is_named(change):
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=rf"^dataset\.{name}={value}: Input should be "):
        load({"_target_": "bench.datasets.faces.unaligned_faces"} | change)
