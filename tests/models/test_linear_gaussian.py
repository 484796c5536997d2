"""Linear-Gaussian models, compared with closed forms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor

from bench.core import InputError, Model, SkipError
from bench.data import Batch, Data
from bench.draws import Draws
from bench.engine.train import Budget
from bench.runs.config import build
from bench.runs.run import run
from tests.conftest import SHAPES, config_of, data_of, job_of, stack_of, trained

LATENTS = 4
LINEAR = ("network=linear", "likelihood=gaussian_learned", "likelihood.mean_activation=identity")

pytestmark = pytest.mark.usefixtures("float64")


def digits() -> Data:
    return data_of(torch.from_numpy(load_digits().images / 16)[:, None])


def affine(model: Model, latents: int) -> tuple[Tensor, Tensor]:
    """W [pixels, latents] and the mean image [pixels] of a linear decoder."""
    images = model.decode(torch.cat([torch.zeros(1, latents), torch.eye(latents)])).mean.flatten(1)
    return (images[1:] - images[0]).T, images[0]


def elbo(model: Model, x: Tensor, latents: int) -> Tensor:
    """[B] nats: E_q[log p(x|z)] - KL(q || p) in closed form. The variance S of z adds tr(W S W') / 2 sigma^2."""
    q = model.encode(Batch(x, x))
    variance = (affine(model, latents)[0].square().sum(0) * q.log_variance.exp()).sum(1)
    decoded = model.decode(q.mean)
    expected = decoded.log_prob(x) - 0.5 * variance * torch.exp(-2 * decoded.log_sigma)
    return expected - model.prior.kl(q, q.mean)


def test_evidence_is_elbo_plus_divergence_from_the_true_posterior():
    """log p(x) = ELBO + KL(q(z|x) || p(z|x)) to rounding, for log p(x) by scipy, p(z|x) by Bayes' rule and any q."""
    model = build(job_of("model=vae", *LINEAR, "model.latent_dim=3", "likelihood.sigma=0.4").config, SHAPES, seed=0)
    x = torch.rand(6, *SHAPES.x)
    with torch.no_grad():
        bound, q = elbo(model, x, 3), model.encode(Batch(x, x))
        weight, mean = affine(model, 3)
    sigma2, flat = 0.4**2, x.flatten(1)
    covariance = weight @ weight.T + sigma2 * torch.eye(64)
    evidence = torch.from_numpy(scipy.stats.multivariate_normal.logpdf(flat, mean, covariance))

    precision = weight.T @ weight / sigma2 + torch.eye(3)
    centre = (flat - mean) @ weight @ torch.linalg.inv(precision) / sigma2
    true = torch.distributions.MultivariateNormal(centre, precision_matrix=precision)
    approximate = torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(q.log_variance.exp()))
    divergence = torch.distributions.kl_divergence(approximate, true)
    assert divergence.min() > 0.1
    torch.testing.assert_close(bound + divergence, evidence)


def test_the_mean_loss_is_minus_the_closed_form_elbo():
    """Within five standard errors of 20,000 draws, each below 0.1 nat."""
    stack = stack_of(job_of("model=vae", *LINEAR, "model.latent_dim=3"))
    model, x = stack.model, torch.rand(1, *SHAPES.x)
    repeated = x.expand(1, 20_000, *SHAPES.x)
    loss = stack.losses(Batch(repeated, repeated), ("k",), ("model",)).players["model"].item()
    z = model.encode(Batch(repeated[0], repeated[0])).sample(Draws(1))
    error = model.decode(z).log_prob(repeated[0]).std().item() / math.sqrt(20_000)
    assert error < 0.1
    assert abs(-loss - elbo(model, x, 3).item()) < 5 * error


@pytest.fixture
def fitted() -> tuple[Model, Data, PCA]:
    data = digits()
    model = build(job_of("model=pca", f"model.latent_dim={LATENTS}").config, data.shapes, seed=0)
    model.fit(data, Draws(0))
    return model, data, PCA(LATENTS).fit(data.train.x.flatten(1).numpy())


