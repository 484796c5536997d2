"""Voxel metrics, compared with closed forms, brute force and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.svm import LinearSVC

from bench.core import UnavailableError
from bench.metrics import summarise
from bench.metrics.voxels import (
    average_precision,
    coverage_iou,
    critic_svm_accuracy,
    largest_component_share,
    minimum_matching_iou,
    occupancy_ratio,
    untrained_critic_svm_accuracy,
    voxel_iou,
    voxel_iou_best_threshold,
    voxel_svm_accuracy,
)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def solids(count: int, seed: int = 0, share: float = 0.3) -> torch.Tensor:
    """Random occupancies [count, 1, 4, 4, 4], 0 or 1."""
    return (rand(count, 1, 4, 4, 4, seed=seed) < share).float()


def boxes(*sizes: int) -> torch.Tensor:
    """Boxes [N, 1, 4, 4, 4] of so many voxels, the first ones in order."""
    return (torch.arange(64) < torch.tensor(sizes)[:, None]).float().view(-1, 1, 4, 4, 4)


EMPTY = torch.zeros(3, 1, 4, 4, 4)


def set_iou(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of the sets of occupied voxels."""
    a, b = ({i for i, value in enumerate(shape.flatten().tolist()) if value > 0.5} for shape in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


# --- reconstructions


def test_iou_by_hand_and_by_sets():
    assert voxel_iou(boxes(10, 10, 20), boxes(5, 20, 20)).tolist() == [0.5, 0.5, 1.0]
    x, x_mean = solids(50), rand(50, 1, 4, 4, 4, seed=1)
    assert voxel_iou(x, x_mean).tolist() == [set_iou(one, other) for one, other in zip(x, x_mean, strict=True)]
    assert voxel_iou(x, x_mean).equal(voxel_iou(x_mean, x))


def test_empty_shapes_agree_with_empty_ones_only():
    assert voxel_iou(EMPTY, EMPTY).tolist() == [1, 1, 1]
    assert voxel_iou(EMPTY, boxes(1, 2, 64)).tolist() == [0, 0, 0]
    assert voxel_iou(boxes(1, 2, 64), EMPTY + 0.5).tolist() == [0, 0, 0], "0.5 itself is not above the threshold"


def test_the_threshold_is_chosen_on_validation_shapes():
    """Outputs of 0.3 inside and 0.1 outside: thresholds of 0.1 to 0.25 separate them; 0.25 is the nearest to 0.5."""
    x, validation_x = solids(20), solids(30, seed=1)
    dim = {"x_mean": 0.1 + 0.2 * x, "validation_x_mean": 0.1 + 0.2 * validation_x}
    value = voxel_iou_best_threshold(x=x, validation_x=validation_x, **dim)
    assert (value.value, value.n, value.details) == (1.0, 20, {"threshold": 0.25})
    assert voxel_iou(x, dim["x_mean"]).eq(0).all()
    # Where validation outputs are bright, the threshold is high, also if the test outputs would need a low one.
    dim["validation_x_mean"] = 0.7 + 0.2 * validation_x
    value = voxel_iou_best_threshold(x=x, validation_x=validation_x, **dim)
    assert (value.value, value.details) == (0.0, {"threshold": 0.7})


def test_the_best_threshold_is_that_of_all():
    x, x_mean = solids(40), (0.5 * solids(40) + 0.6 * rand(40, 1, 4, 4, 4, seed=2)).clamp(0, 1)
    value = voxel_iou_best_threshold(x, x_mean, x, x_mean)
    by_threshold = {
        t / 20: np.mean([set_iou(one, other - t / 20 + 0.5) for one, other in zip(x, x_mean, strict=True)])
        for t in range(1, 20)
    }
    assert value.value == pytest.approx(max(by_threshold.values()), abs=2e-3)
    assert by_threshold[value.details["threshold"]] == pytest.approx(value.value, abs=1e-6)
    assert value.value > voxel_iou(x, x_mean).mean() + 0.01
    with pytest.raises(UnavailableError, match="needs at least 1 validation shapes, and there are 0"):
        voxel_iou_best_threshold(x, x_mean, x[:0], x_mean[:0])


def precision_recall_area(true: list[bool], score: list[float]) -> float:
    """The definition: sum over thresholds, from high to low, of the step in recall times the precision."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        found = [t for t, s in zip(true, score, strict=True) if s >= threshold]
        recall = sum(found) / sum(true)
        area += (recall - before) * sum(found) / len(found)
        before = recall
    return area


def test_average_precision_is_the_mean_area_of_shapes():
    x, x_mean = solids(20), (20 * rand(20, 1, 4, 4, 4, seed=1)).round() / 20  # with ties
    value = average_precision(x, x_mean)
    areas = [
        precision_recall_area((a > 0.5).flatten().tolist(), b.flatten().tolist())
        for a, b in zip(x, x_mean, strict=True)
    ]
    assert (value.value, value.n) == (pytest.approx(np.mean(areas)), 20)
    assert value.examples.tolist() == pytest.approx(areas)


def test_average_precision_judges_the_order_alone():
    x = solids(200, share=0.2)
    noisy = x + 0.8 * rand(200, 1, 4, 4, 4)
    assert average_precision(x, 0.01 + 0.01 * x).value == 1
    assert average_precision(x, noisy).value == pytest.approx(average_precision(x, noisy**3 / 9).value)
    assert average_precision(x, EMPTY[:1].expand_as(x)).value == pytest.approx(x.mean().item(), abs=1e-6)
    chance = average_precision(x, rand(200, 1, 4, 4, 4, seed=3)).value
    assert x.mean() < chance < x.mean() + 0.1, "little above the share of occupied voxels, as there are few"


def test_empty_test_shapes_have_no_average_precision():
    x = torch.cat([boxes(10, 20), EMPTY])
    value = average_precision(x, x)
    assert (value.value, value.n) == (1, 2)
    with pytest.raises(UnavailableError, match="^all test shapes are empty$"):
        average_precision(EMPTY, EMPTY)


def test_outputs_that_are_not_finite_have_no_value():
    x, broken = solids(5), solids(5)
    broken[2, 0, 1, 1, 1] = torch.nan
    for value in (
        voxel_iou(x, broken),
        voxel_iou_best_threshold(x, broken, x, x).examples,
        average_precision(x, broken).examples,
    ):
        assert value.isnan().tolist() == [False, False, True, False, False]
    for metric in (coverage_iou, minimum_matching_iou):
        assert math.isnan(metric(x=x, samples=broken, train_x=x).value)
    for metric in (occupancy_ratio, largest_component_share):
        assert math.isnan(metric(x=x, samples=broken).value)


# --- samples


def brute_force(x: torch.Tensor, others: torch.Tensor) -> tuple[float, float]:
    """Coverage and minimum matching, by loops."""
    table = [[set_iou(one, other) for other in others] for one in x]
    columns = list(zip(*table, strict=True))
    missed = [1.0] * len(x)
    for column in columns:
        best = [i for i, iou in enumerate(column) if iou == max(column) > 0]
        for i in best:
            missed[i] *= 1 - 1 / len(best)
    return (len(x) - sum(missed)) / len(x), sum(map(max, table)) / len(x)


def test_coverage_and_matching_equal_brute_force():
    x, samples, train_x = solids(30), solids(30, seed=1), solids(40, seed=2)
    for metric, place in ((coverage_iou, 0), (minimum_matching_iou, 1)):
        value = metric(x=x, samples=samples, train_x=train_x)
        assert (value.value, value.n) == (pytest.approx(brute_force(x, samples)[place]), 30)
        assert value.floor == pytest.approx(brute_force(x, train_x[:30])[place])
    assert 0.3 < coverage_iou(x=x, samples=samples, train_x=train_x).value < 0.9


def test_copies_of_test_shapes_cover_all_and_one_shape_covers_one():
    x = solids(25)
    for samples, covered in ((x.flip(0), 1.0), (x[:1].expand_as(x), 1 / 25), (torch.zeros_like(x), 0.0)):
        assert coverage_iou(x=x, samples=samples, train_x=x).value == pytest.approx(covered)
    assert minimum_matching_iou(x=x, samples=x.flip(0), train_x=x).value == 1
    assert minimum_matching_iou(x=x, samples=torch.zeros_like(x), train_x=x).value == 0


def test_one_of_several_best_matches_is_covered():
    x = boxes(10, 10, 20)
    assert coverage_iou(x=x, samples=x[:1], train_x=x).value == pytest.approx(1 / 3)
    value = coverage_iou(x=x, samples=x[[0, 0]], train_x=x)
    assert value.value == pytest.approx(2 * (1 - 1 / 4) / 3), "each is missed by both with probability 1 / 4"


def test_as_many_samples_count_as_there_are_test_shapes():
    x, samples = solids(10), solids(200, seed=1)
    for metric in (coverage_iou, minimum_matching_iou):
        assert metric(x=x, samples=samples, train_x=x).value == metric(x=x, samples=samples[:10], train_x=x).value
        few = metric(x=x, samples=samples[:4], train_x=x[:3])
        assert few.value < metric(x=x, samples=samples, train_x=x).value
        assert few.floor is None, "fewer training shapes than samples"
        with pytest.raises(UnavailableError, match="needs at least 1 samples, and there are 0"):
            metric(x=x, samples=samples[:0], train_x=x)


def test_occupancy_is_a_ratio_of_means():
    value = occupancy_ratio(x=boxes(10, 20, 30), samples=boxes(5, 10, 15, 10))
    assert (value.value, value.n) == (0.5, 4)
    assert occupancy_ratio(x=boxes(10, 20), samples=EMPTY).value == 0
    assert occupancy_ratio(x=boxes(64, 32), samples=boxes(64) * 0.51).value == pytest.approx(64 / 48)
    with pytest.raises(UnavailableError, match="^all test shapes are empty$"):
        occupancy_ratio(x=EMPTY, samples=boxes(1))


def test_the_largest_component_by_hand():
    shape = torch.zeros(1, 1, 6, 6, 6)
    shape[0, 0, :2, :2, :2] = 1  # 8 voxels
    shape[0, 0, 2, 2, 2] = 1  # at their corner
    shape[0, 0, 4, 4, 4] = shape[0, 0, 4, 4, 5] = shape[0, 0, 0, 0, 5] = 1  # a pair and a loose one
    value = largest_component_share(x=boxes(64), samples=shape)
    assert (value.value, value.floor, value.n, value.note) == (9 / 12, 1.0, 1, None)


def test_components_equal_those_of_each_shape_alone():
    shapes = solids(60, share=0.12)
    shapes[5] = shapes[9] = 0
    expected = []
    for shape in shapes[:, 0].numpy():
        if shape.any():
            labels, count = ndimage.label(shape, np.ones((3, 3, 3)))
            expected.append(max((labels == i).sum() for i in range(1, count + 1)) / shape.sum())
    value = largest_component_share(x=boxes(10), samples=shapes)
    assert value.examples.tolist() == pytest.approx(expected) and min(expected) < 0.8
    assert value.note == "2 of 60 samples are empty and do not count" and value.n == 58


def test_without_occupied_voxels_there_is_no_component():
    with pytest.raises(UnavailableError, match="^all samples are empty$"):
        largest_component_share(x=boxes(10), samples=EMPTY)
    assert largest_component_share(x=EMPTY, samples=boxes(10)).floor is None


# --- classes


def test_an_svm_finds_separate_classes_and_is_at_chance_for_noise():
    label, noise = torch.arange(400) % 4, rand(400, 6)
    separate = 100 * torch.nn.functional.one_hot(label, 6) + noise
    for features, accuracy in ((separate, 1.0), (noise, 0.25)):
        scores = critic_svm_accuracy(features[:300], features[300:], label[:300], label[300:])
        assert summarise(scores).value == pytest.approx(accuracy, abs=0.15 * (accuracy < 1))


def test_the_unit_and_the_origin_of_features_do_not_matter():
    features, label = rand(300, 8), torch.arange(300) % 3
    features[:, 0] += 0.2 * label
    scores = critic_svm_accuracy(features[:200], features[200:], label[:200], label[200:])
    other = critic_svm_accuracy(1e3 * features[:200] - 7, 1e3 * features[200:] - 7, label[:200], label[200:])
    assert scores.equal(other) and 0.4 < scores.mean() < 0.9
    centred = (features - features[:200].mean(0)).double()
    scaled = (centred / centred[:200].square().sum(1).mean().sqrt()).numpy()
    predicted = LinearSVC(C=1.0, random_state=0).fit(scaled[:200], label[:200]).predict(scaled[200:])
    assert scores.equal((torch.from_numpy(predicted) == label[200:]).float())


def test_voxels_are_features():
    x, label = solids(90), torch.arange(90) % 2
    x[:, 0, 0, 0, 0] = label.float()
    x[:, 0, 1:] *= 0.2
    voxels = voxel_svm_accuracy(x[:60], x[60:], label[:60], label[60:])
    flat = untrained_critic_svm_accuracy(x[:60].flatten(1), x[60:].flatten(1), label[:60], label[60:])
    assert voxels.equal(flat) and voxels.mean() > 0.9


def test_an_svm_needs_two_classes_and_features_that_vary():
    x, label = solids(20), torch.arange(20) % 2
    with pytest.raises(UnavailableError, match="^all training examples are of one class$"):
        voxel_svm_accuracy(x, x, label * 0, label)
    with pytest.raises(UnavailableError, match="^the features of all training examples are the same$"):
        voxel_svm_accuracy(x[:1].expand(20, -1, -1, -1, -1), x, label, label)
    broken = x.clone()
    broken[3] = torch.inf
    assert voxel_svm_accuracy(broken, x, label, label).isnan().all()
