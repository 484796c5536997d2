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


def drawn(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def digits():
    images, label = load_digits(return_X_y=True)
    return torch.from_numpy(images).float() / 16, torch.from_numpy(label).long()


# --- what codes keep of the classes


def probed(train, train_label, test, test_label) -> torch.Tensor:
    evidence = {"train_codes": train, "train_label": train_label, "test_codes": test, "test_label": test_label}
    return linear_probe_accuracy(**evidence)


def test_a_probe_finds_what_a_line_can_part_and_nothing_else():
    label, noise = torch.arange(2000) % 2, drawn(2000, 2)
    apart = noise + 10 * torch.stack([label, -label], 1)
    assert probed(apart[:1000], label[:1000], apart[1000:], label[1000:]).mean() == 1
    assert probed(noise[:1000], label[:1000], noise[1000:], label[1000:]).mean() == pytest.approx(0.5, abs=0.05)
    crossed = (noise[:, 0] * noise[:, 1] > 0).long()  # two quadrants against two
    assert probed(noise[:1000], crossed[:1000], noise[1000:], crossed[1000:]).mean() < 0.6


def test_the_probe_is_at_the_penalised_optimum():
    """The same convex problem, solved by Newton-like steps of our own: the same classes named, but for rounding."""
    x, label = digits()
    train, names, test = x[:1200, 10:30], label[:1200], x[1200:, 10:30]
    mean, std = train.double().mean(0), train.double().std(0, correction=0)
    codes, others = ((part - mean) / std.where(std > 0, 1) for part in (train, test))
    w, b = torch.zeros(20, 10, dtype=torch.double, requires_grad=True), torch.zeros(10, dtype=torch.double)
    b.requires_grad_()
    steps = torch.optim.LBFGS([w, b], max_iter=500, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        steps.zero_grad()
        value = F.cross_entropy(codes @ w + b, names, reduction="sum") + w.square().sum() / 2
        value.backward()
        return value

    steps.step(cost)
    expected = ((others @ w + b).argmax(1) == label[1200:]).float()
    ours = probed(train, names, test, label[1200:])
    assert (ours != expected).sum() <= 2
    assert 0.7 < ours.mean() < 0.95


def test_neither_scale_nor_order_moves_the_probe():
    x, label = digits()
    train, test, order = x[:1000], x[1000:], torch.randperm(1000)
    once = probed(train, label[:1000], test, label[1000:])
    assert once.equal(probed(train, label[:1000], test, label[1000:]))
    scale = torch.logspace(-3, 3, 64)
    moved = probed(scale * train + 5, label[:1000], scale * test + 5, label[1000:])
    shuffled = probed(train[order], label[order], test.flip(0), label[1000:].flip(0)).flip(0)
    assert (once != moved).sum() <= 1 and (once != shuffled).sum() <= 1


def test_codes_that_are_not_finite_have_no_accuracy():
    codes, label = drawn(20), torch.arange(20) % 2
    broken = codes.index_fill(0, torch.tensor([3]), torch.inf)
    assert probed(broken, label, codes, label).isnan().all()
    assert probed(codes, label, broken, label).isnan().all()
    assert clustering_accuracy(test_codes=broken, test_label=label).isnan().all()


def test_separate_classes_are_clusters_whatever_their_names_and_noise_has_none():
    label = 3 + 2 * (torch.arange(2000) % 10)
    apart = drawn(2000, 4) + 100 * F.one_hot(torch.arange(2000) % 10)[:, :4] + 30 * label[:, None]
    assert clustering_accuracy(test_codes=apart, test_label=label).eq(1).all()
    noise = clustering_accuracy(test_codes=drawn(2000, 4), test_label=label)
    assert 0.1 < noise.mean() < 0.16


def test_clusters_go_to_classes_one_to_one_and_as_well_as_can_be():
    """Ten of each count[cluster][class] at one place: each place is a cluster, and all assignments can be tried."""
    count = torch.tensor([[6, 4, 0, 1], [5, 1, 0, 0], [2, 2, 3, 3], [0, 1, 5, 4]])
    cluster, label = (
        index.repeat_interleave(count.flatten()) for index in torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
    )
    codes = 100.0 * cluster[:, None] + drawn(len(cluster), 1)
    best = max(sum(count[i, j].item() for i, j in enumerate(to)) for to in itertools.permutations(range(4)))
    assert best < count.max(1).values.sum()  # no one-to-one assignment gives each cluster its most frequent class
    assert linear_sum_assignment(count, maximize=True)[1].tolist() == [1, 0, 3, 2]
    found = clustering_accuracy(test_codes=codes, test_label=label)
    assert found.sum() == best
    own = torch.tensor([1, 0, 3, 2])
    assert found.equal((own[cluster] == label).float())


def test_the_order_of_examples_changes_no_cluster_at_all():
    x, label = digits()
    order = torch.randperm(len(x))
    there = clustering_accuracy(test_codes=x, test_label=label)
    assert clustering_accuracy(test_codes=x[order], test_label=label[order]).equal(there[order])
    assert 0.6 < there.mean() < 0.9


def test_codes_all_alike_are_one_cluster_of_the_largest_class():
    label = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clustering_accuracy(test_codes=torch.ones(100, 3), test_label=label).mean() == 0.5


def test_latents_that_move_are_counted():
    scale = torch.tensor([1.0, 0.11, 0.09, 0.0])  # variances 1, 0.0121, 0.0081, 0
    x = torch.rand(2, 1)  # images that are not all the same
    value = active_units(test_codes=5 + scale * drawn(20_000, 4), x=x)
    assert (value.value, value.n, value.details, value.note) == (2, 20_000, {"latents": 4}, None)
    collapsed = active_units(test_codes=0.01 * drawn(1000, 4), x=x)
    assert collapsed.value == 0 and "posterior collapse" in collapsed.note
    broken = active_units(test_codes=torch.full((10, 4), torch.inf), x=x)
    assert math.isnan(broken.value) and broken.note is None


# --- how codes move and are spread


def test_drift_is_relative_to_the_spread():
    """Codes of variance 4 in each of 3 latents that move by (3, 4, 0): 5 over the root of 12, at any scale."""
    codes = 2 * drawn(100_000)
    moved = codes + torch.tensor([3.0, 4.0, 0.0])
    value = latent_drift(test_codes=codes, corrupted_codes=moved).item()
    assert value == pytest.approx(5 / 12**0.5, rel=0.01)
    assert latent_drift(test_codes=0.01 * codes, corrupted_codes=0.01 * moved).item() == pytest.approx(value, rel=1e-5)
    assert latent_drift(test_codes=codes, corrupted_codes=codes) == 0
    assert latent_drift(test_codes=codes, corrupted_codes=codes + drawn(100_000, seed=1)) < value


def test_a_jacobians_norm_is_relative_to_the_spread():
    """Of a linear encoder W: |W|_F over the root of the trace of the codes' covariance, at any scale."""
    w, x = drawn(5, 8), drawn(5000, 8, seed=1)
    codes, squared = x @ w.T, w.square().sum().expand(1000)
    values = jacobian_norm(jacobian=squared, test_codes=codes)
    expected = w.norm() / codes.T.cov().trace().sqrt()
    torch.testing.assert_close(values, expected.double().expand(1000), rtol=1e-5, atol=0)
    torch.testing.assert_close(jacobian_norm(jacobian=0.01 * squared, test_codes=0.1 * codes), values)


def test_a_shift_is_weighed_against_a_damage():
    """Codes that move by (3, 4, 0) under the one and by (0, 0, 10) under the other: 1/2, at any scale."""
    codes, far, near = drawn(1000), torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.0, 0.0, 10.0])
    found = shift_over_damage(subset_codes=codes, subset_shifted_codes=codes + far, subset_damaged_codes=codes + near)
    assert (found.value, found.n) == (pytest.approx(0.5, rel=1e-6), 1000) and found.se < 1e-6
    moved = {"subset_shifted_codes": 7 * codes, "subset_damaged_codes": 4 * codes}
    assert shift_over_damage(subset_codes=codes, **moved).value == pytest.approx(2, rel=1e-5)
    images = {"subset_shifted": 7 * codes[:, None], "subset_damaged": 4 * codes[:, None]}
    assert shift_over_damage_pixels(subset_x=codes[:, None], **images).value == pytest.approx(2, rel=1e-5)
    with pytest.raises(UnavailableError, match="^the damage changes no code of a test image$"):
        shift_over_damage(subset_codes=codes, subset_shifted_codes=codes, subset_damaged_codes=codes)


