"""Degenerate data: copies, flat images, one class, a handful of images. A metric is right, or says why it is n/a."""

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
from tests.evaluation.answering import Coder, Conditional, Generator, LinearGaussian, digits
from tests.evaluation.test_evaluate import measured

pytestmark = pytest.mark.usefixtures("short_pilot")

ANNEALED = {"log_likelihood_ais", "log_likelihood_ais_shared", "bdmc_gap", "bdmc_gap_shared", "ais_minus_iw"}
ALL = sorted(discover().keys() - {"fid"} - ANNEALED)  # fid needs a package of its own; annealing has a test of its own


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
EQUAL = torch.arange(40) // 10  # of each image ten
ALTERNATE = torch.arange(40) % 2
LONELY = (torch.arange(400) == 7).long()
FIXED = torch.ones(400, 2)


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
    "a class with one picture": data(split(X, LONELY), split(OTHERS.x[:50], LONELY[:50])),
    "an unknown class": data(split(X, LABEL % 3), split(OTHERS.x, torch.full((200,), 9))),
    "factors that do not vary": data(DIGITS._replace(factors=FIXED), OTHERS._replace(factors=FIXED[:200])),
    **{f"{n} test images": data(DIGITS, OTHERS.rows(slice(n))) for n in (1, 2, 3, 5, 6, 10, 11)},
    **{f"{n} images": data(DIGITS.rows(slice(n))) for n in (1, 2, 3, 6)},
}  # fmt: skip
CASES = {name: without_dequantisation(case) for name, case in CASES.items()} | {
    "copies, dequantised": CASES["copies"],
    "constant, dequantised": CASES["constant"],
    "1 image, dequantised": CASES["1 images"],
}
OTHER_MODELS = [Coder, Generator, Conditional, Collapsed, ByClass]
HARD = ["copies", "constant", "black", "one class", "1 test images", "2 test images", "1 images", "2 images"]


@pytest.mark.parametrize(
    ("model", "case"),
    [(LinearGaussian, case) for case in CASES] + [(model, case) for model in OTHER_MODELS for case in HARD],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_metric_has_a_finite_number_or_a_reason_that_names_the_data(model, case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entries = measured(model(), CASES[case], ALL, corruption=Gaussian(0.2), samples=40)
    for name, entry in entries.items():
        if entry["value"] is None:
            reason = entry["reason"]
            assert reason and "\n" not in reason, name
            assert not reason.startswith(("failed", "not a finite number")), f"{name}: {reason}"
        else:
            assert math.isfinite(entry["value"]), name


@pytest.mark.parametrize("case", ["constant", "1 images"])
def test_annealing_needs_one_image(case):
    entries = measured(LinearGaussian(), CASES[case], sorted(ANNEALED))
    assert all(entry["value"] is not None and math.isfinite(entry["value"]) for entry in entries.values())


BALLS = {"precision", "density", "coverage"}
FEATURES = BALLS | {"recall", "frechet_distance", "kernel_distance", "nearest_neighbour_ratio"}
FEATURES |= {"interpolation_gap", "interpolation_gap_pixels"}
KEPT = {"trustworthiness", "continuity"}
CONTRASTS = {"relative_contrast", "relative_contrast_pixels"}
KNN = {"knn_accuracy", "knn_accuracy_1", "knn_accuracy_20", "knn_accuracy_pixels"}
CLASSES = {"linear_probe_accuracy", "clustering_accuracy", "class_coverage", "class_entropy"}
SHARP = {name for name in ALL if name.startswith(("sharpness", "tenengrad", "high_frequency"))}
SPREAD = {"active_units", "latent_drift", "jacobian_norm"}
FACTORS = {"mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"}


@pytest.mark.parametrize(
    ("case", "names", "reason"),
    [
        ("copies in the test set", BALLS | KEPT, "of 40 .* have 5 or more copies"),
        ("copies in the test set", CONTRASTS, "have copies"),
        ("copies", {"nearest_neighbour_ratio", "interpolation_gap"}, "test image is a copy of a training image"),
        ("copies of training images", {"nearest_neighbour_ratio"}, "test image is a copy of a training image"),
        ("constant", FEATURES | KNN, "^all (training images|codes of training images) are the same"),
        ("constant", KEPT | CONTRASTS, "copies"),
        ("constant", SHARP, "^the test images are flat"),
        ("constant", SPREAD, "^all (test images|codes of test images) are the same$"),
        ("black", {"shift_over_damage", "shift_over_damage_pixels"}, "^the damage changes no "),
        ("constant test set", BALLS | KEPT | CONTRASTS, "copies"),
        ("constant test set", SHARP, "^the test images are flat"),
        ("flat", SHARP, "^the test images are flat"),
        ("one class", FEATURES | KNN | CLASSES, "one class"),
        ("one class in the test set", CLASSES - {"linear_probe_accuracy"}, "^all test images are of one class$"),
        ("factors that do not vary", FACTORS, "^no factor varies over the images$"),
        ("1 test images", FEATURES - {"nearest_neighbour_ratio"} | KEPT | CONTRASTS | SPREAD | FACTORS, "needs"),
        ("5 test images", BALLS | {"recall"}, "needs at least 6 test images, and there are 5$"),
        ("10 test images", KEPT, "needs at least 11 test images, and there are 10$"),
        ("6 images", KNN - {"knn_accuracy_20", "knn_accuracy_1"}, None),
        ("6 images", {"knn_accuracy_20"}, "needs at least 21 training images, and there are 6$"),
        ("3 images", KNN - {"knn_accuracy_1"}, "training images, and there are 3$"),
        ("6 test images", FEATURES, None),
        ("11 test images", KEPT, None),
        ("a class with one picture", FEATURES | KNN | CLASSES, None),
        ("copies of training images", BALLS | {"recall", "frechet_distance"} | KEPT | KNN | SHARP, None),
    ],
)
def test_what_has_no_answer_says_why_and_what_has_one_gives_it(case, names, reason):
    """reason: None where there is a number."""
    for name, entry in measured(LinearGaussian(), CASES[case], sorted(names), samples=40).items():
        assert (entry["value"] is None) == (reason is not None), (name, entry)
        assert reason is None or re.search(reason, entry["reason"]), (name, entry["reason"])


def test_a_few_copies_change_little_and_do_not_cost_a_metric():
    """Of 600 images 6 are copies: their balls are empty, which costs coverage a hundredth at most."""
    x = digits().train.x[400:1000].clone()
    x[:6] = x[0]
    data_of = lambda test: without_dequantisation(data(DIGITS, split(test, torch.arange(len(test)) % 10)))  # noqa: E731
    names = ["precision", "coverage", "trustworthiness", "continuity"]
    some = measured(LinearGaussian(), data_of(x), names, samples=40)
    none = measured(LinearGaussian(), data_of(x[6:]), names, samples=40)
    for name in names:
        assert some[name]["value"] == pytest.approx(none[name]["value"], abs=0.02), name


def test_recall_of_samples_that_are_all_the_same_is_0_and_says_so():
    """The samples' balls are empty because of the model, not because of the data."""
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    found = recall(test_features=features[:20], sample_features=features[:1].repeat(9, 1), train_features=features[20:])
    assert found.value == 0 and found.floor > 0
    copied = recall(
        test_features=features[:20], sample_features=features[20:], train_features=features[:1].repeat(20, 1)
    )
    assert copied.value > 0 and copied.floor is None, "training images that are all the same are no reference"
