"""Does each latent stand for one of the factors that made the images? For data whose factors are known.

Codes are posterior means, [N, D]; factors are [N, F]. A factor is discrete if it has at most BINS distinct values, and
continuous otherwise. All scores are 1 at best, and nan where a code is not finite. What does not vary, a latent or a
factor, tells nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import entr
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from bench.metrics import Value, metric

BINS = 20  # of a histogram, as in Locatello et al. 2019; also the most values that a discrete factor may have
TREES, LEAF = 20, 10  # of a forest, and the fewest training images in a leaf: some seconds for sprites
AT_MOST = 10_000  # training images that a forest sees; of more, every second, third, ... is taken
SEED = 0  # of forests: the same for all models


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0)


def _gap(score: np.ndarray) -> float:
    """The best latent's score less the second best's, mean over factors; score: [D, F]."""
    second, best = np.sort(score, axis=0)[-2:]
    return float((best - second).mean())


def _with_rival(codes: Tensor) -> np.ndarray:
    """Codes [N, D + 1] with one latent more, which says nothing: so that a single latent has a second best, of chance.

    In double precision, in which any range of float32 has room for BINS bins.
    """
    return np.pad(codes.double().numpy(), ((0, 0), (0, 1)))


def _scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [M, D] and [N, D] over the range of the first: scikit-learn's trees take values 1e-7 apart for equal."""
    low, spread = train.min(0), np.ptp(train, 0)
    return _ratio(train - low, spread), _ratio(test - low, spread)


# --- mutual information gap


def _binned(values: np.ndarray) -> np.ndarray:
    """The bin of each value, [N]; BINS bins of equal width over the values' range."""
    return np.digitize(values, np.histogram_bin_edges(values, BINS)[1:-1])


def _classes(factor: np.ndarray) -> np.ndarray:
    """A class for each value of a discrete factor, a bin for those of a continuous one, [N]."""
    distinct, index = np.unique(factor, return_inverse=True)
    return index if len(distinct) <= BINS else _binned(factor)


def _entropy(label: np.ndarray) -> float:
    """Of the labels' frequencies, in nats."""
    return entr(np.bincount(label) / len(label)).sum()


def _information(one: np.ndarray, other: np.ndarray) -> float:
    """H(one) + H(other) - H(one, other), in nats; both labels [N] are below BINS."""
    return _entropy(one) + _entropy(other) - _entropy(one * BINS + other)


@metric(better="higher", ideal=1.0)
def mig(test_codes: Tensor, test_factors: Tensor) -> float:
    """Mutual information gap (Chen et al. 2018, eq. 6): (I(best latent) - I(second best)) / H(factor), over factors.

    Codes and continuous factors fall into BINS bins (Locatello et al. 2019), where Chen et al. sample the posterior.
    Of N images, histograms of independent numbers share some (BINS - 1)^2 / 2N nats: perfect codes miss 1 by so much
    over H(factor).
    """
    if not test_codes.isfinite().all():
        return math.nan
    codes = [_binned(latent) for latent in _with_rival(test_codes).T]
    factors = [_classes(factor) for factor in test_factors.double().numpy().T]
    information = np.array([[_information(code, factor) for factor in factors] for code in codes])
    return _gap(_ratio(information, np.array([_entropy(factor) for factor in factors])))


# --- separated attribute predictability


