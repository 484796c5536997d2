"""Views of voxels, compared with projections by hand and with rays that are followed step by step."""

from __future__ import annotations

import numpy as np
import pytest

from bench.rays import axes, first_hits

VIEWS = [(0, 0), (30, 20), (-110, 35), (45, 35.26), (180, -50), (12, 90)]


def blobs(shape=(6, 7, 5), seed=0, count=3, share=0.1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape)) < share


def width_of(shape: tuple[int, ...], azimuth: float, elevation: float) -> float:
    """Half the side of the picture, in voxels: the farthest corner of the grid from the middle, along either side."""
    corners = (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5) * shape
    return np.abs(corners @ axes(azimuth, elevation)[1:].T).max()


@pytest.mark.parametrize("view", VIEWS)
def test_axes_are_orthonormal_and_right_handed(view):
    away, down, right = axes(*view)
    np.testing.assert_allclose(axes(*view) @ axes(*view).T, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(np.cross(down, right), away, atol=1e-15)
    assert down[1] >= -1e-15, "upright"


def test_the_viewer_is_to_the_right_of_the_front_and_above():
    camera = -axes(30, 20)[0]
    assert camera[0] < 0 and camera[2] > 0, "in front of depth 0, beyond the right side"
    assert camera[1] < 0, "above the first row"


def test_from_the_front_a_pixel_is_a_voxel_and_its_depth_the_number_of_empty_ones():
    occupied = blobs((9, 8, 8), count=20)
    hits = first_hits(occupied, 8, 0, 0)
    found = occupied.any(1)
    np.testing.assert_array_equal(hits.face, np.where(found, 0, -1))
    np.testing.assert_allclose(hits.depth, np.where(found, occupied.argmax(1), np.inf), atol=1e-6)
    assert hits.reach == pytest.approx(9) and 0.05 < found.mean() < 0.95


@pytest.mark.parametrize(
    ("view", "turned"),
    [
        ((90, 0), lambda x: x.transpose(0, 3, 2, 1)[:, ::-1]),  # the last column is near, the front to the left
        ((-90, 0), lambda x: x.transpose(0, 3, 2, 1)[..., ::-1]),
        ((180, 0), lambda x: x[:, ::-1, :, ::-1]),
        ((0, 90), lambda x: x.transpose(0, 2, 1, 3)[:, :, ::-1]),  # the first row is near, the front at the bottom
        ((0, -90), lambda x: x.transpose(0, 2, 1, 3)[:, ::-1]),
    ],
)
def test_a_view_from_a_side_is_that_of_the_turned_voxels_from_the_front(view, turned):
    occupied = blobs((8, 8, 8), count=20)
    hits, front = first_hits(occupied, 8, *view), first_hits(turned(occupied), 8, 0, 0)
    np.testing.assert_allclose(hits.depth, front.depth, atol=1e-6)


@pytest.mark.parametrize("view", VIEWS)
def test_the_silhouette_of_a_full_grid_has_the_area_of_its_visible_faces(view):
    """A face with the normal n covers its area times |n . away|. Vertical edges are exact to a column of pixels."""
    shape = (6, 7, 5)
    hits = first_hits(np.ones((1, *shape), bool), 301, *view)
    areas = np.array([7 * 5, 6 * 5, 6 * 7]) * np.abs(axes(*view)[0]).round(12)
    pixel = (2 * width_of(shape, *view) / 301) ** 2
    for face in range(3):
        assert (hits.face == face).sum() * pixel == pytest.approx(areas[face], rel=0.01)
    assert hits.depth[hits.face >= 0].max() <= hits.reach


@pytest.mark.parametrize("view", VIEWS)
def test_a_voxel_is_where_its_centre_is_projected_to(view):
    shape, place = (9, 9, 9), np.array([1, 6, 7])
    occupied = np.zeros((1, *shape), bool)
    occupied[0, *place] = True
    hits = first_hits(occupied, 180, *view)
    row, column = np.argwhere(hits.face[0] >= 0).mean(0)
    away, down, right = axes(*view) @ (place + 0.5 - np.array(shape) / 2)
    pixels = 180 / (2 * width_of(shape, *view))
    assert (row + 0.5, column + 0.5) == pytest.approx((90 + down * pixels, 90 + right * pixels), abs=0.4)
    half = np.abs(axes(*view)[0]).sum() / 2  # of the voxel's depth
    assert hits.depth.min() == pytest.approx(hits.reach / 2 + away - half, abs=0.15)


@pytest.mark.parametrize("view", VIEWS[1:])
def test_rays_equal_rays_that_are_followed_in_small_steps(view):
    occupied, side, step = blobs(share=0.08), 40, 0.002
    shape = occupied.shape[1:]
    hits = first_hits(occupied, side, *view)
    away, down, right = axes(*view)
    along = ((np.arange(side) + 0.5) * 2 / side - 1) * width_of(shape, *view)
    start = np.array(shape) / 2 - hits.reach / 2 * away
    start = start + along[:, None, None] * down + along[:, None] * right
    expected = np.full((len(occupied), side, side), np.inf)
    for depth in np.arange(0, hits.reach, step):
        place = np.floor(start + depth * away).astype(int)
        inside = ((place >= 0) & (place < shape)).all(2)
        at = np.where(inside[..., None], place, 0)
        hit = occupied[:, at[..., 0], at[..., 1], at[..., 2]] & inside
        expected = np.where(hit & np.isinf(expected), depth, expected)
    same = np.isclose(hits.depth, expected, atol=2 * step)
    assert same.mean() > 0.995, "all but rays that touch an edge within a step"
    assert 0.1 < np.isfinite(expected).mean() < 0.9


def test_nearer_voxels_hide_farther_ones():
    near, far = np.zeros((2, 1, 8, 8, 8), bool)
    near[0, 2, 3:5, 3:5], far[0, 6, 3:5, 3:5] = True, True
    both, alone = first_hits(near | far, 64, 10, 10), [first_hits(one, 64, 10, 10) for one in (near, far)]
    np.testing.assert_array_equal(both.depth, np.minimum(alone[0].depth, alone[1].depth))
    assert (np.isfinite(alone[0].depth) & np.isfinite(alone[1].depth)).sum() > 20


def test_shapes_do_not_depend_on_the_others(monkeypatch):
    occupied = blobs(count=50)
    whole = first_hits(occupied, 20, 30, 20)
    monkeypatch.setattr("bench.rays.AT_ONCE", 10_000)
    parts = first_hits(occupied, 20, 30, 20)
    np.testing.assert_array_equal(whole.depth, parts.depth)
    np.testing.assert_array_equal(whole.face[7], first_hits(occupied[7:8], 20, 30, 20).face[0])
    assert first_hits(occupied[:0], 20, 30, 20).depth.shape == (0, 20, 20)
