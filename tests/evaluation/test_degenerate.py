"""Degenerate data: copies, constant images, one class, few images. A metric is right, or its reason says why not."""

from __future__ import annotations

import math
import re
import warnings

import pytest
import torch
from torch import Tensor

from bench.data import Data, Shapes, Split
from bench.metrics import discover
from bench.metrics.fidelity import recall
from bench.parts.corruptions import Gaussian
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import petals
from tests.evaluation.known_models import Conditional, Generator, IdentityAutoencoder, LinearGaussian, digits
from tests.evaluation.test_evaluate import measure

pytestmark = pytest.mark.usefixtures("short_pilot")

ANNEALED = {"log_likelihood_ais", "log_likelihood_ais_shared", "bdmc_gap", "bdmc_gap_shared", "ais_minus_iw"}
ALL = sorted(discover().keys() - {"fid"} - ANNEALED)  # fid needs another package; annealing has its own test


class Collapsed(LinearGaussian):
    """The same posterior for every image."""

    def encode(self, batch):
        return DiagonalGaussian(torch.full((len(batch.x), 3), 0.1), torch.zeros(len(batch.x), 3))


class ByClass(Conditional):
    samples_by_label = True

    def __init__(self):
        super().__init__(2)
        self.prior = petals()

    def encode(self, batch):
        q = super().encode(batch)
        return DiagonalGaussian(q.mean[:, :2], q.log_variance[:, :2])


def split(x: Tensor, label: Tensor, factors: Tensor | None = None) -> Split:
    return Split(x, label, torch.stack([label.float(), x.mean((1, 2, 3))], 1) if factors is None else factors)


def data(train: Split, test: Split | None = None, **options) -> Data:
    test = test or train
    known = {"modes": test.x[:2], "mode_sigma": 0.1} | options
    fingerprint = f"{len(train.x)} {train.x.sum()} {train.label.sum()}"  # equal training images share a classifier
    return Data(train, test, test, Shapes((1, 8, 8), 10), 17, "none", True, fingerprint, **known)


X, LABEL = digits().train.x[:400], digits().train.label[:400]
OTHERS = split(digits().test.x[:200], digits().test.label[:200])
DIGITS = split(X, LABEL)
EQUAL = torch.arange(40) // 10  # ten copies of each image
ALTERNATE = torch.arange(40) % 2
ONE_MEMBER = (torch.arange(400) == 7).long()
CONSTANT = torch.ones(400, 2)


def without_dequantisation(original: Data) -> Data:
    """Dequantisation adds noise, after which no two images are the same."""
    return Data(**vars(original) | {"dequantize": False})


CASES = {
    "copies": data(split(X[EQUAL], LABEL[EQUAL])),
    "copies in the test set": data(DIGITS, split(X[EQUAL], LABEL[EQUAL])),
    "copies of training images": data(DIGITS, split(X[:60], LABEL[:60])),
    "constant": data(split(torch.full((40, 1, 8, 8), 0.3), ALTERNATE)),
    "black": data(split(torch.zeros(40, 1, 8, 8), ALTERNATE)),
    "constant test set": data(DIGITS, split(torch.full((40, 1, 8, 8), 0.3), ALTERNATE)),
    "flat": data(split(torch.linspace(0, 1, 40).view(-1, 1, 1, 1).expand(-1, 1, 8, 8), ALTERNATE)),
    "one class": data(split(X, torch.zeros(400).long())),
    "one class in the test set": data(DIGITS, split(OTHERS.x[:40], torch.full((40,), 3))),
    "a class with one image": data(split(X, ONE_MEMBER), split(OTHERS.x[:50], ONE_MEMBER[:50])),
    "labels that images do not show": data(split(X, LABEL.roll(1)), split(OTHERS.x, OTHERS.label.roll(1))),
    "an unknown class": data(split(X, LABEL % 3), split(OTHERS.x, torch.full((200,), 9))),
    "factors that do not vary": data(DIGITS._replace(factors=CONSTANT), OTHERS._replace(factors=CONSTANT[:200])),
    **{f"{n} test images": data(DIGITS, OTHERS.rows(slice(n))) for n in (1, 2, 3, 5, 6, 10, 11)},
    **{f"{n} images": data(DIGITS.rows(slice(n))) for n in (1, 2, 3, 6)},
}  # fmt: skip
CASES = {name: without_dequantisation(case) for name, case in CASES.items()} | {
    "copies, dequantised": CASES["copies"],
    "constant, dequantised": CASES["constant"],
    "1 image, dequantised": CASES["1 images"],
}
OTHER_MODELS = [IdentityAutoencoder, Generator, Conditional, Collapsed, ByClass]
HARD = ["copies", "constant", "black", "one class", "1 test images", "2 test images", "1 images", "2 images"]


