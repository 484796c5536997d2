"""Metrics of what judges read from images: by hand, by closed forms and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, r2_score
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics.judged import (
    Judgement,
    agreement,
    correlation,
    iou,
    judged_accuracy,
    judged_correlation,
    judged_error,
    judged_miou,
    usable,
)

LABEL = torch.arange(100) % 4
NUMBERS = torch.linspace(0, 1, 100)[:, None] ** torch.tensor([1.0, 2.0])
MAPS = torch.randint(0, 3, (20, 5, 4), generator=torch.Generator().manual_seed(0))


def judgement(truth: Tensor, answer: Tensor, *, real: Tensor | None = None, blind: Tensor | None = None) -> Judgement:
    constant = truth.mean(0).expand_as(truth) if truth.is_floating_point() else torch.zeros_like(truth)
    return Judgement(answer, truth if real is None else real, constant if blind is None else blind, truth)


def test_iou_by_hand():
    truth = torch.tensor([[[0, 0], [1, 1]], [[0, 0], [0, 0]], [[2, 2], [2, 2]]])
    answer = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]])
    assert iou(answer, truth).tolist() == [(1 / 2 + 2 / 3) / 2, 1.0, 0.0]


def test_iou_is_that_of_scikit_learn_for_each_image():
    answer = torch.where(torch.rand(MAPS.shape, generator=torch.Generator().manual_seed(1)) < 0.3, MAPS.roll(1), MAPS)
    expected = [jaccard_score(t.flatten(), a.flatten(), average="macro") for t, a in zip(MAPS, answer, strict=True)]
    np.testing.assert_allclose(iou(answer, MAPS), expected)


def test_agreement_is_accuracy_mean_iou_and_r_squared():
    answer = NUMBERS + 0.1 * torch.randn(NUMBERS.shape, generator=torch.Generator().manual_seed(0))
    assert agreement(answer, NUMBERS).mean().item() == pytest.approx(r2_score(NUMBERS.double(), answer.double()))
    assert agreement((LABEL > 1).long(), LABEL).tolist() == [1, 0, 0, 0] * 25
    assert torch.equal(agreement(MAPS.roll(1), MAPS), iou(MAPS.roll(1), MAPS))


def test_numbers_that_do_not_vary_are_ignored():
    truth = torch.column_stack([NUMBERS[:, 0], torch.ones(100)])
    answer = torch.column_stack([NUMBERS[:, 0], torch.arange(100.0)])
    assert agreement(answer, truth).mean() == 1
    assert correlation(answer, truth) == pytest.approx(1)
    assert judged_error(judged={"age": judgement(truth, answer)}).value == 0


def test_correlation_is_pearsons_and_0_for_a_constant_answer():
    answer = torch.column_stack([NUMBERS[:, 1], -3 * NUMBERS[:, 1] + 1])
    expected = [np.corrcoef(answer[:, k], NUMBERS[:, k])[0, 1] for k in (0, 1)]
    assert correlation(answer, NUMBERS) == pytest.approx(np.mean(expected), abs=1e-6)
    assert correlation(torch.full((100, 2), 0.1), NUMBERS) == 0
    found = judged_correlation(judged={"age": judgement(NUMBERS, answer, real=0.9 * NUMBERS)})
    assert (found.value, found.n, found.floor) == (pytest.approx(np.mean(expected), abs=1e-6), 100, 0)
    assert found.details["age_real"] == pytest.approx(1)


def test_accuracy_is_the_mean_over_classes_with_details_of_each():
    half_right = torch.where(torch.arange(100) < 50, LABEL, LABEL.roll(1))
    real = torch.where(torch.arange(100) < 90, LABEL, LABEL.roll(1))
    others = {"age": judgement(NUMBERS, NUMBERS), "parts": judgement(MAPS, MAPS)}
    judged = {"body": judgement(LABEL, LABEL), "wing": judgement(LABEL, half_right, real=real)}
    found = judged_accuracy(judged=judged | others)
    assert (found.value, found.n, found.floor, found.note) == (0.75, 100, 0.25, None)
    assert found.examples.tolist() == [1.0] * 50 + [0.5] * 50
    assert found.se == pytest.approx(found.examples.std().item() / 10)
    assert found.details == {
        **{"body": 1.0, "body_real": 1.0, "body_floor": 0.25},
        **{"wing": 0.5, "wing_real": 0.9, "wing_floor": 0.25},
    }


def test_the_error_of_numbers_is_in_units_of_their_spread():
    """A uniform number has the mean absolute deviation 1/4 and the standard deviation 1 / sqrt(12)."""
    uniform = torch.linspace(0, 1, 10_001)[:, None]
    found = judged_error(judged={"age": judgement(uniform, uniform + 0.1)})
    assert found.value == pytest.approx(0.1 * 12**0.5, rel=1e-3)
    assert found.floor == pytest.approx(12**0.5 / 4, rel=1e-3)
    assert found.details["age_real"] == 0
    scaled = judged_error(judged={"age": judgement(50 * uniform - 3, 50 * (uniform + 0.1) - 3)})
    assert scaled.value == pytest.approx(found.value, rel=1e-4)


def test_miou_is_the_mean_over_images_and_maps():
    found = judged_miou(judged={"parts": judgement(MAPS, MAPS), "pose": judgement(MAPS, MAPS.roll(1, 0))})
    assert found.value == pytest.approx((1 + iou(MAPS.roll(1, 0), MAPS).mean().item()) / 2)
    assert found.floor == pytest.approx(iou(torch.zeros_like(MAPS), MAPS).mean().item())
    assert found.n == 20


@pytest.mark.parametrize(("right", "used"), [(63, True), (62, False)])
def test_a_judge_is_used_from_halfway_between_blind_and_perfect(right, used):
    """Halfway between 0.25 and 1 is 0.625."""
    real = torch.where(torch.arange(100) < right, LABEL, (LABEL + 1) % 4)
    weak = {"beak": judgement(LABEL, LABEL, real=real)}
    both = weak | {"body": judgement(LABEL, LABEL.roll(1))}
    if used:
        assert judged_accuracy(judged=both).value == 0.5
        assert judged_accuracy(judged=both).note is None
        return
    found = judged_accuracy(judged=both)
    reason = "beak has a score of 0.62 on real images, too close to the 0.25 of a blind prediction"
    assert (found.value, found.note) == (0, f"left out: {reason}")
    assert found.details.keys() == {"body", "body_real", "body_floor"}
    with pytest.raises(UnavailableError, match=f"^{reason}$"):
        judged_accuracy(judged=weak)


def test_metrics_of_unknown_or_constant_truth_are_not_available():
    with pytest.raises(UnavailableError, match="^the data set has no truth that is a map and varies over its images$"):
        usable({"body": judgement(LABEL, LABEL)}, "map")
    for truth, form in ((torch.ones(5).long(), "class"), (torch.ones(5, 2), "number"), (LABEL[:1], "class")):
        with pytest.raises(UnavailableError, match="^body is the same for all test images$"):
            usable({"body": judgement(truth, truth)}, form)
