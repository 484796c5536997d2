"""Does each latent represent one of the factors that generated the images? For data with known factors.

Codes are posterior means, [N, D]; factors are [N, F]. A factor is discrete if it has at most BINS distinct values, and
continuous otherwise. The best score is 1; it is nan if a code is not finite. Factors that do not vary are left out, and
latents that do not vary carry no information.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import numpy as np
import torch
from scipy.special import entr
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric
from bench.metrics.checks import check_count

BINS = 20  # of a histogram, as in Locatello et al. 2019; also the most values of a discrete factor
TREES, LEAF = 20, 10  # of a forest, and training images in a leaf, at least: some seconds for sprites
AT_MOST = 10_000  # training images for a forest; of more, every second, third, ... is used
SEED = 0  # of forests: the same for all models


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0)


def _gap(score: np.ndarray) -> float:
    """The best latent's score minus the second best's, mean over factors; score: [D, F]."""
    second, best = np.sort(score, axis=0)[-2:]
    return float((best - second).mean())


def _with_rival(codes: Tensor) -> np.ndarray:
    """Codes [N, D + 1] with an additional constant latent, so that a single latent has a second best.

    In double precision, where any range of float32 can be divided into BINS bins.
    """
    return np.pad(codes.double().numpy(), ((0, 0), (0, 1)))


def _scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [M, D] and [N, D] over the range of the first: scikit-learn's trees merge values that differ by 1e-7."""
    low, spread = train.min(0), np.ptp(train, 0)
    return _ratio(train - low, spread), _ratio(test - low, spread)


# --- mutual information gap


def _binned(values: np.ndarray) -> np.ndarray:
    """The bin of each value, [N]; BINS bins of equal width over the values' range."""
    return np.digitize(values, np.histogram_bin_edges(values, BINS)[1:-1])


def _varying(*factors: Tensor) -> list[Tensor]:
    """The columns of factors, one tensor [N, F] for each split, that vary in every split."""
    varies = torch.stack([(part != part[:1]).any(0) for part in factors]).all(0)
    if not varies.any():
        raise UnavailableError("no factor varies over the images")
    return [part[:, varies] for part in factors]


def _classes(factor: np.ndarray) -> np.ndarray:
    """The index of a discrete factor's value, or the bin of a continuous one, [N]."""
    distinct, index = np.unique(factor, return_inverse=True)
    return index if len(distinct) <= BINS else _binned(factor)


def _entropy(label: np.ndarray) -> float:
    """The entropy of the labels' frequencies, in nats."""
    return entr(np.bincount(label) / len(label)).sum()


def _information(one: np.ndarray, other: np.ndarray) -> float:
    """H(one) + H(other) - H(one, other), in nats; labels [N] are below BINS."""
    return _entropy(one) + _entropy(other) - _entropy(one * BINS + other)


@metric(better="higher", ideal=1.0)
def mig(test_codes: Tensor, test_factors: Tensor) -> float:
    """Mutual information gap (Chen et al. 2018, eq. 6): (I(best latent) - I(second best)) / H(factor), over factors.

    Codes and continuous factors are divided into BINS bins (Locatello et al. 2019), where Chen et al. sample the
    posterior. Histograms of N independent numbers share some (BINS - 1)^2 / 2N nats, so even perfect codes are below 1
    by up to that much over H(factor).
    """
    check_count(len(test_codes), BINS, "test images", f"a histogram of {BINS} bins")
    (test_factors,) = _varying(test_factors)
    if not test_codes.isfinite().all():
        return math.nan
    codes = [_binned(latent) for latent in _with_rival(test_codes).T]
    factors = [_classes(factor) for factor in test_factors.double().numpy().T]
    information = np.array([[_information(code, factor) for factor in factors] for code in codes])
    return _gap(_ratio(information, np.array([_entropy(factor) for factor in factors])))


# --- separated attribute predictability


