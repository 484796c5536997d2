from __future__ import annotations

import numpy as np
import pytest

from bench.datasets.misalignment import misaligned, random_placements, truth_of

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 3, 24, 24)).astype(np.uint8)
UPRIGHT = np.zeros((3, 4), np.float32)


def placed(degrees=0.0, scale=1.0, right=0.0, down=0.0) -> np.ndarray:
    return np.tile(np.float32([np.deg2rad(degrees), np.log(scale), right, down]), (3, 1))


def test_placements_are_uniform_and_within_their_bounds():
    placement = random_placements(4000, np.random.default_rng(0), rotation=30, scale=0.8, shift=0.1)
    assert placement.shape == (4000, 4) and placement.dtype == np.float32
    truth = truth_of(placement, 32)
    for values, low, high in [
        (truth["rotation"], -30, 30),
        (truth["scale"], 0.8, 1),
        (truth["shift"][:, 0], -3.2, 3.2),
        (truth["shift"][:, 1], -3.2, 3.2),
    ]:
        assert low <= values.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < values.max() <= high
        assert np.histogram(values, 4, (low, high))[0] == pytest.approx(1000, abs=120)


def test_an_upright_picture_of_the_same_size_stays_as_it_is():
    np.testing.assert_array_equal(misaligned(PICTURES, UPRIGHT, 24), PICTURES)


def test_quarter_turns_and_shifts_by_whole_pixels_are_exact():
    np.testing.assert_array_equal(misaligned(PICTURES, placed(90), 24), np.rot90(PICTURES, -1, (2, 3)))
    shifted = misaligned(PICTURES, placed(right=2 * 3 / 24, down=-2 * 2 / 24), 24)
    np.testing.assert_array_equal(shifted[:, :, :22, 3:], PICTURES[:, :, 2:, :21])
    np.testing.assert_array_equal(shifted[:, :, :22, 0], shifted[:, :, :22, 3])  # the border repeats


def test_a_crop_and_a_smaller_size_take_means_of_the_middle():
    blocks = PICTURES[:, :, 4:20, 4:20].reshape(3, 3, 8, 2, 8, 2).mean((3, 5))
    np.testing.assert_allclose(misaligned(PICTURES, UPRIGHT, 8, crop=16 / 24), blocks, atol=0.51)


def test_half_the_scale_shows_twice_as_much():
    small = misaligned(PICTURES, placed(scale=0.5), 8, crop=0.5)
    np.testing.assert_allclose(small, misaligned(PICTURES, UPRIGHT, 8), atol=40)
    assert np.abs(small.astype(float) - misaligned(PICTURES, UPRIGHT, 8)).mean() < 12
