"""Priors and posteriors: densities against scipy and quadrature, KL against Monte Carlo, and which model uses which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from bench.core import SkipError, UnavailableError
from bench.draws import Draws
from bench.engine.train import Budget
from bench.parts.posteriors import Deterministic, DiagonalGaussian, Universal
from bench.parts.priors import GaussianMixture, Normal, Prior, SwissRoll, Uniform, petals, unfitted_mixture
from bench.paths import CONF
from bench.runs.config import build
from bench.runs.targets import make
from tests.conftest import SHAPES, job_of, small_data, stack_of, trained

pytestmark = pytest.mark.usefixtures("float64")


def gaussian(rows: int = 3, latent: int = 2) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, rows, latent, generator=generator)
    return DiagonalGaussian(mean, log_variance)


@dataclass(frozen=True)
class Laplace:
    """A posterior without a closed-form KL."""

    mean: Tensor

    def sample(self, draws: Draws) -> Tensor:
        u = draws.uniform("u", self.mean.shape) - 0.5
        return self.mean - u.sign() * torch.log1p(-2 * u.abs())

    def log_prob(self, z: Tensor) -> Tensor:
        return (-(z - self.mean).abs() - math.log(2)).sum(-1)


def test_log_densities_equal_scipy():
    q, z = gaussian(), Draws(0).normal("z", (3, 2))
    expected = scipy.stats.norm.logpdf(z, q.mean, torch.exp(q.log_variance / 2)).sum(-1)
    torch.testing.assert_close(q.log_prob(z), torch.from_numpy(expected))
    torch.testing.assert_close(Normal().log_prob(z), torch.from_numpy(scipy.stats.norm.logpdf(z).sum(-1)))


def test_a_posterior_sample_is_mean_plus_sigma_epsilon():
    q = gaussian()
    epsilon = Draws(0, "k").normal("epsilon", (3, 2))
    torch.testing.assert_close(q.sample(Draws(0, "k")), q.mean + torch.sqrt(torch.exp(q.log_variance)) * epsilon)


def test_samples_have_the_gradients_of_the_reparameterisation():
    mean, log_variance = torch.zeros(1, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    z = DiagonalGaussian(mean, log_variance).sample(Draws(0))
    by_mean, by_log_variance = torch.autograd.grad(z.sum(), (mean, log_variance))
    torch.testing.assert_close(by_mean, torch.ones(1, 2))
    torch.testing.assert_close(by_log_variance, (z - mean) / 2)


def test_the_closed_form_kl_agrees_with_monte_carlo():
    """Within five standard errors, which are less than 2 % each."""
    q, n = gaussian(), 200_000
    repeated = DiagonalGaussian(q.mean.repeat(n, 1), q.log_variance.repeat(n, 1))
    z = repeated.sample(Draws(0))
    ratio = (repeated.log_prob(z) - Normal().log_prob(z)).view(n, 3)
    error = ratio.std(0) / math.sqrt(n)
    kl = Normal().kl(q, q.mean)
    assert ((ratio.mean(0) - kl).abs() < 5 * error).all()
    assert (error < 0.02 * kl).all()


def test_the_kl_is_zero_only_at_the_prior():
    zero = torch.zeros(4, 2)
    assert torch.equal(Normal().kl(DiagonalGaussian(zero, zero), zero), torch.zeros(4))
    assert (Normal().kl(gaussian(), zero[:3]) > 0).all()


def test_the_kl_of_another_posterior_is_estimated_from_one_sample():
    """KL(Laplace(m) || N(0, 1)) = (m^2 + 2 + log(2 pi)) / 2 - 1 - log 2 per dimension."""
    mean = torch.tensor([[0.3, -1.0]])
    n = 200_000
    q = Laplace(mean.expand(n, -1))
    z = q.sample(Draws(0))
    estimate = Normal().kl(q, z)
    torch.testing.assert_close(estimate, q.log_prob(z) - Normal().log_prob(z))
    exact = ((mean**2 + 2 + math.log(2 * math.pi)) / 2 - 1 - math.log(2)).sum()
    assert abs(estimate.mean() - exact) < 5 * estimate.std() / math.sqrt(n)


def test_samples_of_the_normal_prior_have_its_distribution():
    z = Normal().sample((50_000, 2), Draws(0))
    assert z.shape == (50_000, 2)
    assert scipy.stats.kstest(z.flatten(), "norm").pvalue > 1e-3


def test_a_deterministic_posterior_has_no_density():
    q = Deterministic(torch.ones(2, 3))
    assert torch.equal(q.sample(Draws(0)), q.mean)
    with pytest.raises(UnavailableError, match="deterministic"):
        q.log_prob(q.mean)


# --- every prior in conf/prior


FILES = sorted(path.stem for path in Path(CONF, "prior").glob("*.yaml"))


def prior_of(name: str) -> Prior:
    return make("prior", job_of("model=aae", f"prior={name}", "model.latent_dim=2").config["prior"])


every_prior = pytest.mark.parametrize("name", FILES)


@every_prior
def test_a_density_integrates_to_one_or_is_unavailable(name):
    """Over a square of side 12 in steps of 0.02; the edges of the uniform prior lie between two steps."""
    prior, side = prior_of(name), torch.arange(-6, 6, 0.02) + 0.01
    z = torch.cartesian_prod(side, side)
    if name == "swiss_roll":
        with pytest.raises(UnavailableError, match="curve"):
            prior.log_prob(z)
    else:
        assert prior.log_prob(z).exp().sum().item() * 0.02**2 == pytest.approx(1, abs=1e-6)


@every_prior
def test_samples_follow_the_density(name):
    """The share of samples in each cell of a grid equals the integral of the density, within five standard errors."""
    prior, n = prior_of(name), 200_000
    z = prior.sample((n, 2), Draws(0))
    assert z.shape == (n, 2) and torch.equal(z, prior.sample((n, 2), Draws(0)))
    if name == "swiss_roll":  # a tenth of the samples in each component, all on the curve
        counts = prior.component(z[:20_000]).bincount(minlength=10)
        assert (counts / 20_000 - 0.1).abs().max() < 5 * math.sqrt(0.09 / 20_000)
        radius = z.norm(dim=1)
        root = radius / prior.radius
        on_curve = radius[:, None] * torch.stack([(4 * math.pi * root).cos(), (4 * math.pi * root).sin()], 1)
        torch.testing.assert_close(z, on_curve)
        return
    fine = torch.arange(-3, 3, 0.02) + 0.01
    mass = prior.log_prob(torch.cartesian_prod(fine, fine)).exp().view(12, 25, 12, 25).sum((1, 3)) * 0.02**2
    share = np.histogram2d(*z.T.numpy(), bins=np.linspace(-3, 3, 13))[0] / n
    error = (mass * (1 - mass) / n).sqrt() + 1e-4
    assert ((torch.from_numpy(share) - mass).abs() < 5 * error).all()


@pytest.mark.parametrize("name", ["gaussian_mixture", "swiss_roll"])
def test_labels_select_components_and_one_more_label_means_any(name):
    prior, n = prior_of(name), 20_000
    label = torch.arange(n) % 10
    is_correct = prior.component(prior.sample((n, 2), Draws(0), label)) == label
    assert is_correct.double().mean() > (0.98 if name == "gaussian_mixture" else 0.999)
    unknown = torch.full((n,), 10)
    assert torch.equal(prior.sample((n, 2), Draws(0), unknown), prior.sample((n, 2), Draws(0)))
    assert prior.component(prior.sample((n, 2), Draws(0), unknown)).unique().tolist() == list(range(10))


def test_petals_lie_on_a_circle_and_point_outwards():
    prior = petals(components=8, radius=2.0, along=0.3, across=0.05)
    z = prior.sample((40_000, 2), Draws(0), torch.full((40_000,), 2))  # the third of eight is straight up
    torch.testing.assert_close(z.mean(0), torch.tensor([0.0, 2.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(z.std(0), torch.tensor([0.05, 0.3]), atol=0.01, rtol=0)


def test_the_density_of_a_mixture_equals_scipy():
    prior, z = petals(), Draws(0).normal("z", (50, 2))
    densities = [
        scipy.stats.multivariate_normal(mean, factor @ factor.T).pdf(z)
        for mean, factor in zip(prior.mean.numpy(), prior.factor.numpy(), strict=True)
    ]
    torch.testing.assert_close(prior.log_prob(z).exp(), torch.from_numpy(sum(densities) / 10))


def test_fitting_a_mixture_to_codes():
    """The fit recovers means, covariances, weights and the density of three distant clusters."""
    true = GaussianMixture(
        torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 9.0]]),
        torch.linalg.cholesky(torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.25]])).repeat(3, 1, 1),
        torch.tensor([0.5, 0.3, 0.2]),
    )
    codes = true.sample((20_000, 3), Draws(0))
    fitted = unfitted_mixture(3, 3)
    fitted.fit(codes, Draws(0))
    order = fitted.weight.argsort(descending=True)
    torch.testing.assert_close(fitted.weight[order], true.weight, atol=0.02, rtol=0)
    torch.testing.assert_close(fitted.mean[order], true.mean, atol=0.1, rtol=0)
    torch.testing.assert_close(fitted.factor @ fitted.inverse, torch.eye(3).repeat(3, 1, 1))
    assert abs(fitted.log_prob(codes).mean() - true.log_prob(codes).mean()) < 0.01


@pytest.mark.parametrize("model", ["vae", "iwae", "vae_gan", "manifold_gan"])
@every_prior
def test_a_model_with_a_kl_accepts_only_priors_with_full_support(model, name):
    job = job_of(f"model={model}", f"prior={name}", "model.latent_dim=2", "network.hidden=8")
    if name in ("uniform", "swiss_roll"):
        with pytest.raises(SkipError, match="infinite: choose prior=normal"):
            build(job.config, SHAPES, 0)
        return
    stack = stack_of(job)
    rows = trained(job, stack, small_data(), Budget(steps=3, batch_size=16))
    assert all(math.isfinite(value) for value in rows[-1][0].values())


@pytest.mark.parametrize("model", ["aae", "wae_mmd", "gan"])
@every_prior
def test_a_model_that_needs_samples_only_accepts_every_prior_stacked_and_alone(model, name, float64):
    job = job_of(f"model={model}", f"prior={name}", "model.latent_dim=2", "network.hidden=8", "network.norm=none")
    budget = Budget(steps=3, batch_size=16)
    rows = trained(job, stack_of(job, [4, 7]), small_data(), budget)[-1]
    for seed, row in zip((4, 7), rows, strict=True):
        alone = trained(job, stack_of(job, [seed]), small_data(), budget)[-1][0]
        for key in alone.keys() - {"seconds", "samples_per_second"}:
            assert row[key] == pytest.approx(alone[key], rel=1e-7), key


@pytest.mark.parametrize("name", ["gaussian_mixture", "swiss_roll"])
def test_a_prior_in_two_dimensions_needs_two_latents(name):
    with pytest.raises(SkipError, match="has 2 dimensions, but model.latent_dim is 16: set model.latent_dim=2"):
        build(job_of("model=aae", f"prior={name}").config, SHAPES, 0)


def test_one_sample_estimates_of_the_kl_are_unbiased():
    """Their mean equals KL(N(m, s^2) || petals) by quadrature, within five standard errors."""
    prior, n = petals(), 200_000
    q = DiagonalGaussian(torch.tensor([[0.8, 0.3]]).expand(n, -1), torch.tensor([[-1.0, -2.0]]).expand(n, -1))
    estimates = prior.kl(q, q.sample(Draws(0)))
    side = torch.arange(-5, 5, 0.02) + 0.01
    z = torch.cartesian_prod(side, side)
    one = DiagonalGaussian(q.mean[:1], q.log_variance[:1])
    exact = (one.log_prob(z).exp() * (one.log_prob(z) - prior.log_prob(z))).sum().item() * 0.02**2
    assert abs(estimates.mean().item() - exact) < 5 * estimates.std().item() / math.sqrt(n)


def test_the_kl_to_a_prior_without_full_support_is_unavailable():
    for prior in (Uniform(), SwissRoll()):
        with pytest.raises(UnavailableError, match="infinite"):
            prior.kl(gaussian(), torch.zeros(3, 2))


def test_a_universal_posterior_is_noise_transformed_by_the_encoder():
    weight = Draws(0).normal("w", (4, 2))
    q = Universal(lambda eta: torch.tanh(eta @ weight) + 1, torch.zeros(3, 4))
    assert torch.equal(q.mean, torch.ones(3, 2))
    eta = Draws(5, "k").normal("eta", (3, 4))
    assert torch.equal(q.sample(Draws(5, "k")), torch.tanh(eta @ weight) + 1)
    with pytest.raises(UnavailableError, match="closed form"):
        q.log_prob(q.mean)
