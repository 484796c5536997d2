"""What do neighbours say? Whose class a code has, whether it kept those its image had, and where midpoints lie.

Euclidean throughout.
"""

from __future__ import annotations

import torch
from sklearn import manifold
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric

K = 5


def nearest(train: Tensor, test: Tensor, k: int) -> Tensor:
    """Which of train [M, ...] are the k nearest to each of test [N, ...], nearest first: [N, min(k, M)] int64.

    Euclidean; who comes first of those equally far is arbitrary. -1 throughout where a number is not finite.
    """
    train, test, k = train.flatten(1), test.flatten(1), min(k, len(train))
    if not (train.isfinite().all() and test.isfinite().all()):
        return torch.full((len(test), k), -1)
    # A chunk at a time: what it holds at once does not grow with N or M.
    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train.numpy())
    return torch.from_numpy(index.kneighbors(test.numpy(), return_distance=False))


def distance_to_nearest(train: Tensor, test: Tensor) -> Tensor:
    """The Euclidean distance of each of test [N, ...] to the nearest of train [M, ...], [N]; nan as in `nearest`."""
    found = nearest(train, test, 1)[:, 0]
    # Measured anew: the search expands the square, so a copy would be slightly off 0.
    distance = torch.linalg.vector_norm((test - train[found]).flatten(1), dim=1)
    return distance.where(found >= 0, torch.nan)


def ratio_of_means(above: Tensor, below: Tensor) -> Value:
    """Mean of above [P] over mean of below [N], independent of one another; n = P.

    se by the delta method: that of above, and the ratio times that of below, as independent errors, over below's mean.
    """
    above, below = above.double(), below.double()
    ratio = above.mean() / below.mean()
    error = (above.var() / len(above) + ratio.square() * below.var() / len(below)).sqrt() / below.mean()
    return Value(ratio.item(), error.item(), len(above))


def ratio_of_pairs(above: Tensor, below: Tensor) -> Value:
    """Mean of above [N] over mean of below [N], two numbers of each example; se by the delta method."""
    above, below = above.double(), below.double()
    ratio = above.mean() / below.mean()
    error = (above - ratio * below).std() / len(above) ** 0.5 / below.mean()
    return Value(ratio.item(), error.item(), len(above))


# --- the classes of neighbours


def _correct(neighbours: Tensor, train_label: Tensor, test_label: Tensor, k: int) -> Tensor:
    """[N], 1 where the first k of neighbours [N, >= k], or all there are, most often have the label; nan without any.

    Of classes equally often met the smallest counts, as in scikit-learn.
    """
    if (neighbours < 0).any():
        return torch.full((len(neighbours),), torch.nan)
    label = train_label[neighbours[:, :k]]
    votes = torch.zeros(len(label), int(label.max()) + 1).scatter_add_(1, label, torch.ones(label.shape))
    return (votes.argmax(1) == test_label).float()


@metric(better="higher", ideal=1.0)
def knn_accuracy(code_neighbours: Tensor, train_label: Tensor, test_label: Tensor) -> Tensor:
    """Whether the 5 training images whose codes are nearest to a test image's name its class by majority, [N].

    code_neighbours: see `nearest`. Codes are posterior means, not rescaled. A conditional model is given each image's
    true label when it encodes.
    """
    return _correct(code_neighbours, train_label, test_label, K)


@metric(better="higher", ideal=1.0)
def knn_accuracy_1(code_neighbours: Tensor, train_label: Tensor, test_label: Tensor) -> Tensor:
    """`knn_accuracy` by the nearest alone: what the codes keep of the finest structure, [N]."""
    return _correct(code_neighbours, train_label, test_label, 1)


@metric(better="higher", ideal=1.0)
def knn_accuracy_20(code_neighbours: Tensor, train_label: Tensor, test_label: Tensor) -> Tensor:
    """`knn_accuracy` by 20: less noisy, and blind to small groups, [N]."""
    return _correct(code_neighbours, train_label, test_label, 20)


