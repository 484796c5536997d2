"""Are the voxels of shapes right, do samples look like shapes, and do a critic's features tell their classes apart?

x: the test shapes [N, 1, D, H, W]; x_mean: the outputs for them; samples: [n, 1, D, H, W]; all in [0, 1]. A voxel above
THRESHOLD is occupied. train_x: [M, 1, D, H, W], training shapes in a random order that is always the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric, summarise
from bench.metrics.checks import check_classes, check_count
from bench.metrics.neighbours import ratio_of_means

THRESHOLD = 0.5
THRESHOLDS = sorted((k / 20 for k in range(1, 20)), key=lambda t: abs(t - THRESHOLD))  # of equal ones the first counts
ROWS = 256  # shapes compared at once with all others: only memory depends on it

# Two results: that of the samples, and the floor, which is the same for all models. A tensor's hash is its identity,
# which no other tensor can have while the cache holds it. Evidence is never modified.
_keep_two = lru_cache(maxsize=2)


def _occupied(shapes: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Whether each voxel is occupied, [N, V] bool."""
    return shapes.flatten(1) > threshold


def _iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of occupied voxels [N, V], [N] float64; 1 for two empty shapes."""
    union = (one | other).sum(1).double()
    return ((one & other).sum(1) / union).where(union > 0, 1.0)


def _nan_where_infinite(scores: Tensor, shapes: Tensor) -> Tensor:
    """The scores [N], nan for shapes [N, ...] that are not finite."""
    return scores.where(shapes.flatten(1).isfinite().all(1), torch.nan)


# --- reconstructions


@metric(better="higher", ideal=1.0, sides={3})
def voxel_iou(x: Tensor, x_mean: Tensor) -> Tensor:
    """Intersection over union of the occupied voxels of each test shape and the output for it, [N].

    As by Choy et al. 2016, eq. 5, with their threshold set to 0.5. Two empty shapes agree.
    """
    return _nan_where_infinite(_iou(_occupied(x), _occupied(x_mean)), x_mean)


@metric(better="higher", ideal=1.0, sides={3})
def voxel_iou_best_threshold(x: Tensor, x_mean: Tensor, validation_x: Tensor, validation_x_mean: Tensor) -> Value:
    """`voxel_iou` with the threshold of outputs that is best on validation shapes: 0.05, 0.1, ..., or 0.95.

    Details: threshold. Outputs that are all dim or all bright then count as well as others of the same order.
    """
    check_count(len(validation_x), 1, "validation shapes", "a choice of the threshold")
    true = _occupied(validation_x)
    scores = [_iou(true, _occupied(validation_x_mean, threshold)).mean() for threshold in THRESHOLDS]
    best = THRESHOLDS[int(torch.stack(scores).argmax())]
    ious = _nan_where_infinite(_iou(_occupied(x), _occupied(x_mean, best)), x_mean)
    return replace(summarise(ious), details={"threshold": best})


@metric(better="higher", ideal=1.0, sides={3})
def average_precision(x: Tensor, x_mean: Tensor) -> Value:
    """The mean over test shapes of the area under the precision-recall curve of their voxels, by scikit-learn.

    As by Girdhar et al. 2016 and Wu et al. 2016. It judges the order of the outputs in each shape, so it needs no
    threshold. A shape of random outputs has the share of its voxels that are occupied. Empty test shapes do not count.
    """
    true = _occupied(x).numpy()
    (rows,) = np.nonzero(true.any(1))
    if not len(rows):
        raise UnavailableError("all test shapes are empty")
    found = x_mean.flatten(1).double().numpy()
    finite = np.isfinite(found).all(1)
    scores = [average_precision_score(true[i], found[i]) if finite[i] else math.nan for i in rows]
    return summarise(torch.tensor(scores, dtype=torch.float64))


# --- samples


@_keep_two
def _pairs(test: Tensor, others: Tensor, n: int) -> Tensor:
    """Intersection over union of test shapes [N, ...] and the first n others, [N, n] float64; 0 for empty shapes."""
    one, other = _occupied(test).float(), _occupied(others[:n]).float()  # exact: counts are below 2^24
    common = torch.cat([rows @ other.T for rows in one.split(ROWS)]).double()
    union = one.sum(1).double()[:, None] + other.sum(1).double() - common
    return (common / union).where(union > 0, 0.0)


def _matched(x: Tensor, samples: Tensor, train_x: Tensor, answer: Callable[[Tensor], Tensor]) -> Value:
    """The mean answer [N] of `_pairs` for as many samples as test shapes, and for as many training shapes (floor)."""
    check_count(len(samples), 1, "samples", "a match")
    n = min(len(samples), len(x))
    if not samples[:n].isfinite().all():
        return Value(math.nan, n=len(x))
    value = summarise(answer(_pairs(x, samples, n)))
    if len(train_x) < n:
        return value
    return replace(value, floor=answer(_pairs(x, train_x, n)).mean().item())


def _covered(pairs: Tensor) -> Tensor:
    """The probability that each test shape is the best match of a sample, [N] float64: 0 or 1 without ties.

    One of several best matches is taken at random. A sample without a voxel in common with a test shape has none.
    """
    best = pairs.max(0).values
    is_best = ((pairs == best) & (best > 0)).double()
    return 1 - (1 - is_best / is_best.sum(0).clamp(min=1)).prod(1)


@metric(better="higher", ideal=1.0, sides={3})
def coverage_iou(x: Tensor, samples: Tensor, train_x: Tensor) -> Value:
    """The share of test shapes that are the best match of at least one sample, by intersection over union.

    Coverage of Achlioptas et al. 2018, with as many samples as test shapes, the first ones. If the distributions agree
    it is far below 1, as some test shapes are the best match of several samples: see the floor, the value of as many
    training shapes. Of several best matches of a sample one counts, at random, and the value is the expectation. n and
    se count test shapes.
    """
    return _matched(x, samples, train_x, _covered)


@metric(better="higher", ideal=1.0, sides={3})
def minimum_matching_iou(x: Tensor, samples: Tensor, train_x: Tensor) -> Value:
    """The mean over test shapes of the largest intersection over union with a sample.

    The minimum matching distance of Achlioptas et al. 2018, as a similarity: whether samples are as good as the shapes
    that they cover. Samples and floor are those of `coverage_iou`. n and se count test shapes.
    """
    return _matched(x, samples, train_x, lambda pairs: pairs.max(1).values)


@metric(better="closest", ideal=1.0, sides={3})
def occupancy_ratio(x: Tensor, samples: Tensor) -> Value:
    """The mean share of occupied voxels of samples, over that of test shapes: 0 if all samples are empty.

    se: by the delta method, see `ratio_of_means`.
    """
    made, real = (_nan_where_infinite(_occupied(shapes).double().mean(1), shapes) for shapes in (samples, x))
    return ratio_of_means(made, real, "all test shapes are empty")


def _largest_shares(shapes: Tensor) -> Tensor:
    """The share of a shape's occupied voxels in its largest component, for each that is not empty, [<= N] float64."""
    occupied = (shapes > THRESHOLD).flatten(0, 1).numpy()
    neighbours = np.zeros((3,) * occupied.ndim, int)
    neighbours[1] = 1  # in the same shape, and across sides, edges and corners
    component = ndimage.label(occupied, neighbours)[0].reshape(len(occupied), -1)
    shape, voxel = np.nonzero(component)
    number, sizes = np.unique(component[shape, voxel], return_counts=True)
    owner = np.empty(number.max(initial=0) + 1, int)
    owner[component[shape, voxel]] = shape
    largest = np.zeros(len(occupied))
    np.maximum.at(largest, owner[number], sizes)
    total = np.bincount(shape, minlength=len(occupied))
    return torch.from_numpy(largest[total > 0] / total[total > 0])


