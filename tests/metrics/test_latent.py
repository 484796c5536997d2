import itertools
import math
import warnings

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from torch.nn import functional as F

from bench.core import UnavailableError
from bench.metrics import summarise
from bench.metrics.latent import (
    active_units,
    clustering_accuracy,
    component_accuracy,
    jacobian_norm,
    latent_drift,
    linear_probe_accuracy,
    mmd_to_normal,
    mmd_to_prior,
    mmd_to_prior_normal,
    reencoding_error,
    shift_over_damage,
    shift_over_damage_pixels,
    sliced_wasserstein_to_prior,
)


def randn(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def digits():
    images, label = load_digits(return_X_y=True)
    return torch.from_numpy(images).float() / 16, torch.from_numpy(label).long()


# --- classes in the codes


def probe(train, train_label, test, test_label) -> torch.Tensor:
    evidence = {"train_codes": train, "train_label": train_label, "test_codes": test, "test_label": test_label}
    return linear_probe_accuracy(**evidence)


def test_a_linear_probe_finds_only_linearly_separable_classes():
    label, noise = torch.arange(2000) % 2, randn(2000, 2)
    separated = noise + 10 * torch.stack([label, -label], 1)
    assert probe(separated[:1000], label[:1000], separated[1000:], label[1000:]).mean() == 1
    assert probe(noise[:1000], label[:1000], noise[1000:], label[1000:]).mean() == pytest.approx(0.5, abs=0.05)
    crossed = (noise[:, 0] * noise[:, 1] > 0).long()  # two opposite quadrants for each class
    assert probe(noise[:1000], crossed[:1000], noise[1000:], crossed[1000:]).mean() < 0.6


def test_the_probe_is_the_optimum_of_the_penalised_problem():
    """Solving the same convex problem with L-BFGS predicts the same classes, up to rounding."""
    x, label = digits()
    train, train_label, test = x[:1200, 10:30], label[:1200], x[1200:, 10:30]
    mean, std = train.double().mean(0), train.double().std(0, correction=0)
    train_codes, test_codes = ((part - mean) / std.where(std > 0, 1) for part in (train, test))
    w, b = torch.zeros(20, 10, dtype=torch.double, requires_grad=True), torch.zeros(10, dtype=torch.double)
    b.requires_grad_()
    optimizer = torch.optim.LBFGS([w, b], max_iter=500, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(train_codes @ w + b, train_label, reduction="sum") + w.square().sum() / 2
        value.backward()
        return value

    optimizer.step(cost)
    expected = ((test_codes @ w + b).argmax(1) == label[1200:]).float()
    correct = probe(train, train_label, test, label[1200:])
    assert (correct != expected).sum() <= 2
    assert 0.7 < correct.mean() < 0.95


def test_the_probe_depends_on_neither_scale_nor_order():
    x, label = digits()
    train, test, order = x[:1000], x[1000:], torch.randperm(1000)
    original = probe(train, label[:1000], test, label[1000:])
    assert original.equal(probe(train, label[:1000], test, label[1000:]))
    scale = torch.logspace(-3, 3, 64)
    scaled = probe(scale * train + 5, label[:1000], scale * test + 5, label[1000:])
    shuffled = probe(train[order], label[order], test.flip(0), label[1000:].flip(0)).flip(0)
    assert (original != scaled).sum() <= 1 and (original != shuffled).sum() <= 1


def test_non_finite_codes_have_no_accuracy():
    codes, label = randn(20), torch.arange(20) % 2
    non_finite = codes.index_fill(0, torch.tensor([3]), torch.inf)
    assert probe(non_finite, label, codes, label).isnan().all()
    assert probe(codes, label, non_finite, label).isnan().all()
    assert clustering_accuracy(test_codes=non_finite, test_label=label).isnan().all()


def test_separate_classes_are_clusters_with_any_labels_and_noise_is_near_chance():
    label = 3 + 2 * (torch.arange(2000) % 10)
    separated = randn(2000, 4) + 100 * F.one_hot(torch.arange(2000) % 10)[:, :4] + 30 * label[:, None]
    assert clustering_accuracy(test_codes=separated, test_label=label).eq(1).all()
    noise = clustering_accuracy(test_codes=randn(2000, 4), test_label=label)
    assert 0.1 < noise.mean() < 0.16


def test_clusters_are_assigned_to_classes_one_to_one_and_optimally():
    """count[cluster][class] examples around each of four separate points, with all assignments tried."""
    count = torch.tensor([[6, 4, 0, 1], [5, 1, 0, 0], [2, 2, 3, 3], [0, 1, 5, 4]])
    cluster, label = (
        index.repeat_interleave(count.flatten()) for index in torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
    )
    codes = 100.0 * cluster[:, None] + randn(len(cluster), 1)
    best = max(
        sum(count[i, j].item() for i, j in enumerate(assignment)) for assignment in itertools.permutations(range(4))
    )
    assert best < count.max(1).values.sum()  # no one-to-one assignment gives each cluster its most frequent class
    assert linear_sum_assignment(count, maximize=True)[1].tolist() == [1, 0, 3, 2]
    correct = clustering_accuracy(test_codes=codes, test_label=label)
    assert correct.sum() == best
    class_of = torch.tensor([1, 0, 3, 2])
    assert correct.equal((class_of[cluster] == label).float())


def test_the_order_of_examples_changes_no_cluster():
    x, label = digits()
    order = torch.randperm(len(x))
    correct = clustering_accuracy(test_codes=x, test_label=label)
    assert clustering_accuracy(test_codes=x[order], test_label=label[order]).equal(correct[order])
    assert 0.6 < correct.mean() < 0.9


def test_identical_codes_are_one_cluster_of_the_largest_class():
    label = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clustering_accuracy(test_codes=torch.ones(100, 3), test_label=label).mean() == 0.5


def test_active_latents_are_counted():
    scale = torch.tensor([1.0, 0.11, 0.09, 0.0])  # variances 1, 0.0121, 0.0081, 0
    x = torch.rand(2, 1)  # images that differ
    value = active_units(test_codes=5 + scale * randn(20_000, 4), x=x)
    assert (value.value, value.n, value.details, value.note) == (2, 20_000, {"latents": 4}, None)
    collapsed = active_units(test_codes=0.01 * randn(1000, 4), x=x)
    assert collapsed.value == 0 and "posterior collapse" in collapsed.note
    non_finite = active_units(test_codes=torch.full((10, 4), torch.inf), x=x)
    assert math.isnan(non_finite.value) and non_finite.note is None


# --- changes and distribution of codes


def test_drift_is_relative_to_the_spread_of_the_codes():
    """Codes of variance 4 in each of 3 latents that move by (3, 4, 0): 5 / sqrt(12), at any scale."""
    codes = 2 * randn(100_000)
    moved = codes + torch.tensor([3.0, 4.0, 0.0])
    value = latent_drift(test_codes=codes, corrupted_codes=moved).item()
    assert value == pytest.approx(5 / 12**0.5, rel=0.01)
    assert latent_drift(test_codes=0.01 * codes, corrupted_codes=0.01 * moved).item() == pytest.approx(value, rel=1e-5)
    with pytest.raises(UnavailableError, match="no code moves"):
        latent_drift(test_codes=codes, corrupted_codes=codes)
    assert latent_drift(test_codes=codes, corrupted_codes=codes + randn(100_000, seed=1)) < value


def test_the_norm_of_the_jacobian_is_relative_to_the_spread_of_the_codes():
    """For a linear encoder W: |W|_F / sqrt(trace of the covariance of the codes), at any scale."""
    w, x = randn(5, 8), randn(5000, 8, seed=1)
    codes, squared = x @ w.T, w.square().sum().expand(1000)
    values = jacobian_norm(jacobian=squared, test_codes=codes)
    expected = w.norm() / codes.T.cov().trace().sqrt()
    torch.testing.assert_close(values, expected.double().expand(1000), rtol=1e-5, atol=0)
    torch.testing.assert_close(jacobian_norm(jacobian=0.01 * squared, test_codes=0.1 * codes), values)


def test_the_effect_of_a_shift_relative_to_that_of_damage():
    """Codes move by (3, 4, 0) under the shift and by (0, 0, 10) under the damage: 1/2, at any scale."""
    codes, by_shift, by_damage = randn(1000), torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.0, 0.0, 10.0])
    value = shift_over_damage(
        subset_codes=codes, subset_shifted_codes=codes + by_shift, subset_damaged_codes=codes + by_damage
    )
    assert (value.value, value.n) == (pytest.approx(0.5, rel=1e-6), 1000) and value.se < 1e-6
    moved = {"subset_shifted_codes": 7 * codes, "subset_damaged_codes": 4 * codes}
    assert shift_over_damage(subset_codes=codes, **moved).value == pytest.approx(2, rel=1e-5)
    images = {"subset_shifted": 7 * codes[:, None], "subset_damaged": 4 * codes[:, None]}
    assert shift_over_damage_pixels(subset_x=codes[:, None], **images).value == pytest.approx(2, rel=1e-5)
    with pytest.raises(UnavailableError, match="^the damage changes no code of a test image$"):
        shift_over_damage(subset_codes=codes, subset_shifted_codes=codes, subset_damaged_codes=codes)


