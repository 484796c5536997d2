import pytest
import torch

from bench.metrics import discover, summarise
from bench.metrics.likelihood import elbo, kl, reconstruction_nll


def test_elbo_is_likelihood_less_divergence():
    likelihood, divergence = torch.tensor([-100.0, -90.0]), torch.tensor([20.0, 30.0])
    assert elbo(log_likelihood=likelihood, divergence=divergence).tolist() == [-120.0, -120.0]
    assert kl(divergence=divergence).tolist() == [20.0, 30.0]
    assert reconstruction_nll(log_likelihood=likelihood).tolist() == [100.0, 90.0]


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
