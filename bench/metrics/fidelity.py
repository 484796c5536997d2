"""How far are samples from real images, in the features of a classifier? `fid` uses those of Inception.

test_features [N, F] and train_features [M, F] belong to real images in a fixed random order, sample_features [n, F] to
samples. floor: the value with n training images in place of the samples, or with all if there are fewer.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from bench.core import UnavailableError
from bench.metrics import Value, metric, summarise
from bench.metrics.checks import check_count
from bench.metrics.neighbours import COPIES, K, are_copies, check_neighbourhoods, ratio_of_means

ROWS = 1000  # compared at once with all others: only memory depends on it

# Two results: that of the samples, and the floor, which is the same for all models. A tensor's hash is its identity,
# which no other tensor can have while the cache holds it. Evidence is never modified.
_keep_two = lru_cache(maxsize=2)


def _root(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F] and a root R [<= F, F] of the unbiased covariance R'R, which may be singular."""
    mean = features.mean(0)
    # Not by the covariance's eigenvalues: the rounding error of the largest would exceed the small ones.
    return mean, torch.linalg.qr((features - mean) / math.sqrt(len(features) - 1), mode="r").R


def _frechet(one: Tensor, other: Tensor) -> float:
    """With S = R'R and T = Q'Q, tr (S T)^1/2 is the sum of the singular values of R Q'."""
    (mean, r), (other_mean, q) = _root(one.double()), _root(other.double())
    if not (r.isfinite().all() and q.isfinite().all()):
        return math.nan
    apart = (mean - other_mean).square().sum() + r.square().sum() + q.square().sum()
    return max((apart - 2 * torch.linalg.svdvals(r @ q.T).sum()).item(), 0.0)


