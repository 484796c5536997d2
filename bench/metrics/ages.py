"""Does a face get the requested age, and does it stay the same face? For data with age groups as a condition.

conditions["age"]: [N, V], one-hot over V groups; truth["age"]: [N], the age in years or another unit; truth["aged"]:
[N, V, C, H, W] uint8, the true face in each group. traversals["age"]: [S, V, C, H, W], translations of the test
examples `subset` [S] to each group; judged_traversals["age"]: what judges predict from these, [S, V, ...], by name;
vocabulary["age"]: the names of the groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric, summarise
from bench.metrics.judged import Judgement, agreement, correlation, usable
from bench.metrics.latent import linear_probe

Facts = Mapping[str, Tensor]
Judged = Mapping[str, Mapping[str, Judgement]]
Vocabulary = Mapping[str, Sequence[str]]


def _ages(
    judged_traversals: Judged, train_conditions: Facts, train_truth: Facts, vocabulary: Vocabulary
) -> tuple[Tensor, Tensor]:
    """The ages [S, V] that a judge predicts from translations, and the requested ages.

    The requested age is the mean age of the group's training examples. Raises UnavailableError for a group without any.
    """
    group, age = train_conditions["age"].double(), train_truth["age"].double()
    judged = usable({"age": _judged(judged_traversals)["age"]}, "number")[0]["age"].answer.double().flatten(1)
    count = group.sum(0)
    if empty := (count == 0).nonzero().flatten().tolist():
        names = vocabulary.get("age") or range(len(count))
        missing = ", ".join(str(names[k]) for k in empty)
        raise UnavailableError(f"no training example is in an age group that is asked for: {missing}")
    return judged, (group.T @ age / count).expand_as(judged)


def _judged(judged_traversals: Judged) -> Mapping[str, Judgement]:
    if "age" not in judged_traversals or "age" not in judged_traversals["age"]:
        raise UnavailableError("the data set has no age as both a one-hot condition and a number in its truth")
    return judged_traversals["age"]


@metric(better="higher", ideal=1.0)
def age_correlation(
    judged_traversals: Judged, train_conditions: Facts, train_truth: Facts, vocabulary: Vocabulary
) -> Value:
    """Pearson's correlation of the judged ages of translations with the requested ages.

    It is 0 for a model that ignores the age. floor: that of judged and true ages of the test images.
    """
    judged, wanted = _ages(judged_traversals, train_conditions, train_truth, vocabulary)
    real = judged_traversals["age"]["age"]
    value = correlation(judged.reshape(-1, 1), wanted.reshape(-1, 1))
    return Value(value, n=len(judged), floor=correlation(real.real, real.truth))


@metric(better="closest", ideal=1.0)
def age_slope(judged_traversals: Judged, train_conditions: Facts, train_truth: Facts, vocabulary: Vocabulary) -> Tensor:
    """The slope of a line fitted to the judged against the requested ages of a test example's translations, [S]."""
    judged, wanted = _ages(judged_traversals, train_conditions, train_truth, vocabulary)
    wanted = wanted - wanted.mean(1, keepdim=True)
    return (judged * wanted).sum(1) / wanted.square().sum(1)


@metric(better="lower", ideal=0.0)
def age_error(judged_traversals: Judged, train_conditions: Facts, train_truth: Facts, vocabulary: Vocabulary) -> Value:
    """The absolute difference of judged and requested age, in the unit of the data, averaged over groups: [S].

    floor: that of judged and true ages of the test images.
    """
    judged, wanted = _ages(judged_traversals, train_conditions, train_truth, vocabulary)
    real = judged_traversals["age"]["age"]
    return replace(summarise((judged - wanted).abs().mean(1)), floor=(real.real - real.truth).abs().mean().item())


def _psnr_at_other_ages(made: Tensor, truth: Facts, conditions: Facts, subset: Tensor) -> Tensor:
    """PSNR between images and the true faces, averaged over all groups but the test example's own: [S].

    made: [S, V, C, H, W], or [S, 1, C, H, W] for all groups.
    """
    aged, other = truth["aged"][subset].float() / 255, conditions["age"][subset] == 0
    error = (made - aged).square().flatten(2).mean(2)
    if exact := int((error[other] == 0).sum()):
        raise UnavailableError(f"{exact} faces are reproduced exactly: their PSNR is infinite")
    return (-10 * error.where(other, 1.0).log10()).sum(1) / other.sum(1)


@metric(better="higher", unit="dB", sides={2, 3})
def aged_psnr(traversals: Facts, truth: Facts, conditions: Facts, subset: Tensor, x: Tensor) -> Value:
    """PSNR between translations and the true face at these ages, averaged over all groups but that of x: [S].

    floor: that of x itself, a copy of the input.
    """
    copied = _psnr_at_other_ages(x[subset, None], truth, conditions, subset)
    found = _psnr_at_other_ages(traversals["age"], truth, conditions, subset)
    return replace(summarise(found), floor=copied.mean().item())


@metric(better="lower", ideal=0.0, unit="dB", sides={2, 3})
def age_leak_db(traversals: Facts, truth: Facts, conditions: Facts, subset: Tensor, x: Tensor) -> Tensor:
    """PSNR of the translation to the example's own age group, its reconstruction, minus `aged_psnr`, [S].

    Age information that leaks into the code helps only the reconstruction.
    """
    reconstruction = traversals["age"][conditions["age"][subset] == 1]
    error = (reconstruction - x[subset]).square().flatten(1).mean(1)
    return -10 * error.log10() - _psnr_at_other_ages(traversals["age"], truth, conditions, subset)


@metric(better=None)
def age_probe_accuracy(train_codes: Tensor, train_conditions: Facts, test_codes: Tensor, conditions: Facts) -> Value:
    """Whether logistic regression on codes predicts the age group of a test example, [N].

    Fitted as for `linear_probe_accuracy`; floor: the accuracy of always predicting the most frequent group. A code
    without age information is at the floor. Above it, the decoder may still ignore that information.
    """
    given, group = conditions["age"].argmax(1), train_conditions["age"].int().argmax(1)
    found = linear_probe(train_codes, group, test_codes, given)
    floor = (given == group.mode().values).float().mean().item()
    return replace(summarise(found), floor=floor)


@metric(better="higher", ideal=1.0)
def identity_kept(judged_traversals: Judged, conditions: Facts, subset: Tensor) -> Value:
    """How well judges predict other properties of a face, such as its gender, from translations to other ages: [S].

    The `agreement` of their answers with the truth (accuracy of classes, R^2 of numbers), averaged over the properties.
    floor: that of the real test images.
    """
    others = {name: part for name, part in _judged(judged_traversals).items() if name != "age"}
    known = {name: part for name, part in others.items() if part.weakness is None}
    if not known:
        raise UnavailableError("judges can predict only the age of a face, and no other property")
    other = (conditions["age"][subset] == 0).double()
    found = [_agreement_at_other_ages(part, other) for part in known.values()]
    real = [agreement(part.real, part.truth) for part in known.values()]
    return replace(summarise(torch.stack(found).mean(0)), floor=torch.stack(real).mean().item())


def _agreement_at_other_ages(part: Judgement, other: Tensor) -> Tensor:
    """The mean over all groups [S, V] but the test example's own: [S]."""
    by_group = [agreement(part.answer[:, k], part.truth) for k in range(other.shape[1])]
    return (torch.stack(by_group, 1) * other).sum(1) / other.sum(1)
