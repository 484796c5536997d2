"""Pictures of voxels and waves, compared with geometry and with sines."""

from __future__ import annotations

import numpy as np
import pytest

from bench.evaluation.views import (
    AZIMUTH,
    DECIBELS,
    ELEVATION,
    FRAME,
    INK,
    PAPER,
    draw_spectrograms,
    draw_voxels,
    draw_waves,
    pack_voxels,
)
from bench.rays import axes, first_hits


def cube(low: int = 0, high: int = 8, side: int = 8) -> np.ndarray:
    voxels = np.zeros((1, side, side, side), np.float32)
    voxels[:, low:high, low:high, low:high] = 1
    return voxels


# --- voxels


def test_a_picture_shows_three_sides_of_a_cube_the_top_brightest():
    picture = draw_voxels(cube(), 96)
    assert picture.shape == (1, 3, 96, 96) and picture.dtype == np.uint8
    background = (picture == PAPER).all(1)[0]
    hits = first_hits(cube() > 0, 96, AZIMUTH, ELEVATION)
    assert (background == (hits.face[0] < 0)).mean() > 0.96, "all but the edge"
    light = [picture[0, 1][(hits.face[0] == face) & ~background].mean() for face in range(3)]
    assert light[1] > 1.2 * light[0] > 1.5 * light[2] > 0
    columns = np.broadcast_to(np.arange(96), (96, 96))
    front, right = (columns[hits.face[0] == face].mean() for face in (0, 2))
    assert front < right, "the viewer is to the right of the front, so that the right side is at the right"


def test_the_edges_of_a_shape_are_smooth():
    picture, hits = draw_voxels(cube(), 64)[0, 0].astype(int), first_hits(cube() > 0, 128, AZIMUTH, ELEVATION)
    covered = (hits.face[0] >= 0).reshape(64, 2, 64, 2).mean((1, 3))
    partly = (covered > 0) & (covered < 1)
    assert partly.sum() > 50 and (picture[covered == 0] == PAPER).all()
    brightest = picture[covered == 1].max()
    assert (picture[partly] < PAPER).all() and (picture[(covered > 0) & (covered < 0.3)] > brightest).all()


def test_a_voxel_is_drawn_where_it_is():
    voxels = np.zeros((1, 9, 9, 9), np.float32)
    voxels[0, 2, 1, 7] = 0.6
    drawn = (draw_voxels(voxels, 90) != PAPER).any(1)[0]
    _, down, right = axes(AZIMUTH, ELEVATION) @ (np.array([2, 1, 7]) - 4)
    corners = (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5) * 9
    pixels = 45 / np.abs(corners @ axes(AZIMUTH, ELEVATION)[1:].T).max()
    assert np.argwhere(drawn).mean(0) + 0.5 == pytest.approx((45 + down * pixels, 45 + right * pixels), abs=0.6)


def test_a_nearer_shape_hides_a_farther_one_and_is_brighter():
    near, far = cube(0, 3), cube(5, 8)
    front = {"azimuth": 0.0, "elevation": 0.0}
    pictures = draw_voxels(np.concatenate([near, far, np.maximum(cube(0, 8) * 0, near)]), 64, **front)
    assert pictures[0].min() > pictures[1].min(), "the same side of a farther cube is darker"
    wall = np.zeros_like(near)
    wall[:, 7] = 1
    both = draw_voxels(np.maximum(near, wall), 64, **front)[0]
    alone = draw_voxels(near, 64, **front)[0]
    inside = (alone != PAPER).any(0)
    np.testing.assert_array_equal(both[:, inside], alone[:, inside])


def test_only_voxels_above_a_half_are_drawn_and_each_shape_has_its_own_picture():
    shapes = np.random.default_rng(0).random((5, 6, 7, 8))
    pictures = draw_voxels(shapes, 40)
    np.testing.assert_array_equal(pictures, draw_voxels((shapes > 0.5).astype(float), 40))
    np.testing.assert_array_equal(pictures[3], draw_voxels(shapes[3:4], 40)[0])
    assert (draw_voxels(np.full((2, 4, 4, 4), 0.5), 24) == PAPER).all()
    assert draw_voxels(shapes[:0], 40).shape == (0, 3, 40, 40)


