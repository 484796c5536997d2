"""Votes, distances and neighbourhoods, compared with scikit-learn, brute force and known cases."""

import math

import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from bench.core import UnavailableError
from bench.metrics import summarise
from bench.metrics.neighbours import (
    continuity,
    distance_to_nearest,
    interpolation_gap,
    interpolation_gap_pixels,
    knn_accuracy,
    knn_accuracy_1,
    knn_accuracy_20,
    knn_accuracy_pixels,
    nearest,
    nearest_in_blocks,
    ratio_of_means,
    ratio_of_pairs,
    relative_contrast,
    relative_contrast_pixels,
    relative_contrast_prior,
    trustworthiness,
)

BY_K = {1: knn_accuracy_1, 5: knn_accuracy, 20: knn_accuracy_20}


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def digits():
    images, label = load_digits(return_X_y=True)
    return torch.from_numpy(images).float() / 16, torch.from_numpy(label).long()


def correct(train, train_label, test, test_label, k=5) -> torch.Tensor:
    return BY_K[k](code_neighbours=nearest(train, test, 20), train_label=train_label, test_label=test_label)


def accuracy(*evidence, k=5) -> float:
    return summarise(correct(*evidence, k=k)).value


# --- nearest neighbours


def test_neighbours_are_sorted_by_distance_and_images_are_flattened():
    train, test = randn(200, 1, 3, 4), randn(30, 1, 3, 4, seed=1)
    distance = (test.double()[:, None] - train.double()).square().sum((2, 3, 4)).sqrt()
    assert nearest(train, test, 20).equal(distance.argsort(1)[:, :20])
    torch.testing.assert_close(distance_to_nearest(train, test), distance.min(1).values.float())


def test_the_distance_to_a_copy_is_0_and_distances_are_exact():
    train = 100 + randn(500, 8)
    assert distance_to_nearest(train, train[::7]).eq(0).all()
    assert nearest(train, train[::7], 1)[:, 0].equal(torch.arange(0, 500, 7))
    assert distance_to_nearest(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).tolist() == [5.0]


def test_there_are_at_most_as_many_neighbours_as_examples():
    assert nearest(torch.tensor([[0.0], [3.0], [1.0]]), torch.zeros(1, 1), 20).tolist() == [[0, 2, 1]]


def test_non_finite_codes_have_no_neighbours():
    codes, label = torch.zeros(30, 2), torch.arange(30) % 2
    codes[23, 1] = torch.inf
    for train, test in ((codes, codes[:3]), (codes[:23], codes)):
        assert nearest(train, test, 5).eq(-1).all()
        assert distance_to_nearest(train, test).isnan().all()
        assert correct(train, label[: len(train)], test, label[: len(test)]).isnan().all()


def test_neighbours_in_blocks_equal_those_of_the_whole_set():
    """Also if a block has fewer rows than neighbours. Digits have ties, in which any order is correct."""
    x, _ = digits()
    for train, test, ties in ((randn(1200, 64), randn(300, 64, seed=1), False), (x[:1200], x[1200:], True)):
        for size in (3, 100, 1199):
            in_blocks, at_once = nearest_in_blocks(iter(train.split(size)), test, 5), nearest(train, test, 5)
            assert ties or in_blocks.equal(at_once)
            assert all(len(row.unique()) == 5 for row in in_blocks)
            first, second = ((train[rows] - test[:, None]).double().norm(dim=2) for rows in (in_blocks, at_once))
            torch.testing.assert_close(first, second, rtol=1e-12, atol=0)
    assert nearest_in_blocks(iter([x[:2], x[2:4]]), x, 9).shape == (1797, 4)
    assert nearest_in_blocks(iter([x[:9], x[9:12] * torch.nan]), x, 5).eq(-1).all()


# --- votes


def test_separate_classes_are_found_and_noise_is_at_chance():
    label, noise = torch.arange(2000) % 10, randn(2000, 4)
    separated = noise + 100 * label[:, None]
    for k in BY_K:
        assert accuracy(separated[:1000], label[:1000], separated[1000:], label[1000:], k=k) == 1.0
        assert accuracy(noise[:1000], label[:1000], noise[1000:], label[1000:], k=k) == pytest.approx(0.1, abs=0.04)