@metric(better="lower", ideal=0.0)
def frechet_distance(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """|m - w|^2 + tr(S + T - 2 (S T)^1/2) of the means and covariances of both (Heusel et al. 2017, eq. 6).

    The squared Frechet or 2-Wasserstein distance of Gaussians fitted to them. Covariances are unbiased, the distance is
    not: it falls with the number of samples, and so does its floor. The published FID is `fid`.
    """
    return _frechet_value(test_features, sample_features, train_features)


@metric(better="lower", ideal=0.0)
def frechet_translations(test_features: Tensor, translated_features: Tensor, train_features: Tensor) -> Value:
    """`frechet_distance` between the test images and the model's outputs for the test examples, or a stage's."""
    return _frechet_value(test_features, translated_features, train_features)


def _frechet_value(test: Tensor, samples: Tensor, train: Tensor) -> Value:
    _check_pairs(test, samples, "a covariance")
    n = len(samples)
    return Value(_frechet(test, samples), n=n, floor=_frechet(test, train[:n]) if len(train) > 1 else None)


def _check_pairs(test: Tensor, samples: Tensor, purpose: str) -> None:
    check_count(len(test), 2, "test images", purpose)
    check_count(len(samples), 2, "samples", purpose)


def _kernel_means(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Means of k(a, b) over b, [len(a)], and over a, [len(b)]."""
    over_b, over_a = [], b.new_zeros(len(b))
    for rows in (a / a.shape[1]).split(ROWS):
        inner = (rows @ b.T).add_(1)
        kernel = inner * inner * inner
        over_b.append(kernel.mean(1))
        over_a += kernel.sum(0)
    return torch.cat(over_b), over_a / len(a)


@_keep_two
def _kernel_within(features: Tensor, n: int) -> Tensor:
    """The mean of k(a, b) over all b except a, for the first n features a, [n]."""
    a = features[:n].double()
    itself = (a.square().mean(1) + 1) ** 3
    return (len(a) * _kernel_means(a, a)[0] - itself) / (len(a) - 1)


@_keep_two
def _kernel_distance(test: Tensor, others: Tensor, n: int) -> tuple[float, float]:
    """The distance between test [N, F] and the first n others, and its standard error."""
    to_others, to_test = _kernel_means(test.double(), others[:n].double())
    sides = _kernel_within(test, len(test)) - to_others, _kernel_within(others, n) - to_test
    error = sum(4 * side.var() / len(side) for side in sides) ** 0.5
    return sum(side.mean().item() for side in sides), float(error)


@metric(better="lower", ideal=0.0)
def kernel_distance(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """Squared maximum mean discrepancy with the kernel (x.y / F + 1)^3 (Binkowski et al. 2018), over all pairs of rows.

    Unbiased (Gretton et al. 2012, eq. 3), so it may be below 0. se: from the first term of its Hoeffding decomposition,
    4 var(a) / N + 4 var(b) / n, where a is an image's mean kernel with the other images minus that with the samples,
    and b the same of a sample. If the distributions agree, that term vanishes and the se is some 1.4 times too wide.
    """
    _check_pairs(test_features, sample_features, "an unbiased kernel distance")
    n = len(sample_features)
    value, se = _kernel_distance(test_features, sample_features, n)
    floor = _kernel_distance(test_features, train_features, n)[0] if len(train_features) > 1 else None
    return Value(value, se, n, floor=floor)


# --- neighbours


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """[len(a), len(b)] float64, from differences: copies are exactly 0 apart, and the order of rows changes nothing."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


@_keep_two
def _radii(features: Tensor) -> Tensor:
    """The distance of each row to the K-th nearest other, [len(features)] float64."""
    nearest = [_distances(rows, features).topk(K + 1, largest=False).values for rows in features.split(ROWS)]
    return torch.cat(nearest)[:, K]  # the first is the image itself


class _Neighbours(NamedTuple):
    balls: Tensor  # the number of balls around test images that each sample lies in, [n]
    in_ball: Tensor  # whether each test image lies in a ball around a sample, [N]
    holds: Tensor  # whether the ball around each test image contains a sample, [N]
    test_radii: Tensor  # [N]
    radii: Tensor  # of the balls around samples, [n]


@_keep_two
def _neighbours(test: Tensor, others: Tensor, n: int) -> _Neighbours:
    """The neighbours of test [N, F] and the first n others, in float64; nan if a feature is not finite.

    The ball around an image contains what is nearer than its K-th nearest other of the same set.
    """
    others = others[:n]
    if not (test.isfinite().all() and others.isfinite().all()):
        return _Neighbours(*torch.full((5, 1), torch.nan, dtype=torch.float64))
    test_radii, radii = _radii(test), _radii(others)
    balls, in_ball, holds = test_radii.new_zeros(len(others)), [], []
    for rows, reach in zip(test.split(ROWS), test_radii.split(ROWS), strict=True):
        distances = _distances(rows, others)
        inside = distances < reach[:, None]
        balls += inside.sum(0)
        in_ball.append((distances < radii).any(1))
        holds.append(inside.any(1))
    return _Neighbours(balls, torch.cat(in_ball).double(), torch.cat(holds).double(), test_radii, radii)


def _summary(
    test: Tensor, samples: Tensor, train: Tensor, answer: Callable[[_Neighbours], Tensor], balls: str = "test images"
) -> Value:
    """The mean answer over samples or test images; its se takes the other set as given.

    balls: what the answer's balls are around, test images or samples. Copies of test images leave theirs empty, so that
    the answer would be 0. Samples that are all the same have empty balls too, and then 0 is the answer.
    """
    n, purpose = len(samples), f"a radius of {K} neighbours"
    check_count(len(test), K + 1, "test images", purpose)
    check_count(n, K + 1, "samples", purpose)
    found = _neighbours(test, samples, n)
    if balls == "test images":
        check_neighbourhoods(found.test_radii, test, "test images")
    value = summarise(answer(found))
    if len(train) <= K:
        return value
    reference = _neighbours(test, train, n)
    if balls == "samples" and are_copies(reference.radii, train[:n]).double().mean() > COPIES:
        return value
    return replace(value, floor=summarise(answer(reference)).value)


@metric(better="higher", ideal=1.0)
def precision(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """The share of samples that are nearer to a test image than its 5th neighbour (Kynkaanniemi et al. 2019, eq. 2)."""
    return _summary(test_features, sample_features, train_features, lambda found: found.balls.clamp(max=1))


@metric(better="higher", ideal=1.0)
def recall(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """The share of test images that are nearer to a sample than its 5th neighbour (Kynkaanniemi et al. 2019, eq. 2).

    n and se count test images. It is 0 for samples that are all the same.
    """
    return _summary(test_features, sample_features, train_features, lambda found: found.in_ball, balls="samples")


@metric(better="closest", ideal=1.0)
def density(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """The number of test images that a sample is nearer to than their 5th neighbour, over 5 (Naeem et al. 2020).

    It is 1 in expectation if the distributions agree, and above 1 if samples crowd where the data are densest. In many
    dimensions, samples at the centre of the data lie in every ball, so more is not better.
    """
    return _summary(test_features, sample_features, train_features, lambda found: found.balls / K)


@metric(better="higher", ideal=1.0)
def coverage(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """The share of test images with a sample nearer than their 5th neighbour (Naeem et al. 2020).

    If the distributions agree it is 1 - prod_i (N - i) / (N + n - i), i = 1 to 5: 0.97 for n = N, and less for fewer
    samples. In many dimensions, samples at the centre of the data cover most of it, which only recall shows. n and se
    count test images.
    """
    return _summary(test_features, sample_features, train_features, lambda found: found.holds)


@metric(better="closest", ideal=1.0)
def nearest_neighbour_ratio(sample_to_train: Tensor, test_to_train: Tensor) -> Value:
    """Mean distance of samples [n] to the nearest training image, over that of test images [N].

    At 1 samples are as near as new real images, towards 0 they are copies, and above 1 they are away from the data.
    Meehan et al. 2020 compare the same distances by rank. se: by the delta method, see `ratio_of_means`.
    """
    copies = "every test image is a copy of a training image: all distances are 0"
    return ratio_of_means(sample_to_train, test_to_train, copies)


# --- as published


class _Bytes(Dataset[Tensor]):
    """Images [N, 1 or 3, H, W] in [0, 1] in the form that torch-fidelity reads: uint8 [3, H, W] each."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return (self.images[i] * 255).round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)


@metric(better="lower", ideal=0.0, sides={2})
def fid(x: Tensor, samples: Tensor) -> Value:
    """The Frechet Inception distance (Heusel et al. 2017) between test images and samples in 8 bits, by torch-fidelity.

    Grey images are repeated over three channels. Published values use 50,000 samples; with fewer it is larger.
    """
    _check_pairs(x, samples, "a covariance")
    try:
        torch_fidelity = importlib.import_module("torch_fidelity")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch_fidelity":
            raise UnavailableError('needs torch-fidelity: pip install "latentbench[fid]"') from None
        reason = " ".join(str(error).split())
        raise UnavailableError(f"torch-fidelity is installed but does not import: {reason}") from error
    if not samples.isfinite().all():
        return Value(math.nan, n=len(samples))  # bytes cannot say so
    try:
        found = torch_fidelity.calculate_metrics(
            input1=_Bytes(samples), input2=_Bytes(x), fid=True, cuda=torch.cuda.is_available(), verbose=False
        )
    except OSError as error:
        raise UnavailableError(f"torch-fidelity could not fetch the weights of Inception: {error}") from error
    return Value(float(found["frechet_inception_distance"]), n=len(samples))