def _targets(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """What is to be predicted of a factor, for training and test images, [M] and [N], and whether it is a class."""
    distinct, index = np.unique(np.concatenate([train, test]), return_inverse=True)
    return (index[: len(train)], index[len(train) :], True) if len(distinct) <= BINS else (train, test, False)


def _squared_correlation(codes: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Of each latent with the factor [N]: R^2 of a linear regression, [D]."""
    codes, factor = codes - codes.mean(0), factor - factor.mean()
    return _ratio((factor @ codes) ** 2, (factor**2).sum() * (codes**2).sum(0))


def _threshold_accuracy(train: np.ndarray, train_label: np.ndarray, test: np.ndarray, test_label: np.ndarray) -> float:
    """Balanced test accuracy of K classes from one latent, [M, 1] and [N, 1], by K - 1 thresholds."""
    leaves = max(2, len(np.unique(train_label)))
    tree = DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=SEED)
    return balanced_accuracy_score(test_label, tree.fit(train, train_label).predict(test))


@metric(better="higher", ideal=1.0)
def sap(train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> float:
    """Separated attribute predictability (Kumar et al. 2018, sec. 3): the best latent's score less the second's.

    Mean over factors. A latent's score for a continuous factor is the squared correlation of test images, for a
    discrete one of K classes the balanced test accuracy by K - 1 thresholds, set on training images (greedily, by Gini
    impurity). That of chance is 1 / K, so a discrete factor's gap is 1 - 1 / K at most.

    Locatello et al. 2019 take a linear SVM of C = 0.01 for thresholds, whose accuracy depends on the codes' scale.
    """
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
    """How far each row of [n, k] lies on one of its k, [n]: 1 - its shares' entropy to the base k; 0 for a row of 0."""
    share = _ratio(importance, importance.sum(1, keepdims=True))
    entropy = entr(share).sum(1) / np.log(max(importance.shape[1], 2))
    return np.where(importance.any(1), 1 - entropy, 0.0)


def disentanglement(importance: np.ndarray) -> float:
    """Whether a latent matters for one factor only; weighted by its share of all importance [D, F]."""
    return float(_concentration(importance) @ _ratio(importance.sum(1), importance.sum()))


def completeness(importance: np.ndarray) -> float:
    """Whether for a factor one latent only matters, mean over factors; importance: [D, F]."""
    return float(_concentration(importance.T).mean())


@lru_cache(maxsize=1)
def _fit(*arrays: tuple[bytes, tuple[int, ...]]) -> tuple[np.ndarray, Value]:
    """The forests' importance of each latent for each factor, [D, F], each factor's summing to 1, and informativeness.

    arrays: training codes and factors, test codes and factors, as the bytes of float32, and the shape.
    """
    train, train_factors, test, test_factors = (np.frombuffer(data, np.float32).reshape(s) for data, s in arrays)
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        return np.full((train.shape[1], train_factors.shape[1]), np.nan), Value(math.nan)
    train, test = _scaled(train.astype(np.float64), test.astype(np.float64))
    # A forest draws rows and breaks ties by position, so both latents and images are put in an order of their own.
    latents = np.lexsort(np.sort(train, axis=0))
    train, test = train[:, latents], test[:, latents]
    rows = np.lexsort(np.column_stack([train, train_factors]).T)[:: math.ceil(len(train) / AT_MOST)]
    importance, score, floor = [], [], []
    for of_train, of_test in zip(train_factors.T, test_factors.T, strict=True):
        train_target, test_target, discrete = _targets(of_train, of_test)
        kind, trivial = (
            (RandomForestClassifier, DummyClassifier) if discrete else (RandomForestRegressor, DummyRegressor)
        )
        # Each split may take any latent: where it must do without the right one, it makes others look important.
        forest = kind(TREES, min_samples_leaf=LEAF, max_features=None, random_state=SEED)
        forest.fit(train[rows], train_target[rows])
        importance.append(forest.feature_importances_)
        score.append(forest.score(test, test_target))
        floor.append(trivial().fit(train[rows], train_target[rows]).score(test, test_target))
    return np.array(importance).T, Value(float(np.mean(score)), floor=float(np.mean(floor)))


def _dci(*arrays: Tensor) -> tuple[np.ndarray, Value]:
    """`_fit`, made once for the three metrics: the last is known again by all that the arrays hold."""
    return _fit(*((part.numpy().tobytes(), part.shape) for part in arrays))


@metric(better="higher", ideal=1.0)
def dci_disentanglement(train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> float:
    """Whether a latent matters for one factor only (Eastwood & Williams 2018, sec. 2): 1 - H_F(P_i), over latents.

    P_i: latent i's importance for each of the F factors, as shares; H_F: entropy to the base F. The mean is weighted by
    the latent's share of all importance. Importance is what a random forest of the codes of training images has.
    """
    return disentanglement(_dci(train_codes, train_factors, test_codes, test_factors)[0])


@metric(better="higher", ideal=1.0)
def dci_completeness(train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> float:
    """Whether for a factor one latent only matters (Eastwood & Williams 2018, sec. 2): 1 - H_D(P_j), over factors.

    P_j: each of the D latents' importance for factor j, as shares; as for `dci_disentanglement`.
    """
    return completeness(_dci(train_codes, train_factors, test_codes, test_factors)[0])


@metric(better="higher", ideal=1.0)
def dci_informativeness(train_codes: Tensor, train_factors: Tensor, test_codes: Tensor, test_factors: Tensor) -> Value:
    """How well the forests predict factors of test images (Eastwood & Williams 2018, sec. 2, who give errors).

    R^2 of a continuous factor, accuracy of a discrete one, mean over factors. floor: what needs no codes, the training
    images' mean or most frequent class.
    """
    return _dci(train_codes, train_factors, test_codes, test_factors)[1]