DEVIATIONS = [(0.7, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 5.0)]  # (scale, shift), in order of increasing discrepancy


def test_mmd_is_near_0_for_codes_from_the_prior_and_larger_for_others():
    """The floor is the discrepancy between two samples of the prior. Good codes are close to it, bad ones far above."""
    prior, n = randn(2000).view(2, 1000, 3), 1000
    good = mmd_to_prior(subset_posterior_codes=randn(n, seed=1), subset_prior_codes=prior)
    assert abs(good.value) < 0.01 and abs(good.floor) < 0.01 and good.n == n
    assert good.floor == mmd_to_prior(subset_posterior_codes=prior[1], subset_prior_codes=prior).value
    bad = [s * randn(n, seed=1) + m for s, m in DEVIATIONS]
    values = [mmd_to_prior(subset_posterior_codes=codes, subset_prior_codes=prior).value for codes in bad]
    assert values == sorted(values) and values[0] > 10 * abs(good.value)
    again = mmd_to_prior(subset_posterior_codes=randn(n, seed=1)[torch.randperm(n)], subset_prior_codes=prior)
    assert again.value == pytest.approx(good.value, abs=1e-9)


def test_mmd_to_normal_equals_mmd_to_a_normal_prior():
    draws = randn(2000, seed=3).view(2, 1000, 3)
    for codes in (randn(1000, seed=1), 2 * randn(1000, seed=1) + 1):
        value = mmd_to_normal(subset_posterior_codes=codes, subset_normal_codes=draws)
        assert value == mmd_to_prior(subset_posterior_codes=codes, subset_prior_codes=draws)