def test_five_neighbours_vote():
    # Two examples of class 1 are at 0. The next three, of class 0, outvote them. The last two do not count.
    train = torch.tensor([[0.0], [0.0], [1.0], [1.0], [1.0], [2.0], [2.0]])
    label = torch.tensor([1, 1, 0, 0, 0, 1, 1])
    predicted_0 = {k: accuracy(train, label, torch.zeros(1, 1), torch.tensor([0]), k=k) for k in (1, 5)}
    assert predicted_0 == {1: 0.0, 5: 1.0}


@pytest.mark.parametrize("k", BY_K)
def test_a_vote_needs_more_training_images_than_neighbours_and_two_classes(k):
    codes, label = randn(21, 3), torch.arange(21) % 2
    assert 0 <= accuracy(codes[: k + 1], label[: k + 1], codes, label, k=k) <= 1
    if k > 1:
        with pytest.raises(UnavailableError, match=f"needs at least {k + 1} training images, and there are {k}$"):
            accuracy(codes[:k], label[:k], codes, label, k=k)
    with pytest.raises(UnavailableError, match="^all training images are of one class$"):
        accuracy(codes, torch.zeros_like(label), codes, label, k=k)


@pytest.mark.parametrize(
    ("label", "winner"), [([2, 2, 1, 1, 3], 1), ([1, 2, 2, 1, 0], 1), ([2, 0, 1, 2, 4], 2), ([4, 3, 5, 6, 7], 3)]
)
def test_the_smallest_class_wins_a_tie(label, winner):
    neighbours, train_label = torch.arange(5)[None], torch.tensor([*label, 0, 0, 0])
    evidence = {"code_neighbours": neighbours, "train_label": train_label}
    assert knn_accuracy(**evidence, test_label=torch.tensor([winner])) == 1


@pytest.mark.parametrize("k", BY_K)
def test_knn_equals_scikit_learn(k):
    x, label = digits()
    noise, classes = randn(3000, 16), torch.randint(7, (3000,), generator=torch.Generator().manual_seed(0))
    for codes, labels, cut in ((x, label, 1200), (noise, classes, 2000)):
        predicted = KNeighborsClassifier(k).fit(codes[:cut], labels[:cut]).predict(codes[cut:])
        expected = (torch.from_numpy(predicted) == labels[cut:]).float()
        assert correct(codes[:cut], labels[:cut], codes[cut:], labels[cut:], k=k).equal(expected)
        assert 0 < expected.mean() < 1


def test_knn_in_pixels_equals_knn_on_codes_that_are_the_pixels():
    x, label = digits()
    neighbours = nearest(x[:1200].view(-1, 1, 8, 8), x[1200:].view(-1, 1, 8, 8), 5)
    pixels = knn_accuracy_pixels(pixel_neighbours=neighbours, train_label=label[:1200], test_label=label[1200:])
    assert pixels.equal(correct(x[:1200], label[:1200], x[1200:], label[1200:]))


def test_the_order_of_examples_does_not_matter():
    codes, label = randn(1500, 4), torch.arange(1500) % 3
    train_order, test_order = torch.randperm(1000), torch.randperm(500)
    test, test_label = codes[1000:], label[1000:]
    for k in BY_K:
        original = correct(codes[:1000], label[:1000], test, test_label, k=k)
        shuffled = correct(codes[train_order], label[train_order], test[test_order], test_label[test_order], k=k)
        assert original[test_order].equal(shuffled)


# --- neighbourhoods


def trust(original: torch.Tensor, embedded: torch.Tensor, k: int = 5) -> float:
    """The definition of trustworthiness. Ranks start at 1, and a point is not its own neighbour."""
    ranked, shown = (
        [[j for j in row if j != i] for i, row in enumerate(order(points))] for points in (original, embedded)
    )
    cost = sum(max(0, ranked[i].index(j) + 1 - k) for i in range(len(original)) for j in shown[i][:k])
    return 1 - 2 * cost / (len(original) * k * (2 * len(original) - 3 * k - 1))


def order(points: torch.Tensor) -> list[list[int]]:
    """For each point the indices of all points, the nearest first."""
    flat = points.double().flatten(1)
    return (flat[:, None] - flat).square().sum(2).argsort(1).tolist()


def test_neighbourhoods_equal_the_definition_and_scikit_learn():
    x, codes = randn(60, 1, 4, 4), randn(60, 2, seed=1)
    codes += x.flatten(1)[:, :2]
    evidence = {"subset_x": x, "subset_codes": codes}
    t, c = trustworthiness(**evidence), continuity(**evidence)
    assert t == sklearn_trustworthiness(x.flatten(1), codes, n_neighbors=5)
    assert c == sklearn_trustworthiness(codes, x.flatten(1), n_neighbors=5)
    assert t == pytest.approx(trust(x, codes), abs=1e-12)
    assert c == pytest.approx(trust(codes, x), abs=1e-12)
    assert abs(t - c) > 0.005


