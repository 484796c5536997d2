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


def test_elbo_is_the_log_likelihood_minus_the_divergence():
    likelihood, divergence = torch.tensor([-100.0, -90.0]), torch.tensor([20.0, 30.0])
    value = elbo(log_likelihood=likelihood, divergence=divergence, sigma_at_floor=NO_FLOOR)
    assert (value.value, value.n, value.note) == (-120.0, 2, None)
    assert kl(divergence=divergence).tolist() == [20.0, 30.0]
    value = reconstruction_nll(log_likelihood=likelihood, sigma_at_floor=torch.tensor([0.0, 0.25]))
    assert value.value == 95.0 and "12.5% of the pixels" in value.note


def test_bits_per_dim_in_closed_form():
    """x uniform on L levels, dequantised: density 1 on [0, 1]^D and no divergence, so a pixel costs log2 L."""
    x, zeros = torch.zeros(4, 1, 3, 5), torch.zeros(4)

    def bits(log_likelihood, divergence, levels):
        evidence = {"log_likelihood": log_likelihood, "divergence": divergence, "sigma_at_floor": zeros}
        return bits_per_dim(**evidence, x=x, log2_levels=levels).value

    assert bits(zeros, zeros, 8.0) == 8.0
    coins = torch.full((4,), -15 * math.log(2))  # 15 fair coins
    assert bits(coins, zeros, 0.0) == pytest.approx(1.0)
    assert bits(coins, -coins, 0.0) == pytest.approx(2.0)


def images(seed: int) -> torch.Tensor:
    return torch.rand(20, 2, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gap(metric, log_likelihood, x, mean) -> torch.Tensor:
    return metric(log_likelihood_at_mean=torch.as_tensor(log_likelihood).flatten(1).sum(1), x=x, x_mean=mean)


def test_the_squared_error_gap_is_0_only_for_a_gaussian_of_sigma_1():
    x, mean = images(0), images(1)
    assert gap(squared_error_gap, norm.logpdf(x, mean), x, mean).abs().max() < 1e-12
    # For sigma = 1/2 the gap is 3/2 |x - m|^2 - 30 log 2.
    half = gap(squared_error_gap, norm.logpdf(x, mean, 0.5), x, mean)
    torch.testing.assert_close(half, (1.5 * (x - mean).square().flatten(1).sum(1) - 30 * math.log(2)).abs())
    assert gap(squared_error_gap, laplace.logpdf(x, mean), x, mean).mean() > 0.5


def test_the_cross_entropy_gap_is_0_only_for_a_bernoulli():
    x, mean = images(0), images(1)
    binary = (x > 0.5).double()
    assert gap(cross_entropy_gap, bernoulli.logpmf(binary, mean), binary, mean).abs().max() < 1e-12
    log_likelihood = -torch.nn.functional.binary_cross_entropy(mean, x, reduction="none")
    assert gap(cross_entropy_gap, log_likelihood, x, mean).abs().max() < 1e-12
    assert gap(cross_entropy_gap, norm.logpdf(x, mean), x, mean).mean() > 0.5


def test_the_cross_entropy_needs_probabilities_and_is_clamped():
    x = torch.zeros(2, 1, 1, 3)
    certain = torch.tensor([0.0, 0.0, 1.0]).expand_as(x)
    assert gap(cross_entropy_gap, torch.zeros(2, 3), x, certain).tolist() == [100, 100]
    with pytest.raises(UnavailableError, match=r"outside \[0, 1\]"):
        gap(cross_entropy_gap, torch.zeros(2, 3), x, certain + 0.1)
    assert gap(cross_entropy_gap, torch.zeros(2, 3), x, certain + torch.nan).isnan().all()


def test_parzen_equals_scipys_kernel_density_estimate():
    """With the sigma that the metric chose. Samples from the data score higher than others."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda n, shift=0.0: shift + 0.3 * torch.randn(n, 1, 1, 2, generator=generator)  # noqa: E731
    samples, x, validation = draw(400), draw(50), draw(60)
    value = parzen(samples=samples, probed_x=x, validation_x=validation)
    sigma = value.details["sigma"]
    kernel = multivariate_normal(np.zeros(2), sigma**2)
    differences = (x.flatten(1)[:, None] - samples.flatten(1)).double().numpy()
    expected = np.log(kernel.pdf(differences).mean(1))
    assert value.value == pytest.approx(expected.mean(), rel=1e-6) and value.n == 50
    assert value.se == pytest.approx(expected.std(ddof=1) / 50**0.5, rel=1e-6)
    assert 0.05 < sigma < 0.3 and "legacy" in value.note
    again = parzen(samples=samples[torch.randperm(400)], probed_x=x.flip(0), validation_x=validation)
    assert again.value == pytest.approx(value.value, rel=1e-9)
    assert parzen(samples=draw(400, 1.0), probed_x=x, validation_x=validation).value < value.value - 0.5


def test_a_summary_is_the_mean_and_its_standard_error():
    summary = summarise(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert summary.value == 3.0
    assert summary.n == 4
    assert summary.se == pytest.approx((14 / 3) ** 0.5 / 2)  # squared deviations: 4 + 1 + 0 + 9


def test_the_summary_of_a_number_has_no_standard_error():
    for number in (0.25, torch.tensor(0.25)):
        assert (summarise(number).value, summarise(number).se, summarise(number).n) == (0.25, None, None)
    assert summarise(torch.tensor([2.0])).se is None


def test_every_metric_is_found_with_its_direction():
    metrics = discover()
    assert (metrics["elbo"].better, metrics["elbo"].unit) == ("higher", "nats")
    assert (metrics["sharpness_samples"].better, metrics["sharpness_samples"].ideal) == ("closest", 1.0)
    assert metrics["kl"].better is None
    assert {"psnr", "ssim", "knn_accuracy", "denoising_gain_db", "samples_per_second"} <= metrics.keys()
    assert "summarise" not in metrics and "gaussian_filter" not in metrics
