"""Densities that integrate to one, constants included; gradients that are those of MSE and cross-entropy."""

from __future__ import annotations

import itertools
import math

import pytest
import scipy.stats
import torch
from torch.nn import functional as F

from bench.check import build
from bench.core import InputError
from bench.draws import Draws
from bench.likelihoods import Bernoulli, Gaussian
from tests.conftest import SHAPES, job_of

pytestmark = pytest.mark.usefixtures("float64")


def images(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw decoder outputs and images in [0, 1]."""
    draws = Draws(0)
    return draws.normal("raw", shape), draws.uniform("x", shape)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_a_gaussian_pixel_integrates_to_one(sigma, activation):
    """The trapezoidal rule over 12 sigma either way, exact to rounding for a Gaussian."""
    observation = Gaussian(sigma, mean_activation=activation)(torch.tensor([[[[0.7]]]]))
    grid = observation.mean.item() + sigma * torch.linspace(-12, 12, 2001)
    density = observation.log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)


def test_bernoulli_images_sum_to_one():
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6))).view(-1, 1, 2, 3)
    observation = Bernoulli()(images(1, 1, 2, 3)[0].expand_as(every))
    assert observation.log_prob(every).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_log_probabilities_are_scipys_summed_over_the_image():
    raw, x = images(4, 3, 5, 2)
    mean = torch.sigmoid(raw)
    gaussian = torch.from_numpy(scipy.stats.norm.logpdf(x, mean, 0.3)).sum((1, 2, 3))
    torch.testing.assert_close(Gaussian(0.3)(raw).log_prob(x), gaussian)
    unbounded = torch.from_numpy(scipy.stats.norm.logpdf(x, raw, 0.3)).sum((1, 2, 3))
    torch.testing.assert_close(Gaussian(0.3, mean_activation="identity")(raw).log_prob(x), unbounded)
    binary = (x > 0.5).double()
    bernoulli = torch.from_numpy(scipy.stats.bernoulli.logpmf(binary, mean)).sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli()(raw).log_prob(binary), bernoulli)


def test_sigma_1_is_half_the_squared_error_plus_a_constant():
    raw, x = images(4, 1, 5, 2)
    raw.requires_grad_()
    nll, half_squared_error = -Gaussian()(raw).log_prob(x).sum(), 0.5 * F.mse_loss(raw.sigmoid(), x, reduction="sum")
    assert (nll - half_squared_error).item() == pytest.approx(x.numel() / 2 * math.log(2 * math.pi))
    torch.testing.assert_close(torch.autograd.grad(nll, raw), torch.autograd.grad(half_squared_error, raw))


def test_bernoulli_is_cross_entropy_and_its_last_layers_error_is_prediction_minus_target():
    raw, x = images(4, 1, 5, 2)
    raw.requires_grad_()
    nll = -Bernoulli()(raw).log_prob(x).sum()
    torch.testing.assert_close(nll, F.binary_cross_entropy(raw.sigmoid(), x, reduction="sum"))
    (error,) = torch.autograd.grad(nll, raw)
    torch.testing.assert_close(error, torch.sigmoid(raw.detach()) - x)


def test_the_best_learned_sigma_is_the_root_mean_squared_error():
    raw, x = images(8, 1, 5, 2)
    rmse = (raw.sigmoid() - x).square().mean().sqrt().item()
    likelihood = Gaussian(rmse, learned=True)
    assert [name for name, _ in likelihood.named_parameters()] == ["tenth_log_sigma"]
    (gradient,) = torch.autograd.grad(likelihood(raw).log_prob(x).sum(), likelihood.tenth_log_sigma)
    assert gradient.item() == pytest.approx(0, abs=1e-9)
    assert not list(Gaussian(rmse).parameters())


def test_samples_have_the_mean_and_the_spread_they_should():
    """Within five standard errors of 40,000 samples, for each pixel."""
    n = 40_000
    raw = torch.tensor([-2.0, 0.0, 1.0]).view(1, 1, 1, 3).expand(n, -1, -1, -1)
    mean = torch.sigmoid(raw[:1])
    drawn = Gaussian(0.3)(raw).sample(Draws(0))
    assert ((drawn.mean(0) - mean).abs() < 5 * 0.3 / math.sqrt(n)).all()
    assert ((drawn.std(0) / 0.3 - 1).abs() < 5 / math.sqrt(2 * n)).all()
    drawn = Bernoulli()(raw).sample(Draws(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert ((drawn.mean(0) - mean).abs() < 5 * 0.5 / math.sqrt(n)).all()


def test_means():
    raw, _ = images(2, 1, 3, 3)
    for likelihood in (Bernoulli(), Gaussian(), Gaussian(0.2, learned=True)):
        torch.testing.assert_close(likelihood(raw).mean, torch.sigmoid(raw))
    assert torch.equal(Gaussian(mean_activation="identity")(raw).mean, raw)


def test_measures():
    assert Bernoulli().measure(binary=True) == "mass"
    assert Bernoulli().measure(binary=False) == "unnormalised"
    assert {Gaussian().measure(binary) for binary in (True, False)} == {"density"}


def test_a_bernoullis_grey_pixels_do_not_integrate_to_one():
    """Why its measure on grey pixels is "unnormalised"."""
    grid = torch.linspace(0, 1, 1001)
    density = Bernoulli()(torch.full((1001, 1, 1, 1), 0.7)).log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() < 0.9


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("likelihood=bernoulli", "likelihood.mean_activation=identity"), "likelihood.mean_activation"),
        (("likelihood=gaussian", "likelihood.mean_activation=tanh"), "likelihood.mean_activation"),
        (("likelihood=gaussian", "likelihood.sigma=0"), "likelihood.sigma"),
        (("likelihood=gaussian_learned", "likelihood.sigma=-1"), "likelihood.sigma"),
    ],
)
def test_a_bad_likelihood_is_refused(overrides, said):
    with pytest.raises(InputError, match=said):
        build(job_of(*overrides).config, SHAPES, seed=0)


def test_what_the_configuration_offers():
    built = {name: job_of(f"likelihood={name}").config["likelihood"] for name in ("gaussian", "gaussian_learned")}
    assert not built["gaussian"]["learned"] and built["gaussian_learned"]["learned"]
    assert built["gaussian"]["sigma"] == 1