def random_directions(d: int, n: int) -> torch.Tensor:
    return F.normalize(randn(d, n, seed=9), dim=0)


def sliced(codes: torch.Tensor, prior: torch.Tensor, directions: torch.Tensor):
    return sliced_wasserstein_to_prior(posterior_codes=codes, prior_codes=prior, directions=directions)


def test_the_sliced_distance_of_a_shift_is_its_length_over_the_root_of_the_latents():
    """Along a direction u a shift d gives (d, u)^2, whose mean over any orthonormal basis is exactly |d|^2 / D."""
    prior, shift = randn(2000, 3), torch.tensor([1.0, 2.0, -2.0])
    basis = torch.linalg.qr(randn(3, 3, seed=5)).Q
    shifted = sliced(prior[:1000] + shift, prior, basis)
    assert shifted.value == pytest.approx(3 / 3**0.5, rel=1e-6) and shifted.n == 1000
    many = sliced(prior[:1000] + shift, prior, random_directions(3, 4000)).value
    assert many == pytest.approx(3 / 3**0.5, rel=0.03)
    assert sliced(prior[:1000], prior, basis).value == 0


def test_the_sliced_distance_of_a_scaling_in_closed_form():
    prior = randn(1000, 4)
    directions = random_directions(4, 130)
    root_mean_square = (prior[:500].double() @ directions.double()).square().mean().sqrt().item()
    for scale in (0.0, 0.5, 1.5):
        assert sliced(scale * prior[:500], prior, directions).value == pytest.approx(
            abs(scale - 1) * root_mean_square, rel=1e-6
        )


