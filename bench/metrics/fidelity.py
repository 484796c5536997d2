"""How far are samples from real images, in the features of a classifier? And as published, in those of Inception.

test_features [N, F] and train_features [M, F] are of real images in a fixed random order, sample_features [n, F] of
samples. floor: what as many training images get in the samples' place, or all of them, where there are fewer.
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
from bench.metrics.neighbours import ratio_of_means

K = 5  # nearest neighbours, as in Naeem et al. 2020 and their package prdc; Kynkaanniemi et al. 2019 have 3
ROWS = 1000  # compared at once with all others: changes nothing but memory

# Two: what follows from the samples, and the floor, which is the same for all models. A tensor's hash is its identity,
# which no other can take while it is kept; and evidence is not written to.
_keep_two = lru_cache(maxsize=2)


def _root(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F] and a root R [<= F, F] of the unbiased covariance R'R, which need not have full rank."""
    mean = features.mean(0)
    # Not from the covariance's eigenvalues: their error is that of the largest, and its root swamps the small ones.
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
    not: it falls with the number of samples, as its floor does. What is published as FID is `fid`.
    """
    n = len(sample_features)
    floor = _frechet(test_features, train_features[:n])
    return Value(_frechet(test_features, sample_features), n=n, floor=floor)


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
    """Of the first n: the mean of k(a, b) over all b but a itself, [n]."""
    a = features[:n].double()
    itself = (a.square().mean(1) + 1) ** 3
    return (len(a) * _kernel_means(a, a)[0] - itself) / (len(a) - 1)


@_keep_two
def _kernel_distance(test: Tensor, others: Tensor, n: int) -> tuple[float, float]:
    """The distance of test [N, F] and the first n others, and its standard error."""
    to_others, to_test = _kernel_means(test.double(), others[:n].double())
    sides = _kernel_within(test, len(test)) - to_others, _kernel_within(others, n) - to_test
    error = sum(4 * side.var() / len(side) for side in sides) ** 0.5
    return sum(side.mean().item() for side in sides), float(error)


@metric(better="lower", ideal=0.0)
def kernel_distance(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """Squared maximum mean discrepancy with the kernel (x.y / F + 1)^3 (Binkowski et al. 2018), over all pairs of rows.

    Unbiased (Gretton et al. 2012, eq. 3), so it may be below 0. se: of the first term of its Hoeffding decomposition,
    4 var(a) / N + 4 var(b) / n, where a is an image's mean kernel with the other images less that with the samples,
    and b a sample's. Where the distributions agree that term vanishes, and the se is some 1.4 times too wide.
    """
    n = len(sample_features)
    value, se = _kernel_distance(test_features, sample_features, n)
    return Value(value, se, n, floor=_kernel_distance(test_features, train_features, n)[0])


# --- neighbours


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """[len(a), len(b)] float64, from differences: copies are 0 apart, and rows the same in any order."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


@_keep_two
def _radii(features: Tensor) -> Tensor:
    """The distance of each row to the K-th nearest other, [len(features)] float64."""
    if len(features) <= K:
        raise UnavailableError(f"{K} nearest neighbours need at least {K + 1} images, and here are {len(features)}")
    nearest = [_distances(rows, features).topk(K + 1, largest=False).values for rows in features.split(ROWS)]
    return torch.cat(nearest)[:, K]  # the nearest of all is the image itself


class _Neighbours(NamedTuple):
    balls: Tensor  # around images that each sample lies in, [n]
    in_ball: Tensor  # whether each image lies in one around a sample, [N]
    holds: Tensor  # whether its own has a sample in it, [N]


@_keep_two
def _neighbours(test: Tensor, others: Tensor, n: int) -> _Neighbours:
    """Of test [N, F] and the first n others, in float64; nan where a feature is not finite.

    A ball around an image reaches to, and not onto, its K-th nearest other of the same set.
    """
    others = others[:n]
    if not (test.isfinite().all() and others.isfinite().all()):
        return _Neighbours(*torch.full((3, 1), torch.nan, dtype=torch.float64))
    test_radii, radii = _radii(test), _radii(others)
    balls, in_ball, holds = test_radii.new_zeros(len(others)), [], []
    for rows, reach in zip(test.split(ROWS), test_radii.split(ROWS), strict=True):
        distances = _distances(rows, others)
        inside = distances < reach[:, None]
        balls += inside.sum(0)
        in_ball.append((distances < radii).any(1))
        holds.append(inside.any(1))
    return _Neighbours(balls, torch.cat(in_ball).double(), torch.cat(holds).double())