def _targets(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """The targets of a factor's prediction for training and test images, [M] and [N], and whether they are classes."""
    distinct, index = np.unique(np.concatenate([train, test]), return_inverse=True)
    return (index[: len(train)], index[len(train) :], True) if len(distinct) <= BINS else (train, test, False)


def _squared_correlation(codes: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """R^2 of a linear regression of the factor [N] on each latent, [D]."""
    codes, factor = codes - codes.mean(0), factor - factor.mean()
    return _ratio((factor @ codes) ** 2, (factor**2).sum() * (codes**2).sum(0))


def _threshold_accuracy(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray) -> float:
    """Balanced test accuracy of K classes from one latent, [M, 1] and [N, 1], by K - 1 thresholds."""
    leaves = max(2, len(np.unique(train_label)))
    tree = DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=SEED)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # a class may be missing in the test images
        return balanced_accuracy_score(test_label, tree.fit(train, train_label).predict(test))


@metric(better="higher", ideal=1.0)
def sap(train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> float:
    """Separated attribute predictability (Kumar et al. 2018, sec. 3): the best latent's score minus the second's.

    Mean over factors. A latent's score for a continuous factor is the squared correlation on test images. For a
    discrete one of K classes it is the balanced test accuracy of K - 1 thresholds, set on training images (greedily, by
    Gini impurity). Chance is 1 / K, so a discrete factor's gap is at most 1 - 1 / K.

    Locatello et al. 2019 use a linear SVM with C = 0.01 instead, whose accuracy depends on the codes' scale.
    """
    check_count(len(test_codes), BINS, "test images", f"a factor of up to {BINS} values")
    train_factors, test_factors = _varying(train_factors, test_factors)
    if not (train_codes.isfinite().all() and test_codes.isfinite().all()):
        return math.nan
    train, test = _scaled(_with_rival(train_codes), _with_rival(test_codes))
    columns = [[latent] for latent in range(train.shape[1])]
    score = []
    for of_train, of_test in zip(train_factors.double().numpy().T, test_factors.double().numpy().T, strict=True):
        train_target, test_target, discrete = _targets(of_train, of_test)
        if discrete:
            score.append([_threshold_accuracy(train[:, d], train_target, test[:, d], test_target) for d in columns])
        else:
            score.append(list(_squared_correlation(test, test_target)))
    return _gap(np.array(score).T)


# --- disentanglement, completeness, informativeness


def _concentration(importance: np.ndarray) -> np.ndarray:
    """The concentration of each row of [n, k], [n]: 1 - the entropy of its shares to the base k; 0 for a row of 0."""
    share = _ratio(importance, importance.sum(1, keepdims=True))
    entropy = entr(share).sum(1) / np.log(max(importance.shape[1], 2))
    return np.where(importance.any(1), 1 - entropy, 0.0)


def disentanglement(importance: np.ndarray) -> float:
    """Whether each latent matters for one factor only, weighted by its share of all importance [D, F]."""
    return float(_concentration(importance) @ _ratio(importance.sum(1), importance.sum()))


def completeness(importance: np.ndarray) -> float:
    """Whether one latent only matters for each factor, mean over factors; importance: [D, F]."""
    return float(_concentration(importance.T).mean())


@lru_cache(maxsize=1)
def _fit(*arrays: tuple[bytes, tuple[int, ...]]) -> tuple[np.ndarray, Value]:
    """Each latent's importance for each factor, [D, F], in columns that sum to 1, and informativeness.

    arrays: training codes and factors, test codes and factors, as bytes of float32 with the shape.
    """
    train, train_factors, test, test_factors = (np.frombuffer(data, np.float32).reshape(s) for data, s in arrays)
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        return np.full((train.shape[1], train_factors.shape[1]), np.nan), Value(math.nan)
    train, test = _scaled(train.astype(np.float64), test.astype(np.float64))
    # A forest draws rows and breaks ties by position. Sorting latents and images makes the result independent of it.
    latents = np.lexsort(np.sort(train, axis=0))
    train, test = train[:, latents], test[:, latents]
    rows = np.lexsort(np.column_stack([train, train_factors]).T)[:: math.ceil(len(train) / AT_MOST)]
    importance, score, floor = [], [], []
    for of_train, of_test in zip(train_factors.T, test_factors.T, strict=True):
        train_target, test_target, discrete = _targets(of_train, of_test)
        kind, trivial = (
            (RandomForestClassifier, DummyClassifier) if discrete else (RandomForestRegressor, DummyRegressor)
        )
        # Each split may use all latents. With a random choice of them, others than the best would look important.
        forest = kind(TREES, min_samples_leaf=LEAF, max_features=None, random_state=SEED)
        forest.fit(train[rows], train_target[rows])
        importance.append(forest.feature_importances_)
        score.append(forest.score(test, test_target))
        floor.append(trivial().fit(train[rows], train_target[rows]).score(test, test_target))
    return np.array(importance).T, Value(float(np.mean(score)), floor=float(np.mean(floor)))


def _dci(*arrays: Tensor) -> tuple[np.ndarray, Value]:
    """`_fit`, computed once for the three metrics: the cache is keyed by the contents of the arrays."""
    train_codes, train_factors, test_codes, test_factors = arrays
    check_count(len(test_codes), BINS, "test images", f"a factor of up to {BINS} values")
    check_count(len(train_codes), 2 * LEAF, "training images", f"a forest with {LEAF} images a leaf")
    train_factors, test_factors = _varying(train_factors, test_factors)
    arrays = (train_codes, train_factors, test_codes, test_factors)
    return _fit(*((part.numpy().tobytes(), part.shape) for part in arrays))


@metric(better="higher", ideal=1.0)
def dci_disentanglement(train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> float:
    """Whether a latent matters for one factor only (Eastwood & Williams 2018, sec. 2): 1 - H_F(P_i), over latents.

    P_i: shares of latent i's importance for the F factors; H_F: entropy to the base F. The mean is weighted by the
    latent's share of all importance. Importance is that of a random forest on the codes of training images.
    """
    importance = _dci(train_codes, train_factors, test_codes, test_factors)[0]
    check_count(importance.shape[1], 2, "factors that vary", "disentanglement")
    return disentanglement(importance)


@metric(better="higher", ideal=1.0)
def dci_completeness(train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> float:
    """Whether one latent only matters for a factor (Eastwood & Williams 2018, sec. 2): 1 - H_D(P_j), over factors.

    P_j: shares of the D latents in the importance for factor j, as in `dci_disentanglement`.
    """
    return completeness(_dci(train_codes, train_factors, test_codes, test_factors)[0])


@metric(better="higher", ideal=1.0)
def dci_informativeness(train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> Value:
    """How well the forests predict factors of test images (Eastwood & Williams 2018, sec. 2, who report errors).

    R^2 of a continuous factor, accuracy of a discrete one, mean over factors. floor: the prediction without codes, by
    the training images' mean or most frequent class.
    """
    return _dci(train_codes, train_factors, test_codes, test_factors)[1]
