from __future__ import annotations

import numpy as np
import pytest

from bench.datasets.occupancy import DUPLICATE, depth_views, near_duplicates, resized


def random_shapes(count: int, side: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((count, side, side, side)) < rng.uniform(0.05, 0.9, (count, 1, 1, 1))


def test_a_coarse_voxel_is_occupied_if_any_of_its_voxels_is():
    occupied = random_shapes(5) & random_shapes(5, seed=1)
    for size in (4, 2, 1):
        coarse, factor = resized(occupied, size), 8 // size
        for n, i, j, k in np.ndindex(coarse.shape):
            a, b, c = (slice(at * factor, (at + 1) * factor) for at in (i, j, k))
            assert coarse[n, i, j, k] == occupied[n, a, b, c].any()


def test_a_leg_of_one_voxel_stays():
    leg = np.zeros((1, 32, 32, 32), bool)
    leg[0, 5, :, 9] = True
    assert resized(leg, 16)[0, 2, :, 4].all() and resized(leg, 16).sum() == 16


def test_a_fine_voxel_is_what_the_coarse_one_was():
    occupied = random_shapes(3, 4)
    fine = resized(occupied, 12)
    np.testing.assert_array_equal(fine, np.kron(occupied, np.ones((1, 3, 3, 3), bool)))
    np.testing.assert_array_equal(resized(fine, 4), occupied)
    assert resized(occupied, 4) is occupied


@pytest.mark.parametrize("rows", [3, 256])
def test_near_duplicates_are_those_of_all_pairs(monkeypatch, rows):
    monkeypatch.setattr("bench.datasets.occupancy.ROWS", rows)
    rng = np.random.default_rng(0)
    shapes = random_shapes(30)
    changed = shapes.copy()
    for i, shape in enumerate(changed):  # by 0 to 10 % of the voxels
        occupied = np.flatnonzero(shape)
        shape.ravel()[rng.choice(occupied, i * len(occupied) // 300, replace=False)] = False
    everything = rng.permutation(np.concatenate([shapes, changed]))
    pairs = {tuple(sorted(pair)) for pair in zip(*near_duplicates(everything), strict=True)}
    expected = set()
    for i in range(60):
        for j in range(i + 1, 60):
            union = (everything[i] | everything[j]).sum()
            if (everything[i] & everything[j]).sum() / union > DUPLICATE:
                expected.add((i, j))
    assert pairs == expected and 5 < len(pairs) < 30
    assert len(pairs) == len(near_duplicates(everything)[0]), "each pair once"


def test_the_limit_itself_is_no_duplicate():
    shapes = np.zeros((3, 2, 5, 10), bool)
    shapes[0], shapes[1], shapes[2] = True, True, True
    shapes[1].flat[:5] = False  # 95 of 100
    shapes[2].flat[:4] = False  # 96 of 100, and 95 of 96 with the second
    assert sorted(map(tuple, map(sorted, zip(*near_duplicates(shapes), strict=True)))) == [(0, 2), (1, 2)]


def test_a_depth_view_is_0_where_nothing_is_and_brighter_where_it_is_near():
    occupied = np.zeros((1, 16, 16, 16), bool)
    occupied[0, 0, 2, 2] = occupied[0, 8, 2, 8] = occupied[0, 15, 13, 13] = True
    view = depth_views(occupied, 16, 0, 0)
    assert view.shape == (1, 1, 16, 16) and view.dtype == np.uint8
    expected = np.zeros((16, 16))
    # The grid is 16 voxels deep, over which the brightness falls from 255 to 64.
    expected[2, 2], expected[2, 8], expected[13, 13] = 255, 255 - 191 / 2, 255 - 191 * 15 / 16
    np.testing.assert_array_equal(view[0, 0], np.rint(expected))


def test_every_view_of_a_shape_has_a_background_and_a_surface():
    views = depth_views(random_shapes(4), 20, 30, 20)
    assert ((views == 0) | (views >= 64)).all() and (views == 0).any((1, 2, 3)).all()
    assert (depth_views(np.zeros((2, 8, 8, 8), bool), 20, 30, 20) == 0).all()