BAD = [(0.7, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 5.0)]  # scale and shift, by the discrepancy worse and worse


def test_codes_like_the_prior_have_no_discrepancy_and_others_have():
    """The floor is what two draws of the prior have; good codes are within a few of it, bad ones far above."""
    prior, n = drawn(2000).view(2, 1000, 3), 1000
    good = mmd_to_prior(subset_posterior_codes=drawn(n, seed=1), subset_prior_codes=prior)
    assert abs(good.value) < 0.01 and abs(good.floor) < 0.01 and good.n == n
    assert good.floor == mmd_to_prior(subset_posterior_codes=prior[1], subset_prior_codes=prior).value
    bad = [s * drawn(n, seed=1) + m for s, m in BAD]
    values = [mmd_to_prior(subset_posterior_codes=codes, subset_prior_codes=prior).value for codes in bad]
    assert values == sorted(values) and values[0] > 10 * abs(good.value)
    again = mmd_to_prior(subset_posterior_codes=drawn(n, seed=1)[torch.randperm(n)], subset_prior_codes=prior)
    assert again.value == pytest.approx(good.value, abs=1e-9)


def test_the_discrepancy_from_a_normal_is_that_from_a_prior_that_is_one():
    draws = drawn(2000, seed=3).view(2, 1000, 3)
    for codes in (drawn(1000, seed=1), 2 * drawn(1000, seed=1) + 1):
        found = mmd_to_normal(subset_posterior_codes=codes, subset_normal_codes=draws)
        assert found == mmd_to_prior(subset_posterior_codes=codes, subset_prior_codes=draws)