def test_a_rotation_preserves_neighbourhoods_and_noise_gives_a_half():
    x = randn(500, 1, 3, 3)
    rotated = 7 + 0.1 * x.flatten(1) @ torch.linalg.qr(randn(9, 9, seed=1)).Q
    for metric in (trustworthiness, continuity):
        values = [
            metric(subset_x=x, subset_codes=rotated + noise * randn(500, 9, seed=2)) for noise in (0, 0.02, 0.1, 100)
        ]
        assert values[0] == 1 and values == sorted(values, reverse=True)
        assert values[-1] == pytest.approx(0.5, abs=0.03)


def test_projecting_lowers_trustworthiness_and_cutting_lowers_continuity():
    """Projecting a plane to a line makes distant points neighbours; cutting a circle open separates neighbours."""
    plane = randn(400, 1, 1, 2)
    projected = {"subset_x": plane, "subset_codes": plane[:, 0, :, 0]}
    assert trustworthiness(**projected) < continuity(**projected) - 0.05
    angle = (torch.arange(100) + 0.1 * torch.rand(100)) * 2 * math.pi / 100
    cut = {"subset_x": torch.stack([angle.cos(), angle.sin()], 1)[:, None, None], "subset_codes": angle[:, None]}
    assert continuity(**cut) < trustworthiness(**cut) - 0.01


def test_the_order_of_images_does_not_matter():
    x, codes, shuffled = randn(200, 1, 3, 3), randn(200, 4, seed=1), torch.randperm(200)
    for metric in (trustworthiness, continuity):
        original = metric(subset_x=x, subset_codes=codes)
        assert metric(subset_x=x[shuffled], subset_codes=codes[shuffled]) == pytest.approx(original, abs=1e-12)


def test_neighbourhoods_need_eleven_images_and_finite_codes():
    x, codes = randn(11, 1, 2, 2), randn(11, 2)
    for metric in (trustworthiness, continuity):
        assert 0 <= metric(subset_x=x, subset_codes=codes) <= 1
        with pytest.raises(
            UnavailableError, match="^a neighbourhood of 5 needs at least 11 test images, and there are 10$"
        ):
            metric(subset_x=x[:10], subset_codes=codes[:10])
        assert math.isnan(metric(subset_x=x, subset_codes=codes.clone().fill_(torch.inf)))


# --- ratios of distances and midpoints


def test_a_ratio_of_means_and_its_standard_error_by_hand():
    ratio = ratio_of_means(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 3.0]), "zero")
    # The means are 3 and 2, with squared standard errors 7 / 3 and 1.
    assert (ratio.value, ratio.n, ratio.floor) == (1.5, 3, None)
    assert ratio.se == pytest.approx((7 / 3 + 1.5**2 * 1) ** 0.5 / 2)


def test_the_standard_error_of_a_ratio_is_its_standard_deviation():
    draws = [(3 + randn(80, seed=s), 2 + 0.5 * randn(120, seed=10_000 + s)) for s in range(2000)]
    ratios = [ratio_of_means(numerator, denominator, "zero") for numerator, denominator in draws]
    deviation = torch.tensor([ratio.value for ratio in ratios]).std()
    assert sum(ratio.se for ratio in ratios) / 2000 == pytest.approx(deviation.item(), rel=0.06)
    assert sum(abs(ratio.value - 1.5) < 1.96 * ratio.se for ratio in ratios) / 2000 == pytest.approx(0.95, abs=0.02)


def test_a_ratio_of_correlated_pairs_has_a_smaller_standard_error():
    """The standard error equals the standard deviation of 2,000 ratios of correlated pairs."""
    denominators = 2 + randn(2000, 100, seed=1).abs()
    numerators = 3 * denominators + 0.3 * randn(2000, 100, seed=2)
    ratios = [ratio_of_pairs(a, b, "zero") for a, b in zip(numerators, denominators, strict=True)]
    deviation = torch.tensor([value.value for value in ratios]).std().item()
    error = sum(value.se for value in ratios) / len(ratios)
    assert (
        error == pytest.approx(deviation, rel=0.05)
        and error < ratio_of_means(numerators[0], denominators[0], "zero").se / 5
    )
    exact = ratio_of_pairs(3 * denominators[0], denominators[0], "zero")
    assert (exact.value, exact.n) == (pytest.approx(3), 100) and exact.se < 1e-7