def test_packed_voxels_are_those_of_numpy():
    shapes = np.random.default_rng(0).random((3, 5, 3, 7))  # whose voxels do not fill the last byte
    packed = pack_voxels(shapes)
    assert packed.shape == (3, 14) and packed.dtype == np.uint8
    np.testing.assert_array_equal(np.unpackbits(packed, axis=1)[:, :105].reshape(shapes.shape), shapes > 0.5)
    assert pack_voxels(np.zeros((1, 32, 32, 32))).shape == (1, 4096)


# --- waves


def tone(frequency: float, amplitude: float = 1.0, count: int = 4096) -> np.ndarray:
    """[1, 1, count] in [0, 1]; frequency: cycles per sample."""
    return 0.5 + amplitude / 2 * np.sin(2 * np.pi * frequency * np.arange(count))[None, None]


def test_silence_is_a_line_in_the_middle():
    picture = draw_waves(np.full((2, 1, 1000), 0.5), 40, 50)
    assert picture.shape == (2, 1, 40, 50) and picture.dtype == np.uint8
    dark = (PAPER - picture[0, 0].astype(float)) / (PAPER - INK)
    np.testing.assert_allclose(dark.sum(0), 1, atol=0.01)  # a pixel of ink in each column
    assert (dark[:19] == 0).all() and (dark[21:] == 0).all()


def test_the_envelope_is_as_high_as_the_wave():
    for amplitude in (1.0, 0.5):
        picture = draw_waves(tone(0.031, amplitude), 40, 64)[0, 0]
        dark = ((PAPER - picture.astype(float)) / (PAPER - INK)).sum(0)
        assert dark == pytest.approx(40 * amplitude, abs=1.5)
        assert (picture[20] == INK).all()


def test_up_is_up_and_time_goes_to_the_right():
    ramp = np.linspace(0, 1, 1000)[None, None]
    picture = draw_waves(ramp, 50, 50)[0, 0].astype(float)
    centre = ((PAPER - picture) * np.arange(50)[:, None]).sum(0) / (PAPER - picture).sum(0)
    assert centre == pytest.approx(49 - np.arange(50), abs=0.6)


def test_a_short_wave_is_drawn_and_all_channels_are():
    assert draw_waves(np.full((1, 1, 7), 0.5), 20, 50).shape == (1, 1, 20, 50)
    stereo = np.stack([np.full(100, 0.1), np.full(100, 0.9)])[None]
    picture = draw_waves(stereo, 20, 10)[0, 0]
    assert (picture[3:17] == INK).all() and (picture[0] == PAPER).all()


@pytest.mark.parametrize("frequency", [0.05, 0.2, 0.4])
def test_a_tone_is_a_line_at_its_frequency(frequency):
    picture = draw_spectrograms(tone(frequency), 64, 80)
    assert picture.shape == (1, 1, 64, 80) and picture.dtype == np.uint8
    row = 64 * (1 - frequency / 0.5)  # 0.5 cycles per sample at the top
    assert picture[0, 0].argmin(0) == pytest.approx(row, abs=1.5)
    assert picture.min() <= INK + 2 and np.median(picture) > PAPER - 30


def test_the_level_of_a_tone_is_its_grey():
    frequency = 40 / FRAME  # in the middle of a band of the spectrum
    for decibels in (0, -20, -60, -100):
        picture = draw_spectrograms(tone(frequency, 10 ** (decibels / 20)), 129, 20)
        expected = PAPER + (INK - PAPER) * max(0, 1 + decibels / DECIBELS)
        assert picture.min() == pytest.approx(expected, abs=1)


def test_a_change_of_tone_is_where_it_happens():
    wave = np.concatenate([tone(0.1, count=4096), tone(0.4, count=4096)], 2)
    rows = draw_spectrograms(wave, 64, 100)[0, 0].argmin(0)
    assert (rows[:47] > 45).all() and (rows[53:] < 20).all()


def test_a_short_or_silent_wave_has_a_spectrogram():
    assert draw_spectrograms(tone(0.2, count=100), 32, 20).min() < PAPER - 50
    assert (draw_spectrograms(np.full((1, 2, 1000), 0.5)) == PAPER).all()
