"""The prior and the Gaussian posterior: densities against scipy, the KL against Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import scipy.stats
import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.draws import Draws
from bench.posteriors import Deterministic, DiagonalGaussian
from bench.priors import Normal

pytestmark = pytest.mark.usefixtures("float64")


def gaussian(rows: int = 3, latent: int = 2) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, rows, latent, generator=generator)
    return DiagonalGaussian(mean, log_variance)


@dataclass(frozen=True)
class Laplace:
    """A posterior with no closed-form KL."""

    mean: Tensor

    def sample(self, draws: Draws) -> Tensor:
        u = draws.uniform("u", self.mean.shape) - 0.5
        return self.mean - u.sign() * torch.log1p(-2 * u.abs())

    def log_prob(self, z: Tensor) -> Tensor:
        return (-(z - self.mean).abs() - math.log(2)).sum(-1)


def test_log_densities_are_scipys():
    q, z = gaussian(), Draws(0).normal("z", (3, 2))
    expected = scipy.stats.norm.logpdf(z, q.mean, torch.exp(q.log_variance / 2)).sum(-1)
    torch.testing.assert_close(q.log_prob(z), torch.from_numpy(expected))
    torch.testing.assert_close(Normal().log_prob(z), torch.from_numpy(scipy.stats.norm.logpdf(z).sum(-1)))


def test_a_sample_is_mean_plus_sigma_epsilon():
    q = gaussian()
    epsilon = Draws(0, "k").normal("epsilon", (3, 2))
    torch.testing.assert_close(q.sample(Draws(0, "k")), q.mean + torch.sqrt(torch.exp(q.log_variance)) * epsilon)


def test_the_gradient_of_a_sample_is_the_reparameterised_one():
    mean, log_variance = torch.zeros(1, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    z = DiagonalGaussian(mean, log_variance).sample(Draws(0))
    by_mean, by_log_variance = torch.autograd.grad(z.sum(), (mean, log_variance))
    torch.testing.assert_close(by_mean, torch.ones(1, 2))
    torch.testing.assert_close(by_log_variance, (z - mean) / 2)


def test_the_closed_form_kl_agrees_with_monte_carlo():
    """Within five standard errors, which are below 2 % of it."""
    q, n = gaussian(), 200_000
    wide = DiagonalGaussian(q.mean.repeat(n, 1), q.log_variance.repeat(n, 1))
    z = wide.sample(Draws(0))
    ratio = (wide.log_prob(z) - Normal().log_prob(z)).view(n, 3)
    error = ratio.std(0) / math.sqrt(n)
    kl = Normal().kl(q, q.mean)
    assert ((ratio.mean(0) - kl).abs() < 5 * error).all()
    assert (error < 0.02 * kl).all()


def test_the_kl_is_zero_at_the_prior_and_only_there():
    zero = torch.zeros(4, 2)
    assert torch.equal(Normal().kl(DiagonalGaussian(zero, zero), zero), torch.zeros(4))
    assert (Normal().kl(gaussian(), zero[:3]) > 0).all()


def test_another_posterior_is_estimated_at_its_sample():
    """KL(Laplace(m) || N(0, 1)) = (m^2 + 2 + log(2 pi)) / 2 - 1 - log 2 a dimension."""
    mean = torch.tensor([[0.3, -1.0]])
    n = 200_000
    q = Laplace(mean.expand(n, -1))
    z = q.sample(Draws(0))
    estimate = Normal().kl(q, z)
    torch.testing.assert_close(estimate, q.log_prob(z) - Normal().log_prob(z))
    exact = ((mean**2 + 2 + math.log(2 * math.pi)) / 2 - 1 - math.log(2)).sum()
    assert abs(estimate.mean() - exact) < 5 * estimate.std() / math.sqrt(n)


def test_the_prior_samples_what_its_density_says():
    z = Normal().sample((50_000, 2), Draws(0))
    assert z.shape == (50_000, 2)
    assert scipy.stats.kstest(z.flatten(), "norm").pvalue > 1e-3


def test_a_deterministic_code_has_no_density():
    q = Deterministic(torch.ones(2, 3))
    assert torch.equal(q.sample(Draws(0)), q.mean)
    with pytest.raises(UnavailableError, match="deterministic"):
        q.log_prob(q.mean)
