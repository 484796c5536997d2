from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_swiss_roll

from bench.core import InputError
from bench.datasets import Source, load, prepare
from bench.datasets.toys import blobs, gaussian_grid, swiss_roll


def together(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """All points [N, D], in double precision, and their labels."""
    x = np.concatenate([source.train.x, source.test.x])
    return x.reshape(len(x), -1).astype(np.float64), np.concatenate([source.train.label, source.test.label])


# --- mixtures


@pytest.mark.parametrize(
    "source",
    [gaussian_grid(), gaussian_grid(side=3, sigma=0.02, data_seed=1), blobs(), blobs(4, 7, sigma=2.5, data_seed=1)],
    ids=["25 modes", "9 modes", "10 blobs", "7 dimensions"],
)
def test_each_mode_has_its_known_mean_and_sigma(source):
    x, label = together(source)
    centres, sigma = source.modes.reshape(len(source.modes), -1), source.mode_sigma
    assert source.modes.dtype == np.float32 and set(label) == set(range(len(centres)))
    for mode, centre in enumerate(centres):
        deviation = (x[label == mode] - centre) / sigma
        n = len(deviation)
        assert np.abs(deviation.mean(0)).max() < 5 / n**0.5
        assert np.abs((deviation**2).mean(0) - 1).max() < 5 * (2 / n) ** 0.5
        between = np.corrcoef(deviation.T)[np.triu_indices(centres.shape[1], 1)]
        assert np.abs(between).max() < 5 / n**0.5
    share = np.bincount(label) / len(label)
    assert np.abs(share - 1 / len(centres)).max() < 5 * (1 / len(centres) / len(label)) ** 0.5


def test_the_grid_is_the_usual_one_divided_by_ten():
    usual = [(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]
    source = gaussian_grid(train=10, test=2)
    np.testing.assert_allclose(source.modes[:, 0, 0], np.array(usual) / 10 + 0.5, atol=1e-7)
    assert source.modes.shape == (25, 1, 1, 2) and source.mode_sigma == 0.05 / 10
    assert source.train.x.shape == (10, 1, 1, 2) and source.test.x.shape == (2, 1, 1, 2)


def test_blobs_are_those_of_scikit_learn_with_one_scale_for_all_axes():
    points, label, centres = make_blobs(70, 3, centers=4, cluster_std=0.5, random_state=5, return_centers=True)
    source = blobs(4, 3, sigma=0.5, train=50, test=20, data_seed=5)
    x, y = together(source)
    np.testing.assert_array_equal(y, label)
    np.testing.assert_allclose(x * 26 - 13, points, atol=1e-5)
    np.testing.assert_allclose(source.modes[:, 0, 0] * 26.0 - 13, centres, atol=1e-5)
    assert source.mode_sigma * 26 == pytest.approx(0.5)


@pytest.mark.parametrize(("side", "sigma", "limit"), [(5, 0.02, r"0\.0167"), (1, 0.1, r"0\.0833")])
def test_a_grid_whose_points_would_leave_the_square_is_refused(side, sigma, limit):
    with pytest.raises(InputError, match=rf"^dataset\.sigma={sigma} is too large: .*give less than {limit}$"):
        gaussian_grid(side, sigma)


# --- the swiss roll


def unscaled(source: Source) -> np.ndarray:
    return (together(source)[0] - 0.5) * 36 + [0, 10.5, 0]


def test_points_lie_on_the_roll_at_their_factors():
    source = swiss_roll(train=2000, test=500)
    x, height, z = unscaled(source).T
    factors = np.concatenate([source.train.factors, source.test.factors])
    t = 1.5 * np.pi * (1 + 2 * factors[:, 0].astype(np.float64))
    np.testing.assert_allclose(np.hypot(x, z), t, atol=1e-5)
    np.testing.assert_allclose(np.stack([x, z]), t * np.stack([np.cos(t), np.sin(t)]), atol=1e-5)
    np.testing.assert_allclose(height, 21 * factors[:, 1], atol=1e-5)
    for factor in factors.T:
        assert (
            0 <= factor.min() < 0.01 and 0.99 < factor.max() < 1 and abs(factor.mean() - 0.5) < 5 / (12 * 2500) ** 0.5
        )


def test_it_is_the_roll_of_scikit_learn():
    points, t = make_swiss_roll(2000, random_state=0)
    np.testing.assert_allclose(points[:, [0, 2]].T, t * np.stack([np.cos(t), np.sin(t)]))
    ours = unscaled(swiss_roll(train=1500, test=500))
    span = np.ptp(points, axis=0)
    assert np.all(np.abs(ours.min(0) - points.min(0)) < 0.02 * span)
    assert np.all(np.abs(ours.max(0) - points.max(0)) < 0.02 * span)


def test_labels_are_ten_equal_intervals_of_the_roll():
    source = swiss_roll(train=2000, test=500)
    order = np.argsort(source.train.factors[:, 0])
    assert np.all(np.diff(source.train.label[order]) >= 0)
    for label in range(10):
        t = source.train.factors[source.train.label == label, 0]
        assert label / 10 <= t.min() < t.max() <= (label + 1) / 10


def test_noise_has_the_set_standard_deviation_around_the_same_points():
    apart = unscaled(swiss_roll(noise=0.5)) - unscaled(swiss_roll())
    assert np.abs(apart.std(0) / 0.5 - 1).max() < 5 / (2 * len(apart)) ** 0.5
    assert np.abs(apart.mean(0)).max() < 5 * 0.5 / len(apart) ** 0.5
    with pytest.raises(InputError, match=r"^dataset\.noise=0\.7 is too large, .*: give at most 0\.64$"):
        swiss_roll(noise=0.7)
    assert prepare(swiss_roll(noise=0.64)).shapes[:2] == ((1, 1, 3), 10)


# --- all of them


@pytest.mark.parametrize("toy", [gaussian_grid, blobs, swiss_roll])
def test_the_points_depend_on_the_data_seed(toy):
    one, again, other = (toy(train=100, test=50, data_seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.train.x, again.train.x)
    assert not np.array_equal(one.test.x, other.test.x) and not np.array_equal(one.train.x[:50], one.test.x)


@pytest.mark.parametrize("change", [{"sigma": 0}, {"side": 0}, {"train": 0}, {"data_seed": -1}])
def test_a_wrong_option_is_named(change):
    with pytest.raises(InputError, match=rf"^dataset\.{next(iter(change))}="):
        load({"_target_": "bench.datasets.toys.gaussian_grid"} | change)
