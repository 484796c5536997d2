"""Are samples where the data are? For data whose modes are known, or whose classes are."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bench.metrics import Value, metric, summarise

SIGMAS = 3  # from a mode's centre, within which a sample counts as one of it (Srivastava et al. 2017)
RARE = 10  # a class is found where it has this part of what it would have if all had as many samples


def _nearest(samples: Tensor, modes: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The nearest mode of each sample, [N], and whether it is near enough to count, [N] bool."""
    distance, mode = torch.cdist(samples.flatten(1), modes.flatten(1)).min(1)
    return mode, distance <= SIGMAS * sigma


@metric(better="higher", ideal=1.0)
def mode_coverage(samples: Tensor, modes: Tensor, mode_sigma: float) -> Value:
    """The share of the data's modes that have a sample within 3 sigma of their centre (Srivastava et al. 2017)."""
    mode, counts = _nearest(samples, modes, mode_sigma)
    return Value(len(mode[counts].unique()) / len(modes), n=len(samples))


@metric(better="higher", ideal=1.0)
def high_quality_samples(samples: Tensor, x: Tensor, modes: Tensor, mode_sigma: float) -> Value:
    """The share of samples within 3 sigma of a mode's centre (Srivastava et al. 2017); floor: that of the test points.

    Of true Gaussians, too, some lie outside: 1.1 % in two dimensions, and the more the more dimensions there are.
    """
    near, floor = (_nearest(points, modes, mode_sigma)[1].float() for points in (samples, x))
    return replace(summarise(near), floor=floor.mean().item())


# --- classes, as a classifier of real images names them


@metric(better="higher", ideal=1.0)
def class_coverage(sample_class: Tensor, test_label: Tensor) -> Value:
    """The share of the test images' classes with at least a tenth of n / classes of the samples [n].

    The modes covered of stacked MNIST (Metz et al. 2017) are classes with at least one, which is the same up to ten
    samples a class; of more, the classifier's errors alone would reach every class. A class that is rarer than that
    in the data is not found in real images either.
    """
    n, classes = len(sample_class), test_label.unique()
    counts = (sample_class[:, None] == classes).sum(0)
    return Value((RARE * len(classes) * counts >= n).double().mean().item(), n=n)


def _surprise(label: Tensor) -> Tensor:
    """-log of the share of each one's class, [n] nats: their mean is the entropy, their spread that of its estimate."""
    share = label.bincount().double() / len(label)
    return -share[label].log()


@metric(better="closest", ideal=1.0)
def class_entropy(sample_class: Tensor, test_label: Tensor) -> Value:
    """Entropy of the frequencies of the samples' classes [n], over that of the test images' labels: 0 of one class."""
    return summarise(_surprise(sample_class) / _surprise(test_label).mean())


@metric(better="higher", ideal=1.0)
def class_consistency(sample_class: Tensor, asked_class: Tensor) -> Tensor:
    """Whether a sample of a conditional model is classified as the class that was asked for, [n]."""
    return (sample_class == asked_class).float()