def test_in_one_dimension_the_sliced_distance_is_the_optimal_transport():
    """The smallest mean squared distance over all pairings of codes and prior samples, not only the sorted one."""
    codes, prior = 3 * randn(60, 1) + 1, randn(120, 1, seed=1)
    cost = (codes.double() - prior[:60, 0].double()).square()
    pairs = linear_sum_assignment(cost)
    expected = cost[pairs].mean().sqrt().item()
    assert sliced(codes, prior, torch.ones(1, 1)).value == pytest.approx(expected, rel=1e-9)
    assert sliced(codes, prior, -torch.ones(1, 1)).value == pytest.approx(expected, rel=1e-9)
    separated = (prior[60:].double().sort(0).values - prior[:60].double().sort(0).values).square().mean().sqrt().item()
    assert sliced(codes, prior, torch.ones(1, 1)).floor == pytest.approx(separated, rel=1e-9)


def test_the_sliced_distance_is_at_the_floor_for_codes_from_the_prior_and_above_for_others():
    prior, directions = randn(4000, 3), random_directions(3, 200)
    good = sliced(randn(2000, 3, seed=1), prior, directions)
    assert 0.5 < good.value / good.floor < 2 and good.floor < 0.1
    for scale, shift in DEVIATIONS:  # N(m, s^2) in each latent: the squared distance from N(0, 1) is (s - 1)^2 + m^2
        value = sliced(scale * randn(2000, 3, seed=1) + shift, prior, directions).value
        assert value == pytest.approx(((scale - 1) ** 2 + shift**2) ** 0.5, rel=0.05) and value > 3 * good.floor


def test_the_sliced_distance_depends_on_neither_order_nor_chunks():
    codes, prior, directions = randn(300, 3, seed=1), randn(600, 3), random_directions(3, 120)
    value = sliced(codes, prior, directions)
    shuffled = torch.cat([prior[:300].flip(0), prior[300:][torch.randperm(300)]])
    again = sliced(codes[torch.randperm(300)], shuffled, directions[:, torch.randperm(120)])
    assert (again.value, again.floor) == pytest.approx((value.value, value.floor), rel=1e-12)
    each = [sliced(codes, prior, one).value ** 2 for one in directions.split(1, 1)]
    assert value.value == pytest.approx((sum(each) / 120) ** 0.5, rel=1e-12)


def test_the_reencoding_error_in_closed_form():
    codes = randn(5000)
    assert summarise(reencoding_error(sampled_codes=codes, reencoded=codes)).value == 0
    half = summarise(reencoding_error(sampled_codes=codes, reencoded=codes + 0.5**0.5 * randn(5000, seed=1))).value
    assert half == pytest.approx(0.5 / 2.5, rel=0.05)  # variance 1/2, over 1 + 1 + 1/2
    chance = summarise(reencoding_error(sampled_codes=codes, reencoded=randn(5000, seed=1))).value
    assert chance == pytest.approx(1, rel=0.05)


def test_component_accuracy_is_the_share_of_correct_components():
    own = torch.tensor([True, True, False, True])
    assert summarise(component_accuracy(own_component=own)).value == 0.75


def test_the_normal_baseline_has_the_mean_and_covariance_of_the_prior():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2, 2000, 2, generator=generator)
    skewed = normal.clone() @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]) + 3
    assert abs(mmd_to_prior_normal(skewed, torch.randn(2, 2000, 2, generator=generator)).value) < 0.01
    angle = 2 * torch.pi * torch.rand(2, 2000, generator=generator)
    ring = torch.stack([angle.cos(), angle.sin()], -1)
    value = mmd_to_prior_normal(ring, normal)
    assert value.value > 0.03 and abs(value.floor) < 0.01, "a ring is not normal"
