"""Toy data with a known density: points in a few dimensions, stored as images of one row, [1, 1, D] in [0, 1]."""

from __future__ import annotations

import math

import numpy as np

from bench.core import Count, InputError, Level, Positive
from bench.data import Split
from bench.datasets import Seed, Source
from bench.datasets.bounds import check_memory

COPIES = 24  # bytes of a number while points are drawn and converted
MARGIN = 6  # standard deviations kept free at the edge: one normal draw in 5e8 lies further out
BOX = 10.0  # make_blobs draws its centres uniformly in [-10, 10]
TURN, WIDTH = 1.5 * math.pi, 21.0  # the swiss roll's t lies in [TURN, 3 TURN], its height in [0, WIDTH]
HALF = 18.0  # half the side of the cube scaled to [0, 1]: the roll reaches 3 TURN = 14.1, the rest is room for noise
INTERVALS = 10  # intervals of t of equal length: the labels of the roll


def gaussian_grid(
    side: Count = 5, sigma: Positive = 0.005, train: Count = 20_000, test: Count = 5_000, data_seed: Seed = 0
) -> Source:
    """x: [N, 1, 1, 2] float32, an equal mixture of side^2 normals on a grid; labels and modes in row order.

    Centres lie at (2 i + 1) / (2 side), so the defaults are the usual 25 modes at {-4, -2, 0, 2, 4}^2 with sigma 0.05,
    divided by 10 and moved by 1/2. Raises InputError for a sigma so large that points would leave [0, 1].

    Source: the 2D-grid of VEEGAN (Srivastava et al. 2017), with the variance of PacGAN (Lin et al. 2018).
    """
    edge = 1 / (2 * side)
    if MARGIN * sigma >= edge:
        raise InputError(
            f"dataset.sigma={sigma} is too large: the outer modes lie {edge:g} from the edge of [0, 1], and {MARGIN} "
            f"sigma must fit between; give less than {edge / MARGIN:.3g}"
        )
    _check_size("dataset.side", side * side, 2)
    _check_size("dataset.train and dataset.test", train + test, 2)
    rng = np.random.default_rng(data_seed)
    along = (2 * np.arange(side) + 1) * edge
    centres = np.stack(np.meshgrid(along, along, indexing="ij"), -1).reshape(-1, 2)
    label = rng.integers(len(centres), size=train + test)
    return _mixture(rng.normal(centres[label], sigma), label, train, centres, sigma)


def blobs(
    centers: Count = 10,
    features: Count = 2,
    sigma: Positive = 1.0,
    train: Count = 20_000,
    test: Count = 5_000,
    data_seed: Seed = 0,
) -> Source:
    """x: [N, 1, 1, features] float32, scikit-learn's isotropic Gaussian blobs; label: the blob.

    sigma is in the units of `make_blobs`, whose centres are uniform in [-10, 10]. This box, plus six sigma on each
    side, is scaled to [0, 1], and so are modes and mode_sigma.
    """
    from sklearn.datasets import make_blobs  # slow to import, and not needed by `bench --help`

    _check_size("dataset.features and dataset.centers", centers, features)
    _check_size("dataset.features, dataset.train and dataset.test", train + test, features)
    x, label, centres = make_blobs(
        train + test, features, centers=centers, cluster_std=sigma, random_state=data_seed, return_centers=True
    )
    half = BOX + MARGIN * sigma
    return _mixture(_scaled(x, half), label, train, _scaled(centres, half), sigma / (2 * half))


def swiss_roll(noise: Level = 0.0, train: Count = 20_000, test: Count = 5_000, data_seed: Seed = 0) -> Source:
    """x: [N, 1, 1, 3] float32, (t cos t, height, t sin t) for uniform t in [1.5 pi, 4.5 pi] and height in [0, 21].

    Normal noise is added in the same units. Then the cube of side 36 around the roll's axis becomes [0, 1]^3. Factors:
    t and height, each scaled to [0, 1]; label: which of ten equal intervals of t. Raises InputError for noise
    so large that points would leave [0, 1].

    Source: scikit-learn's `make_swiss_roll`, after Marsland, "Machine Learning: An Algorithmic Perspective" (2014).
    """
    most = (HALF - 3 * TURN) / MARGIN
    if noise > most:
        raise InputError(f"dataset.noise={noise} is too large, points would leave [0, 1]: give at most {most:.2f}")
    _check_size("dataset.train and dataset.test", train + test, 3)
    rng = np.random.default_rng(data_seed)
    factors = rng.random((train + test, 2), np.float32)
    along, across = factors.T.astype(np.float64)
    t = TURN * (1 + 2 * along)
    points = np.stack([t * np.cos(t), WIDTH * (across - 0.5), t * np.sin(t)], -1)
    x = _as_images(_scaled(points + noise * rng.standard_normal(points.shape), HALF))
    label = (along * INTERVALS).astype(np.int64)
    whole = Split(x, label, factors)
    return Source(whole.rows(slice(train)), whole.rows(slice(train, None)), classes=range(INTERVALS), range=(0, 1))


def _check_size(what: str, points: int, features: int) -> None:
    """Raises InputError for points that do not fit into memory. what: the options that decide their number."""
    check_memory(f"{what}: this many numbers", COPIES * points * features, "make them smaller")


def _scaled(points: np.ndarray, half: float) -> np.ndarray:
    """[-half, half] to [0, 1]."""
    return points / (2 * half) + 0.5


def _as_images(points: np.ndarray) -> np.ndarray:
    """[N, D] -> [N, 1, 1, D] float32."""
    return points.astype(np.float32)[:, np.newaxis, np.newaxis]


def _mixture(points: np.ndarray, label: np.ndarray, train: int, centres: np.ndarray, sigma: float) -> Source:
    whole = Split(_as_images(points), label)
    return Source(
        whole.rows(slice(train)),
        whole.rows(slice(train, None)),
        classes=range(len(centres)),
        range=(0, 1),
        modes=_as_images(centres),
        mode_sigma=sigma,
    )