@metric(better="higher", ideal=1.0, sides={3})
def largest_component_share(x: Tensor, samples: Tensor) -> Value:
    """The share of a sample's occupied voxels in its largest connected component; floor: that of the test shapes.

    Voxels that share a corner are connected. Below the floor, samples have loose voxels. Empty samples do not count.
    """
    if not samples.isfinite().all():
        return Value(math.nan, n=len(samples))
    shares, real = _largest_shares(samples), _largest_shares(x)
    if not len(shares):
        raise UnavailableError("all samples are empty")
    empty = len(samples) - len(shares)
    note = f"{empty} of {len(samples)} samples are empty and do not count" if empty else None
    return replace(summarise(shares), floor=real.mean().item() if len(real) else None, note=note)


# --- classes


def _svm_correct(train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor) -> Tensor:
    """Whether a linear support vector machine predicts the class of each of test [N, ...], [N].

    train_label: [M], the classes of train [M, ...]. The features are centred, and scaled as a whole to a mean
    square norm of 1, so that C = 1 means the same for all features.
    """
    check_classes(train_label, "training examples")
    train, test = train.flatten(1).double(), test.flatten(1).double()
    if not (train.isfinite().all() and test.isfinite().all()):
        return torch.full((len(test),), torch.nan)
    mean = train.mean(0)
    scale = (train - mean).square().sum(1).mean().sqrt()
    if scale == 0:
        raise UnavailableError("the features of all training examples are the same")
    machine = LinearSVC(random_state=0).fit(((train - mean) / scale).numpy(), train_label.numpy())
    return (torch.from_numpy(machine.predict(((test - mean) / scale).numpy())) == test_label).float()


@metric(better="higher", ideal=1.0)
def critic_svm_accuracy(
    train_critic_features: Tensor, critic_features: Tensor, train_x_label: Tensor, test_label: Tensor
) -> Tensor:
    """Whether a linear SVM on the discriminator's pooled features predicts a test shape's class, [N] (Wu et al. 2016).

    train_critic_features: [M, F], of `train_x`; critic_features: [N, F], of the test examples. Compare with
    `untrained_critic_svm_accuracy` and `voxel_svm_accuracy`.
    """
    return _svm_correct(train_critic_features, train_x_label, critic_features, test_label)


@metric(better=None, ideal=1.0)
def untrained_critic_svm_accuracy(
    train_untrained_features: Tensor, untrained_features: Tensor, train_x_label: Tensor, test_label: Tensor
) -> Tensor:
    """`critic_svm_accuracy` of the same network with random weights, [N]: what its architecture alone achieves."""
    return _svm_correct(train_untrained_features, train_x_label, untrained_features, test_label)


@metric(better=None, ideal=1.0, sides={3})
def voxel_svm_accuracy(train_x: Tensor, x: Tensor, train_x_label: Tensor, test_label: Tensor) -> Tensor:
    """`critic_svm_accuracy` of the voxels themselves, [N]: a baseline, the same for all models."""
    return _svm_correct(train_x, train_x_label, x, test_label)