def directions(d: int, n: int) -> torch.Tensor:
    return F.normalize(drawn(d, n, seed=9), dim=0)


def sliced(codes: torch.Tensor, prior: torch.Tensor, along: torch.Tensor):
    return sliced_wasserstein_to_prior(posterior_codes=codes, prior_codes=prior, directions=along)


def test_a_shift_is_as_far_as_it_is_long_over_the_root_of_the_latents():
    """Every direction sees (d, u)^2 of it, whose mean is |d|^2 / D: exactly over any orthonormal basis."""
    prior, shift = drawn(2000, 3), torch.tensor([1.0, 2.0, -2.0])
    basis = torch.linalg.qr(drawn(3, 3, seed=5)).Q
    shifted = sliced(prior[:1000] + shift, prior, basis)
    assert shifted.value == pytest.approx(3 / 3**0.5, rel=1e-6) and shifted.n == 1000
    many = sliced(prior[:1000] + shift, prior, directions(3, 4000)).value
    assert many == pytest.approx(3 / 3**0.5, rel=0.03)
    assert sliced(prior[:1000], prior, basis).value == 0


def test_a_scale_moves_each_code_along_its_own_line():
    prior = drawn(1000, 4)
    along = directions(4, 130)
    seen = (prior[:500].double() @ along.double()).square().mean().sqrt().item()
    for scale in (0.0, 0.5, 1.5):
        assert sliced(scale * prior[:500], prior, along).value == pytest.approx(abs(scale - 1) * seen, rel=1e-6)


def test_along_a_line_it_is_the_cheapest_transport():
    """The least mean squared distance over all pairings of codes with draws, which need not be the sorted ones."""
    codes, prior = 3 * drawn(60, 1) + 1, drawn(120, 1, seed=1)
    cost = (codes.double() - prior[:60, 0].double()).square()
    pairs = linear_sum_assignment(cost)
    expected = cost[pairs].mean().sqrt().item()
    assert sliced(codes, prior, torch.ones(1, 1)).value == pytest.approx(expected, rel=1e-9)
    assert sliced(codes, prior, -torch.ones(1, 1)).value == pytest.approx(expected, rel=1e-9)
    apart = (prior[60:].double().sort(0).values - prior[:60].double().sort(0).values).square().mean().sqrt().item()
    assert sliced(codes, prior, torch.ones(1, 1)).floor == pytest.approx(apart, rel=1e-9)


def test_codes_like_the_prior_are_at_the_floor_and_others_above():
    prior, along = drawn(4000, 3), directions(3, 200)
    good = sliced(drawn(2000, 3, seed=1), prior, along)
    assert 0.5 < good.value / good.floor < 2 and good.floor < 0.1
    for scale, shift in BAD:  # N(m, s^2) in each latent: the squared distance from N(0, 1) is (s - 1)^2 + m^2
        value = sliced(scale * drawn(2000, 3, seed=1) + shift, prior, along).value
        assert value == pytest.approx(((scale - 1) ** 2 + shift**2) ** 0.5, rel=0.05) and value > 3 * good.floor


def test_neither_order_nor_pieces_move_the_sliced_distance():
    codes, prior, along = drawn(300, 3, seed=1), drawn(600, 3), directions(3, 120)
    value = sliced(codes, prior, along)
    shuffled = torch.cat([prior[:300].flip(0), prior[300:][torch.randperm(300)]])
    again = sliced(codes[torch.randperm(300)], shuffled, along[:, torch.randperm(120)])
    assert (again.value, again.floor) == pytest.approx((value.value, value.floor), rel=1e-12)
    each = [sliced(codes, prior, one).value ** 2 for one in along.split(1, 1)]
    assert value.value == pytest.approx((sum(each) / 120) ** 0.5, rel=1e-12)


def test_reencoding_gives_back_the_code_or_not():
    codes = drawn(5000)
    assert summarise(reencoding_error(sampled_codes=codes, reencoded=codes)).value == 0
    half = summarise(reencoding_error(sampled_codes=codes, reencoded=codes + 0.5**0.5 * drawn(5000, seed=1))).value
    assert half == pytest.approx(0.5 / 2.5, rel=0.05)  # variance 1/2, over 1 + 1 + 1/2
    chance = summarise(reencoding_error(sampled_codes=codes, reencoded=drawn(5000, seed=1))).value
    assert chance == pytest.approx(1, rel=0.05)


def test_component_accuracy_is_a_share():
    own = torch.tensor([True, True, False, True])
    assert summarise(component_accuracy(own_component=own)).value == 0.75


def test_the_baseline_of_a_prior_has_its_mean_and_covariance():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2, 2000, 2, generator=generator)
    skewed = normal.clone() @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]) + 3
    assert abs(mmd_to_prior_normal(skewed, torch.randn(2, 2000, 2, generator=generator)).value) < 0.01
    angle = 2 * torch.pi * torch.rand(2, 2000, generator=generator)
    ring = torch.stack([angle.cos(), angle.sin()], -1)
    value = mmd_to_prior_normal(ring, normal)
    assert value.value > 0.03 and abs(value.floor) < 0.01, "a ring is no blob"