@metric(better=None, ideal=1.0)
def knn_accuracy_pixels(pixel_neighbours: Tensor, train_label: Tensor, test_label: Tensor) -> Tensor:
    """`knn_accuracy` of the images themselves, [N]: a baseline, the same for all models."""
    return _correct(pixel_neighbours, train_label, test_label, K)


# --- neighbourhoods kept


def _kept(truly: Tensor, seen: Tensor) -> float:
    """1 less what is lost on each point's K neighbours in seen [S, ...] that are none of its K in truly [S, ...].

    Such a neighbour costs its rank in truly, less K; the sum is scaled so that the worst is 0 (Venna & Kaski 2001).
    """
    if len(truly) <= 2 * K:
        raise UnavailableError(f"{len(truly)} images are too few to have {K} neighbours each, and others")
    if not (truly.isfinite().all() and seen.isfinite().all()):
        return torch.nan
    return float(manifold.trustworthiness(truly.flatten(1).numpy(), seen.flatten(1).numpy(), n_neighbors=K))


@metric(better="higher", ideal=1.0)
def trustworthiness(subset_x: Tensor, subset_codes: Tensor) -> float:
    """Whether neighbours among the codes [S, D] are neighbours among the images [S, C, H, W] (Venna & Kaski 2001).

    Euclidean, K = 5; an intruder costs how far down the image's own list it stands. About 0.5 by chance.
    """
    return _kept(subset_x, subset_codes)


@metric(better="higher", ideal=1.0)
def continuity(subset_x: Tensor, subset_codes: Tensor) -> float:
    """`trustworthiness` the other way round: whether neighbours among the images still are among the codes."""
    return _kept(subset_codes, subset_x)


# --- whether anything is near at all


def _contrast(points: Tensor) -> Value:
    """The mean distance of points [S, ...] to one another over the mean distance to the nearest other."""
    points, n = points.flatten(1).double(), len(points)
    distance = torch.cdist(points, points)
    mean = distance.sum() / (n * (n - 1))
    return Value((mean / distance.fill_diagonal_(torch.inf).min(1).values.mean()).item(), n=n)


@metric(better=None)
def relative_contrast(subset_codes: Tensor) -> Value:
    """How much nearer the nearest code is than any, among the codes [S, D] of test images (He et al. 2012).

    Mean distance of all pairs over the mean distance to the nearest other. It falls to 1 as dimensions grow, where all
    are equally far and none is near (Beyer et al. 1999). It rises with S: numbers of as many points compare.
    """
    return _contrast(subset_codes)


@metric(better=None)
def relative_contrast_prior(subset_prior_codes: Tensor) -> Value:
    """`relative_contrast` of as many draws of the prior, the first of subset_prior_codes [2, S, D]."""
    return _contrast(subset_prior_codes[0])


@metric(better=None)
def relative_contrast_pixels(subset_x: Tensor) -> Value:
    """`relative_contrast` of the images themselves, [S, C, H, W]: a baseline, the same for all models."""
    return _contrast(subset_x)


# --- between two images


@metric(better="closest", ideal=1.0)
def interpolation_gap(latent_midpoint_to_train: Tensor, test_to_train: Tensor) -> Value:
    """How far from all training images are those decoded halfway between two test images' codes? 1: as real ones.

    Distances [P] to the nearest training image, in feature space, their mean over that of test images [N] (after the
    mean distance of Berthelot et al. 2019). Images that are all alike may be nearer than real ones: below 1.
    """
    return ratio_of_means(latent_midpoint_to_train, test_to_train)


@metric(better=None, ideal=1.0)
def interpolation_gap_pixels(pixel_midpoint_to_train: Tensor, test_to_train: Tensor) -> Value:
    """`interpolation_gap` of two test images laid over one another: a baseline, the same for all models."""
    return ratio_of_means(pixel_midpoint_to_train, test_to_train)
