import math

import numpy as np
import pytest
import torch
from scipy.stats import bernoulli, laplace, multivariate_normal, norm

from bench.core import UnavailableError
from bench.metrics import discover, summarise
from bench.metrics.likelihood import (
    bits_per_dim,
    cross_entropy_gap,
    elbo,
    kl,
    parzen,
    reconstruction_nll,
    squared_error_gap,
)

NO_FLOOR = torch.zeros(2)


def test_elbo_is_likelihood_less_divergence():
    likelihood, divergence = torch.tensor([-100.0, -90.0]), torch.tensor([20.0, 30.0])
    found = elbo(log_likelihood=likelihood, divergence=divergence, sigma_at_floor=NO_FLOOR)
    assert (found.value, found.n, found.note) == (-120.0, 2, None)
    assert kl(divergence=divergence).tolist() == [20.0, 30.0]
    found = reconstruction_nll(log_likelihood=likelihood, sigma_at_floor=torch.tensor([0.0, 0.25]))
    assert found.value == 95.0 and "12.5% of the pixels" in found.note


def test_bits_are_nats_a_dimension_and_the_width_of_a_level():
    """x uniform on L levels, dequantised, has density 1 on [0, 1]^D; nothing is coded, and a pixel costs log2 L."""
    x, nothing = torch.zeros(4, 1, 3, 5), torch.zeros(4)

    def bits(log_likelihood, divergence, levels):
        of_image = {"log_likelihood": log_likelihood, "divergence": divergence, "sigma_at_floor": nothing}
        return bits_per_dim(**of_image, x=x, log2_levels=levels).value

    assert bits(nothing, nothing, 8.0) == 8.0
    coins = torch.full((4,), -15 * math.log(2))  # of 15 pixels
    assert bits(coins, nothing, 0.0) == pytest.approx(1.0)
    assert bits(coins, -coins, 0.0) == pytest.approx(2.0)


def images(seed: int) -> torch.Tensor:
    return torch.rand(20, 2, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gap(of, log_likelihood, x, mean) -> torch.Tensor:
    return of(log_likelihood_at_mean=torch.as_tensor(log_likelihood).flatten(1).sum(1), x=x, x_mean=mean)


def test_the_squared_error_is_a_gaussian_of_sigma_1_and_nothing_else():
    x, mean = images(0), images(1)
    assert gap(squared_error_gap, norm.logpdf(x, mean), x, mean).abs().max() < 1e-12
    # Of sigma = 1/2 another 3/2 |x - m|^2, less 30 log 2.
    half = gap(squared_error_gap, norm.logpdf(x, mean, 0.5), x, mean)
    torch.testing.assert_close(half, (1.5 * (x - mean).square().flatten(1).sum(1) - 30 * math.log(2)).abs())
    assert gap(squared_error_gap, laplace.logpdf(x, mean), x, mean).mean() > 0.5


def test_the_cross_entropy_is_a_bernoulli_and_nothing_else():
    x, mean = images(0), images(1)
    binary = (x > 0.5).double()
    assert gap(cross_entropy_gap, bernoulli.logpmf(binary, mean), binary, mean).abs().max() < 1e-12
    ours = -torch.nn.functional.binary_cross_entropy(mean, x, reduction="none")
    assert gap(cross_entropy_gap, ours, x, mean).abs().max() < 1e-12
    assert gap(cross_entropy_gap, norm.logpdf(x, mean), x, mean).mean() > 0.5


def test_a_cross_entropy_is_of_probabilities_and_certain_ones_do_not_cost_all():
    x = torch.zeros(2, 1, 1, 3)
    certain = torch.tensor([0.0, 0.0, 1.0]).expand_as(x)
    assert gap(cross_entropy_gap, torch.zeros(2, 3), x, certain).tolist() == [100, 100]
    with pytest.raises(UnavailableError, match=r"outside \[0, 1\]"):
        gap(cross_entropy_gap, torch.zeros(2, 3), x, certain + 0.1)
    assert gap(cross_entropy_gap, torch.zeros(2, 3), x, certain + torch.nan).isnan().all()


def test_parzen_is_scipys_kernel_density_estimate():
    """With the sigma that it chose; a wide sample asks for a wide one, and samples of the data beat others."""
    generator = torch.Generator().manual_seed(0)
    drawn = lambda n, shift=0.0: shift + 0.3 * torch.randn(n, 1, 1, 2, generator=generator)  # noqa: E731
    samples, x, validation = drawn(400), drawn(50), drawn(60)
    found = parzen(samples=samples, probed_x=x, validation_x=validation)
    sigma = found.details["sigma"]
    kernel = multivariate_normal(np.zeros(2), sigma**2)
    apart = (x.flatten(1)[:, None] - samples.flatten(1)).double().numpy()
    expected = np.log(kernel.pdf(apart).mean(1))
    assert found.value == pytest.approx(expected.mean(), rel=1e-6) and found.n == 50
    assert found.se == pytest.approx(expected.std(ddof=1) / 50**0.5, rel=1e-6)
    assert 0.05 < sigma < 0.3 and "legacy" in found.note
    again = parzen(samples=samples[torch.randperm(400)], probed_x=x.flip(0), validation_x=validation)
    assert again.value == pytest.approx(found.value, rel=1e-9)
    assert parzen(samples=drawn(400, 1.0), probed_x=x, validation_x=validation).value < found.value - 0.5


def test_a_summary_is_the_mean_and_its_standard_error():
    summary = summarise(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert summary.value == 3.0
    assert summary.n == 4
    assert summary.se == pytest.approx((14 / 3) ** 0.5 / 2)  # squared deviations: 4 + 1 + 0 + 9


def test_a_summary_of_a_number_has_no_standard_error():
    for number in (0.25, torch.tensor(0.25)):
        assert (summarise(number).value, summarise(number).se, summarise(number).n) == (0.25, None, None)
    assert summarise(torch.tensor([2.0])).se is None


def test_every_metric_is_found_with_its_direction():
    found = discover()
    assert (found["elbo"].better, found["elbo"].unit) == ("higher", "nats")
    assert (found["sharpness_samples"].better, found["sharpness_samples"].ideal) == ("closest", 1.0)
    assert found["kl"].better is None
    assert {"psnr", "ssim", "knn_accuracy", "denoising_gain_db", "samples_per_second"} <= found.keys()
    assert "summarise" not in found and "gaussian_filter" not in found
