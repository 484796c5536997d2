from __future__ import annotations

import numpy as np
import pytest

from bench.datasets.drawing import (
    as_bytes,
    blend,
    box,
    coordinates,
    coverage,
    ellipse,
    noise,
    polygon,
    reduced,
    segment,
    stroke,
)

SIZE = 64
UPRIGHT = coordinates(SIZE)
SQUARE = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]  # clockwise on the screen


def area(distance, place=UPRIGHT) -> np.ndarray:
    """Of what a distance is the outline of, where the image is 2 x 2."""
    return 4 * coverage(distance, place.pixel).mean((1, 2))


def placement(degrees=0.0, scale=1.0, right=0.0, down=0.0) -> np.ndarray:
    return np.array([[np.deg2rad(degrees), np.log(scale), right, down]])


# --- coordinates


def test_upright_coordinates_are_those_of_pixel_centres():
    u, v, pixel = coordinates(4)
    np.testing.assert_allclose(u[0, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(v[0, :, 0], u[0, 0])
    assert pixel == 0.5


def test_a_placement_of_zeros_changes_nothing():
    u, v, pixel = coordinates(5, placement())
    np.testing.assert_allclose(u, np.broadcast_to(coordinates(5).u, (1, 5, 5)))
    np.testing.assert_allclose(v, np.broadcast_to(coordinates(5).v, (1, 5, 5)))
    assert pixel.shape == (1, 1, 1) and pixel.item() == 2 / 5


@pytest.mark.parametrize("values", [(30, 0.8, 0.1, -0.2), (-70, 0.5, 0.0, 0.3)])
def test_a_point_appears_at_scale_times_rotation_of_it_plus_shift(values):
    degrees, scale, right, down = values
    u, v, pixel = coordinates(SIZE, placement(*values))
    angle = np.deg2rad(degrees)
    seen_u = scale * (np.cos(angle) * u - np.sin(angle) * v) + right
    seen_v = scale * (np.sin(angle) * u + np.cos(angle) * v) + down
    np.testing.assert_allclose(seen_u, np.broadcast_to(UPRIGHT.u, u.shape), atol=1e-12)
    np.testing.assert_allclose(seen_v, np.broadcast_to(UPRIGHT.v, v.shape), atol=1e-12)
    assert pixel.item() == pytest.approx(2 / SIZE / scale)


def test_a_positive_rotation_is_clockwise_on_the_screen():
    u, v, pixel = coordinates(SIZE, placement(degrees=90))
    image = coverage(box(u - 0.5, v, 0.2, 0.2), pixel)[0]  # to the right of the object's centre
    rows, columns = np.nonzero(image)
    assert rows.mean() > 0.7 * SIZE and columns.mean() == pytest.approx((SIZE - 1) / 2)


# --- distances


@pytest.mark.parametrize("at", [placement(), placement(20, 0.9, 0.03, -0.02)])
@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (lambda u, v: ellipse(u, v, 0.6, 0.3), np.pi * 0.6 * 0.3),
        (lambda u, v: box(u, v, 0.6, 0.3), 4 * 0.6 * 0.3),
        (lambda u, v: box(u, v, 0.6, 0.3, 0.1), 4 * 0.6 * 0.3 - (4 - np.pi) * 0.1**2),
        (lambda u, v: segment(u, v, (-0.4, -0.1), (0.4, 0.1)) - 0.1, np.pi * 0.1**2 + 0.2 * np.hypot(0.8, 0.2)),
        (lambda u, v: polygon(u, v, SQUARE), 1.0),
        (lambda u, v: polygon(u, v, [(0, -0.5), (0.5, 0.5), (-0.5, 0.5)]), 0.5),
    ],
)
def test_a_shape_covers_its_area_at_any_placement(distance, expected, at):
    place = coordinates(SIZE, at)
    assert area(distance(place.u, place.v), place).item() == pytest.approx(expected * np.exp(2 * at[0, 1]), rel=5e-3)


def test_distances_are_exact_outside_a_box_and_from_a_segment():
    point = np.array([[[0.9]]]), np.array([[[0.8]]])
    assert box(*point, 0.5, 0.5).item() == pytest.approx(np.hypot(0.4, 0.3))
    assert box(0 * point[0], 0 * point[1], 0.5, 0.2).item() == pytest.approx(-0.2)
    assert segment(*point, (0, 0), (0.5, 0.5)).item() == pytest.approx(np.hypot(0.4, 0.3))
    assert segment(*point, (0, 0.3), (2, 0.3)).item() == pytest.approx(0.5)


# --- layers


@pytest.mark.parametrize("width", [0.2, 0.02, 0.002])  # a pixel is 1/32
def test_a_stroke_covers_its_area_however_thin_it_is(width):
    line = np.abs(UPRIGHT.u - 0.111) + 0 * UPRIGHT.v
    assert 4 * stroke(line, width, UPRIGHT.pixel).mean() == pytest.approx(2 * width, rel=1e-6)


def test_softness_widens_the_edge():
    edge = coordinates(SIZE).u + 0 * UPRIGHT.v
    hard, soft = coverage(edge, UPRIGHT.pixel), coverage(edge, UPRIGHT.pixel, 0.5)
    assert ((hard > 0) & (hard < 1)).sum() == 0 and ((soft > 0) & (soft < 1)).mean() == pytest.approx(0.25, abs=0.05)
    assert hard.mean() == pytest.approx(soft.mean()) == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 8, 8)])
def test_blend_mixes_by_coverage_in_place(shape):
    images, cover, colour = np.full((2, 3, 8, 8), 0.2), np.full((2, 8, 8), 0.25), np.full(shape, 0.6)
    blend(images, cover, colour)
    np.testing.assert_allclose(images, 0.3)


def test_bytes_are_rounded_and_clipped():
    np.testing.assert_array_equal(as_bytes(np.array([-0.1, 0.0, 0.5019, 1.0, 1.2])), [0, 0, 128, 255, 255])


def test_reduced_is_the_mean_of_blocks():
    images = np.arange(32.0).reshape(1, 2, 4, 4)
    np.testing.assert_allclose(reduced(images, 2)[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(reduced(images, 1), images)


# --- noise


def test_noise_interpolates_its_lattice_and_repeats_it():
    lattice = np.random.default_rng(0).normal(size=(2, 4, 4))
    corner = np.arange(4) / 2 - 1
    u, v = corner[np.newaxis, np.newaxis], corner[np.newaxis, :, np.newaxis]
    np.testing.assert_allclose(noise(lattice, u, v), lattice)
    np.testing.assert_allclose(noise(lattice, u + 2, v - 4), lattice)
    between = noise(lattice, u + 0.25, v)
    np.testing.assert_allclose(between, (lattice + np.roll(lattice, -1, 2)) / 2)


def test_noise_turns_with_its_object():
    lattice = np.random.default_rng(0).normal(size=(1, 5, 5))
    turned = coordinates(SIZE, placement(degrees=90))
    upright = noise(lattice, UPRIGHT.u, UPRIGHT.v)[0]
    np.testing.assert_allclose(noise(lattice, turned.u, turned.v)[0], np.rot90(upright, -1), atol=1e-9)
