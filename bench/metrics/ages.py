"""Does a face get the age that it is asked for, and stay the same face? For data sets with the condition `age`.

Age groups: conditions["age"], [N, V], one-hot; truth["age"]: [N], in years or any other unit; truth["aged"]:
[N, V, C, H, W] uint8, the true face in each group. traversals["age"]: [S, V, C, H, W], translations of the test
examples `subset` to each group; judged_traversals["age"]: what a judge reads from them, [S, V, ...], by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric, summarise
from bench.metrics.checks import ROUNDING, check_classes

Facts = Mapping[str, Tensor]


def _wanted(train_conditions: Facts, train_truth: Facts) -> Tensor:
    """The age that each group stands for, [V]: the mean of the training faces in it."""
    group, age = train_conditions["age"].double(), train_truth["age"].double()
    return (group.T @ age) / group.sum(0)


def _ages(judged_traversals: Mapping[str, Facts], train_conditions: Facts, train_truth: Facts) -> tuple[Tensor, Tensor]:
    """Judged and wanted ages of all translations, [S V] each."""
    judged = judged_traversals["age"]["age"].double().flatten(1)
    return judged.flatten(), _wanted(train_conditions, train_truth).expand_as(judged).flatten()


@metric(better="higher", ideal=1.0)
def age_correlation(judged_traversals: Mapping[str, Facts], train_conditions: Facts, train_truth: Facts) -> Value:
    """Pearson's correlation of the age that a judge reads from translations with the age that was asked for.

    A model that ignores the age has 0.
    """
    judged, wanted = _ages(judged_traversals, train_conditions, train_truth)
    judged, wanted = judged - judged.mean(), wanted - wanted.mean()
    varies = judged.square().mean() > ROUNDING
    value = (judged * wanted).sum() / (judged.square().sum() * wanted.square().sum()).sqrt() if varies else 0.0
    return Value(float(value), n=len(judged))


@metric(better="closest", ideal=1.0)
def age_slope(judged_traversals: Mapping[str, Facts], train_conditions: Facts, train_truth: Facts) -> Value:
    """How many years older a judge sees translations for each year that was asked for: the slope of a linear fit."""
    judged, wanted = _ages(judged_traversals, train_conditions, train_truth)
    wanted = wanted - wanted.mean()
    return Value(float((judged * wanted).sum() / wanted.square().sum()), n=len(judged))


@metric(better="lower", ideal=0.0)
def age_error(judged_traversals: Mapping[str, Facts], train_conditions: Facts, train_truth: Facts) -> Tensor:
    """The mean absolute difference of judged and wanted age over the translations of each test example, [S].

    In the unit of the ages of the data set.
    """
    judged, wanted = _ages(judged_traversals, train_conditions, train_truth)
    return (judged - wanted).abs().view(len(judged_traversals["age"]["age"]), -1).mean(1)


def _psnr_at_other_ages(made: Tensor, truth: Facts, conditions: Facts, subset: Tensor) -> Tensor:
    """PSNR between images and the true faces, [S]: the mean over the groups [S, V] in which the test example is not.

    made: [S, V, C, H, W], or [S, 1, C, H, W] for all groups.
    """
    aged, other = truth["aged"][subset].float() / 255, conditions["age"][subset] == 0
    error = (made - aged).square().flatten(2).mean(2)
    if exact := int((error[other] == 0).sum()):
        raise UnavailableError(f"{exact} faces are reproduced exactly: their PSNR is infinite")
    return (-10 * error.where(other, 1.0).log10()).sum(1) / other.sum(1)


@metric(better="higher", unit="dB")
def aged_psnr(traversals: Facts, truth: Facts, conditions: Facts, subset: Tensor, x: Tensor) -> Value:
    """PSNR between translations and the true face at these ages, [S], the mean over all groups but that of x.

    floor: that of x itself, a copy of the input.
    """
    copied = _psnr_at_other_ages(x[subset, None], truth, conditions, subset)
    found = _psnr_at_other_ages(traversals["age"], truth, conditions, subset)
    return replace(summarise(found), floor=copied.mean().item())


@metric(better="lower", ideal=0.0, unit="dB")
def age_leak_db(traversals: Facts, truth: Facts, conditions: Facts, subset: Tensor, x: Tensor) -> Tensor:
    """PSNR of the translation to the example's own age group, its reconstruction, minus `aged_psnr`, [S].

    What the code knows of the age helps only the reconstruction.
    """
    reconstruction = traversals["age"][conditions["age"][subset] == 1]
    error = (reconstruction - x[subset]).square().flatten(1).mean(1)
    return -10 * error.log10() - _psnr_at_other_ages(traversals["age"], truth, conditions, subset)


@metric(better="lower")
def age_probe_accuracy(train_codes: Tensor, train_conditions: Facts, test_codes: Tensor, conditions: Facts) -> Value:
    """Whether logistic regression on codes predicts the age group of a test example, [N]; floor: the largest group's.

    Fitted as for `linear_probe_accuracy`. A code without the age stays at the floor; a code of many latents may be
    above it although the decoder reads the age from its condition alone.
    """
    given, group = conditions["age"].argmax(1), train_conditions["age"].int().argmax(1)
    found = linear_probe(train_codes, group, test_codes, given)
    floor = (given == group.mode().values).float().mean().item()
    return replace(summarise(found), floor=floor)


@metric(better="higher", ideal=1.0)
def identity_kept(judged_traversals: Mapping[str, Facts], truth: Facts, conditions: Facts, subset: Tensor) -> Value:
    """How well what else is known of a face, such as its gender, can be read from translations to other ages, [S].

    The `agreement` of a judge's answers with the truth: the accuracy of classes, R^2 of numbers.
    """
