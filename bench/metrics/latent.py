"""Do the codes keep what the images show? Judged by nearest neighbours, which learn nothing."""

from __future__ import annotations

import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from bench.metrics import metric

K = 5


def _correct(train: Tensor, train_label: Tensor, test: Tensor, test_label: Tensor) -> Tensor:
    """[N], 1 where most of the K nearest of train (Euclidean) have the label; nan where a number is not finite."""
    if not (train.isfinite().all() and test.isfinite().all()):
        return torch.full((len(test),), torch.nan)
    neighbours = KNeighborsClassifier(K, algorithm="brute").fit(train.flatten(1).numpy(), train_label.numpy())
    predicted = torch.from_numpy(neighbours.predict(test.flatten(1).numpy()))
    return (predicted == test_label).float()


@metric(better="higher", ideal=1.0)
def knn_accuracy(train_codes: Tensor, train_label: Tensor, test_codes: Tensor, test_label: Tensor) -> Tensor:
    """Whether 5-NN from the codes of the training images [M, D] names each test image's class from its own, [N].

    Codes are posterior means, not rescaled. A conditional model is given each image's true label when it encodes.
    """
    return _correct(train_codes, train_label, test_codes, test_label)


@metric(better=None, ideal=1.0)
def knn_accuracy_pixels(train_x: Tensor, train_label: Tensor, x: Tensor, test_label: Tensor) -> Tensor:
    """`knn_accuracy` of the images themselves: a baseline, the same for all models."""
    return _correct(train_x, train_label, x, test_label)
