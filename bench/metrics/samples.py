"""Do the samples cover the data? For data with known modes or labels."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from bench.metrics import Value, metric, summarise
from bench.metrics.checks import check_classes
from bench.metrics.neighbours import ratio_of_means

SIGMAS = 3  # a sample belongs to a mode if it is within so many sigma of its centre (Srivastava et al. 2017)
RARE = 10  # a class is covered if it has at least this fraction, 1 / RARE, of an equal share of the samples


def _nearest(samples: Tensor, modes: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The nearest mode of each sample, [N], and whether the sample belongs to it, [N] bool."""
    distance, mode = torch.cdist(samples.flatten(1), modes.flatten(1)).min(1)
    return mode, distance <= SIGMAS * sigma


@metric(better="higher", ideal=1.0)
def mode_coverage(samples: Tensor, modes: Tensor, mode_sigma: float) -> Value:
    """The share of the data's modes that have a sample within 3 sigma of their centre (Srivastava et al. 2017)."""
    mode, near = _nearest(samples, modes, mode_sigma)
    return Value(len(mode[near].unique()) / len(modes), n=len(samples))


@metric(better="higher", ideal=1.0)
def high_quality_samples(samples: Tensor, x: Tensor, modes: Tensor, mode_sigma: float) -> Value:
    """The share of samples within 3 sigma of a mode's centre (Srivastava et al. 2017); floor: that of the test points.

    Some points of a true Gaussian lie outside: 1.1 % in two dimensions, and more in higher ones.
    """
    near, floor = (_nearest(points, modes, mode_sigma)[1].float() for points in (samples, x))
    return replace(summarise(near), floor=floor.mean().item())


# --- classes, as predicted by a classifier of real images


@metric(better="higher", ideal=1.0)
def class_coverage(sample_class: Tensor, test_label: Tensor) -> Value:
    """The share of the test images' classes that have at least n / (10 classes) of the n samples.

    The modes covered of stacked MNIST (Metz et al. 2017) are classes with at least one sample. That is the same up to
    ten samples a class; with more, the classifier's errors alone would reach every class. A class that is rarer than
    that in the data is not covered by real images either.
    """
    check_classes(test_label, "test images")
    n, classes = len(sample_class), test_label.unique()
    counts = (sample_class[:, None] == classes).sum(0)
    return Value((RARE * len(classes) * counts >= n).double().mean().item(), n=n)


def _surprise(label: Tensor) -> Tensor:
    """-log of the share of each label's class, [n] nats: its mean is the entropy, its spread that of the estimate."""
    share = label.bincount().double() / len(label)
    return -share[label].log()


@metric(better="closest", ideal=1.0)
def class_entropy(sample_class: Tensor, test_label: Tensor) -> Value:
    """Entropy of the samples' class frequencies over that of the test labels: 0 if all samples are of one class."""
    check_classes(test_label, "test images")
    return summarise(_surprise(sample_class) / _surprise(test_label).mean())


@metric(better="higher", ideal=1.0)
def class_consistency(sample_class: Tensor, requested_class: Tensor) -> Tensor:
    """Whether a conditional model's sample is classified as the requested class, [n]."""
    return (sample_class == requested_class).float()


# --- many images of one condition


@metric(better="closest", ideal=1.0)
def conditional_diversity(x: Tensor, x_again: Tensor, x_mean: Tensor, x_mean_again: Tensor) -> Value:
    """The root mean square difference of two outputs for one condition, over that of two real images of it.

    x and x_again: real images [N, C, H, W] of the same conditions, such as one caption; x_mean and x_mean_again:
    outputs for these conditions with different noise. 0 if the noise has no effect. Outputs that are smoother than real
    images or always show the object in the same place are below 1, and speckle is above. se: by the delta method, see
    `ratio_of_means`.
    """
    made, real = ((one - other).square().flatten(1).mean(1) for one, other in ((x_mean, x_mean_again), (x, x_again)))
    squared = ratio_of_means(made, real, "the real images of each condition are all the same")
    assert squared.se is not None
    root = math.sqrt(squared.value)
    return replace(squared, value=root, se=squared.se / (2 * root) if root else None)