def test_the_elbo_of_probabilistic_pca_is_its_log_likelihood(fitted):
    """Its posterior is exact, so log p(x|z) + log p(z) - log q(z|x) is log p(x) at every z."""
    model, data, pca = fitted
    x = data.train.x
    q = model.encode(Batch(x, x))
    evidence = torch.from_numpy(pca.score_samples(x.flatten(1).numpy()))
    for seed in (0, 1):
        z = q.sample(Draws(seed))
        bound = model.decode(z).log_prob(x) + model.prior.log_prob(z) - q.log_prob(z)
        torch.testing.assert_close(bound, evidence, rtol=1e-9, atol=1e-6)
    assert elbo(model, x, LATENTS).mean().item() == pytest.approx(pca.score(x.flatten(1).numpy()), abs=1e-3)


def test_the_posterior_of_probabilistic_pca_follows_bayes_rule(fitted):
    """Covariance S = (W'W / sigma^2 + I)^-1, which is diagonal, and mean S W'(x - mean) / sigma^2."""
    model, data, pca = fitted
    weight, mean = affine(model, LATENTS)
    sigma2 = math.exp(2 * model.likelihood.log_sigma)
    assert sigma2 == pytest.approx(pca.noise_variance_)
    covariance = torch.linalg.inv(weight.T @ weight / sigma2 + torch.eye(LATENTS))
    x = data.test.x[:20]
    q = model.encode(Batch(x, x))
    torch.testing.assert_close(torch.diag_embed(q.log_variance.exp()), covariance.expand(20, -1, -1))
    torch.testing.assert_close(q.mean, (x.flatten(1) - mean) @ weight @ covariance / sigma2)
    torch.testing.assert_close(weight @ weight.T + sigma2 * torch.eye(64), torch.from_numpy(pca.get_covariance()))


def test_probabilistic_pca_in_float32_is_within_a_thousandth_of_a_nat(fitted):
    """In float32, as in a run; the mean over images is computed in float64."""
    model, data, pca = fitted
    torch.set_default_dtype(torch.float32)
    bound = elbo(model.float(), data.train.x.float(), LATENTS)
    assert bound.double().mean().item() == pytest.approx(pca.score(data.train.x.flatten(1).numpy()), abs=1e-3)


def test_a_stack_of_probabilistic_pcas_keeps_the_fitted_parameters(tmp_path):
    """Two seeds in one stack have the same records as one by one."""
    torch.set_default_dtype(torch.float32)
    common = ("model=pca", "tracking=none", "metrics=fast", "device=cpu", "seeds=[0,1]", f"paths.results={tmp_path}")
    mse = {}
    for stack in (1, 2):
        run(config_of(*common, f"stack={stack}", f"sweep=stack-{stack}"), in_sweep=False)
        files = sorted(tmp_path.glob(f"stack-{stack}/*/seed-*/record.json"))
        mse[stack] = [json.loads(file.read_text())["metrics"]["reconstruction_mse"]["value"] for file in files]
    assert len(mse[1]) == 2 and mse[2] == pytest.approx(mse[1])


def test_more_latents_than_pixels_are_refused():
    with pytest.raises(InputError, match="latent_dim"):
        build(job_of("model=pca", "model.latent_dim=64").config, SHAPES, seed=0)


def test_sources_of_another_shape_are_refused():
    shapes = SHAPES._replace(source=(1, 4, 4))
    with pytest.raises(SkipError, match=r"PCA reconstructs what it reads, but sources \(1, 4, 4\) and images"):
        build(job_of("model=pca").config, shapes, seed=0)


def test_a_linear_vae_reaches_probabilistic_pca():
    """Its optimum is PCA (Lucas et al. 2019, "Don't blame the ELBO!"): within 0.2 nats per training image."""
    data = digits()
    x = data.train.x
    stack = None
    for lr, steps in ((2e-2, 300), (5e-3, 200)):
        job = job_of("model=vae", *LINEAR, f"model.latent_dim={LATENTS}", f"optimizer.lr={lr}")
        stack = stack or stack_of(job, shapes=data.shapes)
        trained(job, stack, data, Budget(steps=steps, batch_size=len(x)))
    best = PCA(LATENTS).fit(x.flatten(1).numpy()).score(x.flatten(1).numpy())
    with torch.no_grad():
        reached = elbo(stack.model, x, LATENTS).mean().item()
    assert np.isfinite(reached) and best - 0.2 < reached < best + 1e-6