def _judged(test: Tensor, samples: Tensor, train: Tensor, answer: Callable[[_Neighbours], Tensor]) -> Value:
    """The mean answer over samples or test images; se: over these, the other set taken as it is."""
    value, floor = (summarise(answer(_neighbours(test, others, len(samples)))) for others in (samples, train))
    return replace(value, floor=floor.value)


@metric(better="higher", ideal=1.0)
def precision(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """The share of samples that are nearer to a test image than its 5th neighbour (Kynkaanniemi et al. 2019, eq. 2)."""
    return _judged(test_features, sample_features, train_features, lambda of: of.balls.clamp(max=1))


@metric(better="higher", ideal=1.0)
def recall(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """The share of test images that are nearer to a sample than its 5th neighbour (Kynkaanniemi et al. 2019, eq. 2).

    n, se: of test images.
    """
    return _judged(test_features, sample_features, train_features, lambda of: of.in_ball)


@metric(better="closest", ideal=1.0)
def density(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """Of how many test images a sample is nearer than their 5th neighbour, over 5 (Naeem et al. 2020).

    1 is what it is in expectation where the distributions agree. Above it samples crowd where the data are densest: in
    many dimensions those at the centre of the data lie in every ball, so that more is no better.
    """
    return _judged(test_features, sample_features, train_features, lambda of: of.balls / K)


@metric(better="higher", ideal=1.0)
def coverage(test_features: Tensor, sample_features: Tensor, train_features: Tensor) -> Value:
    """The share of test images with a sample nearer than their 5th neighbour (Naeem et al. 2020).

    Where the distributions agree it is 1 - prod_i (N - i) / (N + n - i), i = 1 to 5: 0.97 for n = N, and less for
    fewer samples. In many dimensions samples at the centre of the data cover most of it: recall tells. n, se: of test
    images.
    """
    return _judged(test_features, sample_features, train_features, lambda of: of.holds)


@metric(better="closest", ideal=1.0)
def nearest_neighbour_ratio(sample_to_train: Tensor, test_to_train: Tensor) -> Value:
    """Mean distance of samples [n] to the nearest training image, over that of test images [N].

    At 1 they are as near as new real images are, towards 0 copies, above 1 away from the data; Meehan et al. 2020 rank
    the same distances. se: by the delta method, see `ratio_of_means`.
    """
    return ratio_of_means(sample_to_train, test_to_train)


# --- as published


class _Bytes(Dataset[Tensor]):
    """Images [N, 1 or 3, H, W] in [0, 1] as torch-fidelity reads them: uint8 [3, H, W] each."""

    def __init__(self, images: Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return (self.images[i] * 255).round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)


@metric(better="lower", ideal=0.0)
def fid(x: Tensor, samples: Tensor) -> Value:
    """The Frechet Inception distance of Heusel et al. 2017, by torch-fidelity: from test images to samples, in 8 bits.

    Grey images are repeated over three channels. Published ones are of 50,000 samples, and with fewer it is larger.
    """
    try:
        torch_fidelity = importlib.import_module("torch_fidelity")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch_fidelity":
            raise UnavailableError('needs torch-fidelity: pip install "latentbench[fid]"') from None
        reason = " ".join(str(error).split())
        raise UnavailableError(f"torch-fidelity is installed but does not import: {reason}") from error
    if not samples.isfinite().all():
        return Value(math.nan, n=len(samples))  # in bytes it would be a number
    try:
        of_both = torch_fidelity.calculate_metrics(
            input1=_Bytes(samples), input2=_Bytes(x), fid=True, cuda=torch.cuda.is_available(), verbose=False
        )
    except OSError as error:
        raise UnavailableError(f"torch-fidelity could not fetch the weights of Inception: {error}") from error
    return Value(float(of_both["frechet_inception_distance"]), n=len(samples))
