from __future__ import annotations

import pytest
import torch

from bench.core import UnavailableError
from bench.metrics.judged import Judgement
from bench.metrics.maps import (
    pose_miou,
    resegmented_miou,
    silhouette_iou,
    sketch_accuracy,
    sketch_diversity,
    sketch_miou,
)

# Two examples of 1 x 4 pixels in three classes.
TRUE = torch.tensor([[[0, 1, 1, 2]], [[2, 0, 1, 1]]])
ANOTHER = torch.tensor([[[0, 1, 2, 2]], [[2, 0, 1, 2]]])
TRUTH = {"sketch": TRUE, "another_sketch": ANOTHER, "pose": torch.tensor([[[0, 3, 3, 0]], [[3, 0, 3, 3]]])}


def one_hot(classes: torch.Tensor) -> torch.Tensor:
    return (classes[:, None] == torch.arange(3)[:, None, None]).float()


def stages(sketch=TRUE, another=ANOTHER) -> dict[str, torch.Tensor]:
    return {"sketch": one_hot(sketch), "another_sketch": one_hot(another)}


def test_the_miou_of_a_sketch_by_hand():
    assert sketch_miou(stages(), TRUTH).value == 1
    value = sketch_miou(stages(ANOTHER), TRUTH)
    ious = [(1 + 1 / 2 + 1 / 2) / 3, (1 + 1 / 2 + 1 / 2) / 3]  # background, class 1, class 2
    assert value.value == pytest.approx(sum(ious) / 2) and value.n == 2
    assert value.details["real"] == pytest.approx(value.value)  # the second true sketch is the answer here
    # One pixel of each map agrees with that of the other example, pixel 2, of class 1, which has 3 in the union.
    assert value.floor == pytest.approx(1 / 9)


def test_accuracy_counts_pixels():
    value = sketch_accuracy(stages(ANOTHER), TRUTH)
    assert (value.value, value.details["real"], value.floor) == (0.75, 0.75, 0.25)


def test_a_silhouette_is_compared_with_the_pose():
    value = silhouette_iou(stages(torch.tensor([[[0, 1, 2, 0]], [[1, 1, 1, 1]]])), TRUTH)
    assert value.value == pytest.approx((1 + 3 / 4) / 2)
    assert value.details["real"] == pytest.approx((2 / 3 + 1) / 2)
    assert value.floor == pytest.approx((1 / 4 + 2 / 4) / 2)


def test_two_empty_silhouettes_agree():
    empty = torch.zeros(2, 1, 4, dtype=torch.long)
    value = silhouette_iou(stages(torch.stack([empty[0], TRUE[1]])), TRUTH | {"pose": empty})
    assert value.value == 0.5, "1 where sketch and pose are empty, 0 where the pose alone is"


@pytest.mark.parametrize(("another", "expected"), [(TRUE, 0), (ANOTHER, 1), (1 - ANOTHER.clamp(max=1), 4)])
def test_diversity_is_relative_to_true_sketches(another, expected):
    assert sketch_diversity(stages(another=another), TRUTH).item() == pytest.approx(expected)


def test_diversity_needs_true_sketches_that_differ():
    with pytest.raises(UnavailableError, match="do not differ"):
        sketch_diversity(stages(), TRUTH | {"another_sketch": TRUE})


def judged(answer: torch.Tensor, name: str = "sketch", real: torch.Tensor | None = None) -> dict[str, Judgement]:
    truth = TRUTH[name]
    blind = torch.zeros_like(truth)
    return {name: Judgement(answer, truth if real is None else real, blind, truth)}


def test_a_portrait_is_compared_with_the_sketch_that_it_was_made_from():
    x_mean, made = torch.rand(2, 3, 1, 4), stages(ANOTHER)
    assert resegmented_miou(judged(ANOTHER), x_mean, made, TRUTH).value == 1
    assert resegmented_miou(judged(TRUE), x_mean, made, TRUTH).value < 1
    made["true_sketch"] = x_mean  # the portraits of this stage are of true sketches
    assert resegmented_miou(judged(TRUE), x_mean, made, TRUTH).value == 1


def test_a_metric_whose_judge_is_unreliable_is_not_available():
    with pytest.raises(UnavailableError, match="a blind prediction"):
        resegmented_miou(judged(TRUE, real=TRUE * 0), torch.rand(2, 3, 1, 4), stages(), TRUTH)
    with pytest.raises(UnavailableError):
        pose_miou(judged(TRUE))


def test_a_pose_is_read_back():
    pose = TRUTH["pose"]
    value = pose_miou(judged(pose, "pose"))
    assert value.value == value.details["real"] == 1 and value.floor < 0.5