@pytest.mark.parametrize("ratio", [ratio_of_means, ratio_of_pairs])
def test_a_ratio_with_denominator_0_gives_the_reason(ratio):
    with pytest.raises(UnavailableError, match="^the denominator is 0$"):
        ratio(torch.ones(3), torch.zeros(3), "the denominator is 0")


def circle(angle: torch.Tensor) -> torch.Tensor:
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.01 * randn(len(angle), 2, seed=len(angle))


def test_midpoints_on_the_data_are_as_near_as_real_images_and_others_are_not():
    """Images on a circle, with the angle as code: the midpoint of an arc is on the circle, that of a chord is not."""
    train, one, other = (6.0 * torch.rand(n, generator=torch.Generator().manual_seed(n)) for n in (3000, 1001, 1002))
    test_to_train = distance_to_nearest(circle(train), circle(one))
    arc_midpoints = circle((one + other[:1001]) / 2)
    chord_midpoints = (circle(one) + circle(other)[:1001]) / 2
    latent = distance_to_nearest(circle(train), arc_midpoints)
    pixels = distance_to_nearest(circle(train), chord_midpoints)
    gap = interpolation_gap(latent_midpoint_to_train=latent, test_to_train=test_to_train)
    baseline = interpolation_gap_pixels(pixel_midpoint_to_train=pixels, test_to_train=test_to_train)
    assert abs(gap.value - 1) < 4 * gap.se and gap.n == 1001
    assert baseline.value > 10
    shuffled = interpolation_gap(latent_midpoint_to_train=latent.flip(0), test_to_train=test_to_train.flip(0))
    assert shuffled.value == pytest.approx(gap.value, rel=1e-12)
    tripled = interpolation_gap(latent_midpoint_to_train=3 * latent, test_to_train=test_to_train)
    assert tripled.value == pytest.approx(3 * gap.value)


# --- relative contrast


def contrast(points: torch.Tensor) -> float:
    return relative_contrast(subset_codes=points).value


def test_equidistant_points_have_contrast_1_and_others_that_of_the_definition():
    assert contrast(torch.eye(50)) == pytest.approx(1, rel=1e-12)  # corners of a simplex
    assert contrast(torch.tensor([[0.0], [1.0], [5.0]])) == pytest.approx((1 + 5 + 4) / 3 / ((1 + 1 + 4) / 3))
    points = randn(300, 7)
    distance = squareform(pdist(points.double().numpy()))
    nearest_other = distance[~torch.eye(300, dtype=torch.bool).numpy()].reshape(300, 299).min(1)
    expected = pdist(points.double().numpy()).mean() / nearest_other.mean()
    assert contrast(points) == pytest.approx(expected, rel=1e-9)
    assert contrast(100 * points[torch.randperm(300)]) == pytest.approx(expected, rel=1e-5)
    assert relative_contrast_pixels(subset_x=points[:, None, None]).value == pytest.approx(expected, rel=1e-9)
    draws = torch.stack([points, randn(300, 7, seed=1)])
    value = relative_contrast_prior(subset_prior_codes=draws)
    assert (value.value, value.n, value.se) == (pytest.approx(expected, rel=1e-9), 300, None)


def test_contrast_falls_with_the_number_of_dimensions():
    """On a line the nearest of n points is about n times nearer than the mean; in thousands of dimensions it is not."""
    contrasts = [contrast(randn(500, d)) for d in (1, 2, 4, 16, 64, 256, 4096)]
    assert contrasts == sorted(contrasts, reverse=True)
    assert contrasts[0] > 100 and 1 < contrasts[-1] < 1.05
    assert contrast(randn(2000, 16)) > contrasts[3]


def test_contrast_needs_three_finite_distinct_points():
    non_finite = randn(20, 3).index_fill(0, torch.tensor([3]), torch.inf)
    assert not math.isfinite(contrast(non_finite))
    with pytest.raises(UnavailableError, match="at least 3 codes of test images, and there are 2"):
        contrast(randn(2, 3))
    for copies in (torch.ones(20, 3), 1000 + randn(20, 3).repeat(2, 1)):
        with pytest.raises(UnavailableError, match="^all codes of test images have copies"):
            contrast(copies)
