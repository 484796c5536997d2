import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from bench.metrics import summarise
from bench.metrics.latent import (
    component_accuracy,
    jacobian_norm,
    knn_accuracy,
    knn_accuracy_pixels,
    latent_drift,
    mmd_to_prior,
    reencoding_error,
)


def accuracy(train, train_label, test, test_label) -> float:
    evidence = {"train_codes": train, "train_label": train_label, "test_codes": test, "test_label": test_label}
    return summarise(knn_accuracy(**evidence)).value


def digits():
    images, label = load_digits(return_X_y=True)
    return torch.from_numpy(images).float() / 16, torch.from_numpy(label).long()


def test_separate_classes_are_all_found_and_noise_is_chance():
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(2000) % 10
    noise = torch.randn(2000, 4, generator=generator)
    apart = noise + 100 * label[:, None]
    assert accuracy(apart[:1000], label[:1000], apart[1000:], label[1000:]) == 1.0
    assert accuracy(noise[:1000], label[:1000], noise[1000:], label[1000:]) == pytest.approx(0.1, abs=0.04)


def test_five_neighbours_vote():
    # At 0 stand two of class 1; the next three, of class 0, outvote them; a sixth and seventh of class 1 do not count.
    train = torch.tensor([[0.0], [0.0], [1.0], [1.0], [1.0], [2.0], [2.0]])
    label = torch.tensor([1, 1, 0, 0, 0, 1, 1])
    assert accuracy(train, label, torch.zeros(1, 1), torch.tensor([0])) == 1.0


def test_it_equals_scikit_learn_and_the_pixels_are_flattened():
    x, label = digits()
    theirs = KNeighborsClassifier(5).fit(x[:1200], label[:1200]).score(x[1200:], label[1200:])
    assert accuracy(x[:1200], label[:1200], x[1200:], label[1200:]) == pytest.approx(theirs, abs=1e-12)
    images = x.view(-1, 1, 8, 8)
    pixels = knn_accuracy_pixels(
        train_x=images[:1200], train_label=label[:1200], x=images[1200:], test_label=label[1200:]
    )
    assert summarise(pixels).value == pytest.approx(theirs, abs=1e-6)


def test_the_order_of_examples_does_not_matter():
    x, label = digits()
    order, again = torch.randperm(1200), 1200 + torch.randperm(len(x) - 1200)
    one = accuracy(x[:1200], label[:1200], x[1200:], label[1200:])
    other = accuracy(x[order], label[order], x[again], label[again])
    assert one == pytest.approx(other, abs=0.002)  # equal distances may be told apart differently


def test_codes_that_are_not_finite_have_no_accuracy():
    codes, label = torch.zeros(20, 2), torch.zeros(20).long()
    codes[3, 1] = torch.inf
    assert knn_accuracy(train_codes=codes, train_label=label, test_codes=codes, test_label=label).isnan().all()


# --- how codes move and are spread


def drawn(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_drift_is_relative_to_the_spread():
    """Codes of variance 4 in each of 3 latents that move by (3, 4, 0): 5 over the root of 12, at any scale."""
    codes = 2 * drawn(100_000)
    moved = codes + torch.tensor([3.0, 4.0, 0.0])
    value = latent_drift(test_codes=codes, noisy_codes=moved).item()
    assert value == pytest.approx(5 / 12**0.5, rel=0.01)
    assert latent_drift(test_codes=0.01 * codes, noisy_codes=0.01 * moved).item() == pytest.approx(value, rel=1e-5)
    assert latent_drift(test_codes=codes, noisy_codes=codes) == 0
    assert latent_drift(test_codes=codes, noisy_codes=codes + drawn(100_000, seed=1)) < value


def test_a_jacobians_norm_is_relative_to_the_spread():
    """Of a linear encoder W: |W|_F over the root of the trace of the codes' covariance, at any scale."""
    w, x = drawn(5, 8), drawn(5000, 8, seed=1)
    codes, squared = x @ w.T, w.square().sum().expand(1000)
    values = jacobian_norm(jacobian=squared, test_codes=codes)
    expected = w.norm() / codes.T.cov().trace().sqrt()
    torch.testing.assert_close(values, expected.double().expand(1000), rtol=1e-5, atol=0)
    torch.testing.assert_close(jacobian_norm(jacobian=0.01 * squared, test_codes=0.1 * codes), values)


def test_codes_like_the_prior_have_no_discrepancy_and_others_have():
    """The floor is what two draws of the prior have; good codes are within a few of it, bad ones far above."""
    prior, n = drawn(4000), 2000
    good = mmd_to_prior(posterior_codes=drawn(n, seed=1), prior_codes=prior)
    assert abs(good.value) < 0.01 and abs(good.floor) < 0.01 and good.n == n
    values = [mmd_to_prior(posterior_codes=s * drawn(n, seed=1) + m, prior_codes=prior).value for s, m in BAD]
    assert values == sorted(values) and values[0] > 10 * abs(good.value)
    again = mmd_to_prior(posterior_codes=drawn(n, seed=1)[torch.randperm(n)], prior_codes=prior)
    assert again.value == pytest.approx(good.value, abs=1e-9)


BAD = [(0.7, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 5.0)]  # scale and shift, worse and worse


def test_only_so_many_codes_are_compared():
    value = mmd_to_prior(posterior_codes=drawn(3000, 2), prior_codes=drawn(6000, 2, seed=1))
    cut = mmd_to_prior(posterior_codes=drawn(3000, 2)[:2000], prior_codes=drawn(6000, 2, seed=1))
    assert value.n == 2000 and value == cut


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
