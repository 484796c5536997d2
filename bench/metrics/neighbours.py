"""What do nearest neighbours say? The classes of codes, whether codes keep an image's neighbours, where midpoints lie.

All distances are Euclidean.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from sklearn import manifold
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric
from bench.metrics.checks import check_classes, check_count

K = 5
COPIES = 0.01  # share of points whose K nearest neighbours may be copies of them
ROUNDING = 1e-5  # of the root mean square norm: points nearer to one another than this are copies


def nearest(train: Tensor, test: Tensor, k: int) -> Tensor:
    """The rows of train [M, ...] that are the k nearest to each of test [N, ...], nearest first: [N, min(k, M)] int64.

    Euclidean; the order of equal distances is arbitrary. -1 everywhere if a number is not finite.
    """
    return nearest_in_blocks([train], test, k)


def nearest_in_blocks(blocks: Iterable[Tensor], test: Tensor, k: int) -> Tensor:
    """`nearest` for training examples that arrive in blocks [B, ...]. Holds one block at a time."""
    test, start, finite = test.flatten(1), 0, bool(test.isfinite().all())
    rows, distances = torch.empty(len(test), 0, dtype=torch.int64), torch.empty(len(test), 0, dtype=torch.float64)
    for block in blocks:
        finite = finite and bool(block.isfinite().all())
        if finite:
            index = NearestNeighbors(n_neighbors=min(k, len(block)), algorithm="brute").fit(block.flatten(1).numpy())
            found = [torch.from_numpy(part) for part in index.kneighbors(test.numpy())]
            distances = torch.cat([distances, found[0].double()], 1)
            rows = torch.cat([rows, start + found[1]], 1)
            distances, best = distances.sort(dim=1, stable=True)
            distances, rows = distances[:, :k], rows.gather(1, best)[:, :k]
        start += len(block)
    return rows if finite else torch.full((len(test), min(k, start)), -1)


def distance_to_nearest(train: Tensor, test: Tensor) -> Tensor:
    """The Euclidean distance of each of test [N, ...] to the nearest of train [M, ...], [N]; nan as -1 in `nearest`."""
    found = nearest(train, test, 1)[:, 0]
    # Computed again from the difference: the search expands the square, which puts copies slightly off 0.
    distance = torch.linalg.vector_norm((test - train[found]).flatten(1), dim=1)
    return distance.where(found >= 0, torch.nan)


def _variance(values: Tensor) -> Tensor:
    """The unbiased variance, 0-dim; nan for a single value."""
    return values.var() if len(values) > 1 else values.new_tensor(torch.nan)


def ratio_of_means(above: Tensor, below: Tensor, zero: str) -> Value:
    """Mean of above [P] over mean of below [N], which are independent; n = P.

    se by the delta method, from both means. Raises UnavailableError with the text `zero` if the mean of below is 0.
    """
    above, below = above.double(), below.double()
    if below.mean() == 0:
        raise UnavailableError(zero)
    ratio = above.mean() / below.mean()
    error = (_variance(above) / len(above) + ratio.square() * _variance(below) / len(below)).sqrt() / below.mean()
    return Value(ratio.item(), error.item(), len(above))


def ratio_of_pairs(above: Tensor, below: Tensor, zero: str) -> Value:
    """Mean of above [N] over mean of below [N], two numbers for each example; se by the delta method.

    Raises UnavailableError with the text `zero` if the mean of below is 0.
    """
    above, below = above.double(), below.double()
    if below.mean() == 0:
        raise UnavailableError(zero)
    ratio = above.mean() / below.mean()
    error = (_variance(above - ratio * below) / len(above)).sqrt() / below.mean()
    return Value(ratio.item(), error.item(), len(above))


def are_copies(distance: Tensor, points: Tensor) -> Tensor:
    """Whether distances between points [N, ...] are 0, up to rounding in float32."""
    return distance <= ROUNDING * points.flatten(1).double().square().sum(1).mean().sqrt()


def check_neighbourhoods(distance: Tensor, points: Tensor, items: str) -> None:
    """Raises if the K-th nearest other, at the distance [N], is a copy for more than the share COPIES of points [N]."""
    copied = int(are_copies(distance, points).sum())
    if copied > COPIES * len(distance):
        raise UnavailableError(
            f"{copied} of {len(distance)} {items} have {K} or more copies: their neighbours are arbitrary"
        )


# --- the classes of neighbours


def _correct(neighbours: Tensor, train_label: Tensor, test_label: Tensor, k: int) -> Tensor:
    """1 if the label is the most frequent one among the first k of neighbours [N, >= k], else 0, [N]; nan without any.

    Of equally frequent classes the smallest counts, as in scikit-learn.
    """
    check_classes(train_label, "training images")
    check_count(len(train_label), k + 1, "training images", f"a choice of {k} neighbours")
    if (neighbours < 0).any():
        return torch.full((len(neighbours),), torch.nan)
    label = train_label[neighbours[:, :k]]
    votes = torch.zeros(len(label), int(label.max()) + 1).scatter_add_(1, label, torch.ones(label.shape))
    return (votes.argmax(1) == test_label).float()


@metric(better="higher", ideal=1.0)
def knn_accuracy(code_neighbours: Tensor, train_label: Tensor, test_label: Tensor) -> Tensor:
    """Whether the majority of the 5 training images with the nearest codes have a test image's class, [N].

    code_neighbours: see `nearest`. Codes are posterior means, not rescaled. A conditional model encodes each image with
    its true label.
    """
    return _correct(code_neighbours, train_label, test_label, K)


@metric(better="higher", ideal=1.0)
def knn_accuracy_1(code_neighbours: Tensor, train_label: Tensor, test_label: Tensor) -> Tensor:
    """`knn_accuracy` with 1 neighbour, which measures the finest structure of the codes, [N]."""
    return _correct(code_neighbours, train_label, test_label, 1)


@metric(better="higher", ideal=1.0)
def knn_accuracy_20(code_neighbours: Tensor, train_label: Tensor, test_label: Tensor) -> Tensor:
    """`knn_accuracy` with 20 neighbours: less noisy, and blind to small groups, [N]."""
    return _correct(code_neighbours, train_label, test_label, 20)


@metric(better=None, ideal=1.0)
def knn_accuracy_pixels(pixel_neighbours: Tensor, train_label: Tensor, test_label: Tensor) -> Tensor:
    """`knn_accuracy` of the images themselves, [N]: a baseline, the same for all models."""
    return _correct(pixel_neighbours, train_label, test_label, K)


# --- whether neighbourhoods are kept


def _kept(reference: Tensor, embedded: Tensor, items: tuple[str, str]) -> float:
    """1 minus a penalty for each of a point's K neighbours in embedded [S, ...] that is not one in reference [S, ...].

    The penalty is the neighbour's rank in reference, minus K; the sum is scaled so that the worst is 0 (Venna & Kaski
    2001).
    """
    check_count(len(reference), 2 * K + 1, "test images", f"a neighbourhood of {K}")
    if not (reference.isfinite().all() and embedded.isfinite().all()):
        return torch.nan
    for points, name in zip((reference, embedded), items, strict=True):
        kth = _pairwise(points).kthvalue(K + 1, dim=1).values  # the first is the point itself
        check_neighbourhoods(kth, points, name)
    return float(manifold.trustworthiness(reference.flatten(1).numpy(), embedded.flatten(1).numpy(), n_neighbors=K))


@metric(better="higher", ideal=1.0)
def trustworthiness(subset_x: Tensor, subset_codes: Tensor) -> float:
    """Whether neighbours among the codes [S, D] are neighbours among the images [S, C, H, W] (Venna & Kaski 2001).

    Euclidean, K = 5; a false neighbour costs its rank among the image's own neighbours. About 0.5 by chance.
    """
    return _kept(subset_x, subset_codes, ("test images", "codes"))


@metric(better="higher", ideal=1.0)
def continuity(subset_x: Tensor, subset_codes: Tensor) -> float:
    """`trustworthiness` in the other direction: whether neighbours among the images are neighbours among the codes."""
    return _kept(subset_codes, subset_x, ("codes", "test images"))


# --- whether any neighbour is near


def _pairwise(points: Tensor) -> Tensor:
    """The distances between all points [S, ...], [S, S] float64. Centred first, so that copies are nearly 0 apart."""
    points = points.flatten(1).double()
    points = points - points.mean(0)
    return torch.cdist(points, points).fill_diagonal_(0)


def _contrast(points: Tensor, items: str) -> Value:
    """The mean distance between points [S, ...] over the mean distance to the nearest other."""
    n = len(points)
    check_count(n, 3, items, "a contrast of distances")
    distance = _pairwise(points)
    mean = distance.sum() / (n * (n - 1))
    closest = distance.fill_diagonal_(torch.inf).min(1).values
    if are_copies(closest, points).all():
        raise UnavailableError(f"all {items} have copies: the nearest other is at distance 0")
    return Value((mean / closest.mean()).item(), n=n)


@metric(better=None)
def relative_contrast(subset_codes: Tensor) -> Value:
    """How much nearer the nearest code is than the average one, for codes [S, D] of test images (He et al. 2012).

    Mean distance of all pairs over the mean distance to the nearest other. It falls to 1 as the dimension grows, where
    all points are equally far apart (Beyer et al. 1999). It rises with S, so compare numbers of as many points.
    """
    return _contrast(subset_codes, "codes of test images")


@metric(better=None)
def relative_contrast_prior(subset_prior_codes: Tensor) -> Value:
    """`relative_contrast` of as many draws of the prior, the first of subset_prior_codes [2, S, D]."""
    return _contrast(subset_prior_codes[0], "draws of the prior")


@metric(better=None)
def relative_contrast_pixels(subset_x: Tensor) -> Value:
    """`relative_contrast` of the images themselves, [S, C, H, W]: a baseline, the same for all models."""
    return _contrast(subset_x, "test images")


# --- between two images

_COPIES = "every test image is a copy of a training image: all distances are 0"


@metric(better="closest", ideal=1.0)
def interpolation_gap(latent_midpoint_to_train: Tensor, test_to_train: Tensor) -> Value:
    """How far from the training images are images decoded halfway between two codes? 1: as far as test images.

    Mean of distances [P] to the nearest training image in feature space, over the mean of those of test images [N]
    (after the mean distance of Berthelot et al. 2019). Images without variety may be nearer than real ones: below 1.
    """
    return ratio_of_means(latent_midpoint_to_train, test_to_train, _COPIES)


@metric(better=None, ideal=1.0)
def interpolation_gap_pixels(pixel_midpoint_to_train: Tensor, test_to_train: Tensor) -> Value:
    """`interpolation_gap` of the pixel-wise mean of two test images: a baseline, the same for all models."""
    return ratio_of_means(pixel_midpoint_to_train, test_to_train, _COPIES)
