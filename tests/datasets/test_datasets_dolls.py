from __future__ import annotations

import numpy as np
import pytest

from bench.core import InputError
from bench.datasets import load, prepare
from bench.datasets.dolls import BODY, CLOTHING, Canvas, Doll, dolls, draw, random_dolls

TRAIN, TEST = (getattr(dolls(examples=100), split) for split in ("train", "test"))


def doll(**changes) -> Doll:
    """One doll."""
    return random_dolls(np.random.default_rng(0), 1)._replace(**{name: np.array([v]) for name, v in changes.items()})


def sketch(outfit, size=(96, 64)) -> np.ndarray:
    return draw(doll(outfit=outfit), size)[1]


def share(outfit, name: str) -> float:
    return (sketch(outfit) == CLOTHING.index(name)).mean()


def test_conditions_are_the_truth_one_hot():
    assert TRAIN.x.shape == (80, 3, 48, 32) and TEST.x.shape == (20, 3, 48, 32) and TRAIN.x.dtype == np.uint8
    for split in (TRAIN, TEST):
        for name, classes in (("sketch", CLOTHING), ("pose", BODY)):
            condition = split.conditions[name]
            assert condition.shape == (len(split.x), len(classes), 48, 32) and condition.dtype == bool
            np.testing.assert_array_equal(condition.argmax(1), split.truth[name])
            assert (condition.sum(1) == 1).all()


def test_every_class_is_there():
    assert set(np.unique(TRAIN.truth["sketch"])) == set(range(len(CLOTHING)))
    assert set(np.unique(TRAIN.truth["pose"])) == set(range(len(BODY)))


def test_joints_lie_on_the_parts_of_the_body():
    height, width = TRAIN.truth["pose"].shape[1:]
    joints = TRAIN.truth["joints"].reshape(-1, 15, 2)
    for joint, part in ((0, "head"), (2, "torso")):  # no limb of this sample is in front of them
        column, row = (joints[:, joint] * [width, height]).astype(int).T
        hit = TRAIN.truth["pose"][np.arange(len(joints)), row, column] == BODY.index(part)
        assert hit.mean() > 0.8 if part == "torso" else hit.all()
    left, right = ((TRAIN.truth["pose"] == BODY.index(f"{side} leg")).mean((0, 1)) for side in ("left", "right"))
    assert left @ np.arange(width) / left.sum() < right @ np.arange(width) / right.sum()


def test_another_outfit_keeps_pose_and_place():
    true, other = TEST.truth["sketch"], TEST.truth["another_sketch"]
    face = CLOTHING.index("face")
    np.testing.assert_array_equal(true == face, other == face)
    differing = (true != other).mean()
    assert np.abs(TEST.truth["x_again"].astype(int) - TEST.x).mean() > 20
    assert 0.02 < differing < 0.2 and "another_sketch" not in TRAIN.truth
    assert (true != np.roll(true, 1, 0)).mean() > 2 * differing


def test_garments_have_their_lengths():
    bare, short, long = (share([sleeves, 0, 0, 0], "arms") for sleeves in (0, 1, 2))
    assert bare > short > long > 0  # hands are bare
    trousers, shorts = (share([1, bottom, 0, 0], "legs") for bottom in (0, 1))
    assert trousers < 0.25 * shorts
    assert share([1, 1, 1, 0], "shoes") > share([1, 1, 0, 0], "shoes")  # boots
    assert share([1, 1, 0, 2], "hair") > share([1, 1, 0, 1], "hair") > share([1, 1, 0, 0], "hair")
    assert share([1, 3, 0, 0], "bottom") > share([1, 2, 0, 0], "bottom") > 0  # skirts


def test_the_garment_covers_the_pose_of_the_body():
    body = TRAIN.truth["pose"] > 0
    assert (TRAIN.truth["sketch"][body] > 0).mean() > 0.98
    assert (TRAIN.truth["sketch"] > 0).sum() > body.sum()


def test_looks_do_not_change_the_sketch():
    one, other = doll(), doll()._replace(looks=random_dolls(np.random.default_rng(1), 1).looks)
    portraits, sketches, _ = zip(*(draw(each, (48, 32)) for each in (one, other)), strict=True)
    np.testing.assert_array_equal(*sketches)
    assert np.abs(portraits[0].astype(int) - portraits[1]).mean() > 20


def test_a_capsule_has_the_area_of_a_box_and_two_half_discs():
    canvas = Canvas(doll(scale=1.0, place=[0.0, 0.0]), (400, 400))
    distance = canvas.bone(np.array([[-0.2, 0.1]]), np.array([[0.1, -0.1]]), (0.05, 0.05))
    expected = 2 * 0.05 * np.hypot(0.3, 0.2) + np.pi * 0.05**2
    assert (distance < 0).mean() == pytest.approx(expected, rel=0.01)
    assert distance.min() == pytest.approx(-0.05, abs=0.003)


def test_the_same_seed_gives_the_same_dolls_and_another_one_others():
    again, other = dolls(examples=100).train, dolls(examples=100, data_seed=1).train
    np.testing.assert_array_equal(again.x, TRAIN.x)
    assert not np.array_equal(other.x, TRAIN.x)


def test_the_data_set_is_accepted_and_states_what_it_provides():
    data = prepare(dolls(size=(24, 16), examples=60))
    assert data.shapes.x == (3, 24, 16) and data.shapes.conditions == {"pose": (7, 24, 16), "sketch": (8, 24, 16)}
    assert data.vocabulary["sketch"] == CLOTHING
    np.testing.assert_allclose(data.train.factors.unique(dim=0).max(), 1)


@pytest.mark.parametrize("change", [{"examples": 11}, {"size": [8, 32]}, {"data_seed": -1}])
def test_a_wrong_option_is_named(change):
    ((name, _),) = change.items()
    with pytest.raises(InputError, match=rf"^dataset\.{name}"):
        load({"_target_": "bench.datasets.dolls.dolls"} | change)