@pytest.mark.parametrize(
    ("model", "case"),
    [(LinearGaussian, case) for case in CASES] + [(model, case) for model in OTHER_MODELS for case in HARD],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_metric_has_a_finite_value_or_a_reason(model, case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entries = measure(model(), CASES[case], ALL, corruption=Gaussian(0.2), samples=40)
    for name, entry in entries.items():
        if entry["value"] is None:
            reason = entry["reason"]
            assert reason and "\n" not in reason, name
            assert not reason.startswith(("failed", "not a finite number")), f"{name}: {reason}"
        else:
            assert math.isfinite(entry["value"]), name


@pytest.mark.parametrize("case", ["constant", "1 images"])
def test_annealing_works_with_one_image(case):
    entries = measure(LinearGaussian(), CASES[case], sorted(ANNEALED))
    assert all(entry["value"] is not None and math.isfinite(entry["value"]) for entry in entries.values())


BALLS = {"precision", "density", "coverage"}
FEATURES = BALLS | {"recall", "frechet_distance", "kernel_distance", "nearest_neighbour_ratio"}
FEATURES |= {"interpolation_gap", "interpolation_gap_pixels"}
NEIGHBOURHOODS = {"trustworthiness", "continuity"}
CONTRAST = {"relative_contrast", "relative_contrast_pixels"}
KNN = {"knn_accuracy", "knn_accuracy_1", "knn_accuracy_20", "knn_accuracy_pixels"}
CLASSES = {"linear_probe_accuracy", "clustering_accuracy", "class_coverage", "class_entropy"}
SHARPNESS = {name for name in ALL if name.startswith(("sharpness", "tenengrad", "high_frequency"))}
SPREAD = {"active_units", "latent_drift", "jacobian_norm"}
FACTORS = {"mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"}


@pytest.mark.parametrize(
    ("case", "names", "reason"),
    [
        ("copies in the test set", BALLS | NEIGHBOURHOODS, "of 40 .* have 5 or more copies"),
        ("copies in the test set", CONTRAST, "have copies"),
        ("copies", {"nearest_neighbour_ratio", "interpolation_gap"}, "test image is a copy of a training image"),
        ("copies of training images", {"nearest_neighbour_ratio"}, "test image is a copy of a training image"),
        ("constant", FEATURES | KNN, "^all (training images|codes of training images) are the same"),
        ("constant", NEIGHBOURHOODS | CONTRAST, "copies"),
        ("constant", SHARPNESS, "^the test images are flat"),
        ("constant", SPREAD, "^all (test images|codes of test images) are the same$"),
        ("black", {"shift_over_damage", "shift_over_damage_pixels"}, "^the damage changes no "),
        ("constant test set", BALLS | NEIGHBOURHOODS | CONTRAST, "copies"),
        ("constant test set", SHARPNESS, "^the test images are flat"),
        ("flat", SHARPNESS, "^the test images are flat"),
        ("one class", FEATURES | KNN | CLASSES, "one class"),
        ("one class in the test set", CLASSES - {"linear_probe_accuracy"}, "^all test images are of one class$"),
        ("factors that do not vary", FACTORS, "^no factor varies over the images$"),
        ("1 test images", FEATURES - {"nearest_neighbour_ratio"} | NEIGHBOURHOODS, "needs"),
        ("1 test images", CONTRAST | SPREAD | FACTORS, "needs"),
        ("5 test images", BALLS | {"recall"}, "needs at least 6 test images, and there are 5$"),
        ("10 test images", NEIGHBOURHOODS, "needs at least 11 test images, and there are 10$"),
        ("6 images", KNN - {"knn_accuracy_20", "knn_accuracy_1"}, None),
        ("6 images", {"knn_accuracy_20"}, "needs at least 21 training images, and there are 6$"),
        ("3 images", KNN - {"knn_accuracy_1"}, "training images, and there are 3$"),
        ("6 test images", FEATURES, None),
        ("11 test images", NEIGHBOURHOODS, None),
        ("a class with one image", FEATURES | KNN | CLASSES - {"class_coverage", "class_entropy"}, None),
        (
            "a class with one image",
            {"class_coverage", "class_entropy"},
            r"^label has a score of 0\.98 on real images, too close to the 0\.98 of a blind prediction$",
        ),
        (
            "labels that images do not show",
            {"class_coverage", "class_entropy"},
            r"^label has a score of 0\..* on real images, too close to the 0\.\d+ of a blind prediction$",
        ),
        ("copies of training images", BALLS | {"recall", "frechet_distance"} | NEIGHBOURHOODS | KNN | SHARPNESS, None),
    ],
)
def test_metrics_have_a_value_or_the_expected_reason(case, names, reason):
    """reason: None if the metrics have a value."""
    for name, entry in measure(LinearGaussian(), CASES[case], sorted(names), samples=40).items():
        assert (entry["value"] is None) == (reason is not None), (name, entry)
        assert reason is None or re.search(reason, entry["reason"]), (name, entry["reason"])


def test_a_few_copies_change_metrics_little():
    """6 of 600 images are copies. Their balls are empty, which lowers coverage by at most a hundredth."""
    x = digits().train.x[400:1000].clone()
    x[:6] = x[0]
    data_of = lambda test: without_dequantisation(data(DIGITS, split(test, torch.arange(len(test)) % 10)))  # noqa: E731
    names = ["precision", "coverage", "trustworthiness", "continuity"]
    with_copies = measure(LinearGaussian(), data_of(x), names, samples=40)
    without_copies = measure(LinearGaussian(), data_of(x[6:]), names, samples=40)
    for name in names:
        assert with_copies[name]["value"] == pytest.approx(without_copies[name]["value"], abs=0.02), name


def test_recall_of_identical_samples_is_0():
    """The balls of the samples are empty because of the model, not because of the data."""
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    collapsed = recall(
        test_features=features[:20], sample_features=features[:1].repeat(9, 1), train_features=features[20:]
    )
    assert collapsed.value == 0 and collapsed.floor > 0
    without_reference = recall(
        test_features=features[:20], sample_features=features[20:], train_features=features[:1].repeat(20, 1)
    )
    assert without_reference.value > 0 and without_reference.floor is None, "identical training images give no floor"
