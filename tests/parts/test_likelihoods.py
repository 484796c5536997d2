"""Densities integrate to one with all constants, and gradients equal those of squared error and cross-entropy."""

from __future__ import annotations

import inspect
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
import yaml
from torch.func import vmap
from torch.nn import functional as F

from bench.core import InputError
from bench.draws import Draws
from bench.parts.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, GaussianPixelwise, Laplace, Likelihood
from bench.paths import CONF
from bench.runs.config import build
from tests.conftest import SHAPES, job_of

pytestmark = pytest.mark.usefixtures("float64")

FILES = {path.stem: path for path in sorted(Path(CONF, "likelihood").glob("*.yaml"))}
TARGETS = {name: yaml.safe_load(path.read_text())["_target_"].rpartition(".")[2] for name, path in FILES.items()}
LOGITS = [0.0, 1e-4, -1e-4, 0.01, -0.01, 0.249, 0.251, -0.251, 1.0, -1.0, 5.0, 30.0, -30.0, 100.0, -100.0]

every_likelihood = pytest.mark.parametrize("name", FILES)


def images(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(raw decoder outputs, images in [0, 1])."""
    draws = Draws(0)
    return draws.normal("raw", shape), draws.uniform("x", shape)


def likelihood_of(name: str) -> Likelihood:
    """The likelihood of a file in conf/likelihood, built as in a run."""
    return build(job_of("model=vae", f"likelihood={name}").config, SHAPES, seed=0).likelihood


def gauss_legendre(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [200, 1, 1, 1] in [0, 1] and weights [200]: exact to rounding for e^(l x), |l| up to 100."""
    points, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(200))
    return (0.5 * (points + 1)).to(dtype).view(-1, 1, 1, 1), 0.5 * weights


def continuous_bernoulli(logit: float, dtype: torch.dtype = torch.float64):
    """The observation of 200 one-pixel images."""
    return ContinuousBernoulli()(torch.full((200, 1, 1, 1), logit, dtype=dtype))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_a_gaussian_pixel_integrates_to_one(sigma, activation):
    """By the trapezoidal rule over +-12 sigma, which is exact to rounding for a Gaussian."""
    observation = Gaussian(sigma, mean_activation=activation)(torch.tensor([[[[0.7]]]]))
    grid = observation.mean.item() + sigma * torch.linspace(-12, 12, 2001)
    density = observation.log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)


def test_bernoulli_images_sum_to_one():
    all_images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6))).view(-1, 1, 2, 3)
    observation = Bernoulli()(images(1, 1, 2, 3)[0].expand_as(all_images))
    assert observation.log_prob(all_images).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1.0])
@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_a_laplace_pixel_integrates_to_one(scale, activation):
    """By the trapezoidal rule over +-30 scales, with the kink on a grid point."""
    observation = Laplace(scale, mean_activation=activation)(torch.tensor([[[[0.7]]]]))
    grid = observation.mean.item() + scale * torch.linspace(-30, 30, 60_001)
    density = observation.log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("raw_sigma", [-200.0, -1.0, 0.0, 2.0])
def test_a_pixelwise_gaussian_integrates_to_one(raw_sigma):
    observation = GaussianPixelwise()(torch.tensor([0.7, raw_sigma]).view(1, 2, 1, 1))
    grid = observation.mean.item() + (0.01 + math.log1p(math.exp(raw_sigma))) * torch.linspace(-12, 12, 2001)
    density = observation.log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_continuous_bernoulli_integrates_to_one_and_has_the_right_mean(logit, dtype, tolerance):
    """In float32, for a logit of 100, a log density is a difference of two terms of 50, each rounded by 4e-6."""
    x, weights = gauss_legendre(dtype)
    observation = continuous_bernoulli(logit, dtype)
    density = observation.log_prob(x).double().exp()
    assert (weights @ density).item() == pytest.approx(1, abs=tolerance)
    assert observation.mean.dtype == dtype
    assert observation.mean[0].item() == pytest.approx((weights @ (x.flatten() * density)).item(), abs=tolerance)


@pytest.mark.parametrize("logit", [0.2, 0.24, 0.26, 1.0, -3.0])
def test_a_continuous_bernoulli_equals_the_formula_of_the_paper(logit):
    """The formula in lambda, where it does not cancel (Loaiza-Ganem & Cunningham 2019)."""
    p = 1 / (1 + math.exp(-logit))
    constant = 2 * math.atanh(1 - 2 * p) / (1 - 2 * p)
    log_p = math.log(constant) + 0.3 * math.log(p) + 0.7 * math.log(1 - p)
    mean = p / (2 * p - 1) + 1 / (2 * math.atanh(1 - 2 * p))
    observation = continuous_bernoulli(logit)
    assert observation.log_prob(torch.full((200, 1, 1, 1), 0.3))[0].item() == pytest.approx(log_p, abs=1e-10)
    assert observation.mean[0].item() == pytest.approx(mean, abs=1e-10)


def test_a_continuous_bernoulli_is_continuous_where_its_series_ends():
    """Log density, gradient and mean at two logits 2e-12 apart."""
    for switch in (0.25, -0.25):
        logits = torch.tensor([switch - 1e-12, switch + 1e-12]).view(2, 1, 1, 1).requires_grad_()
        observation = ContinuousBernoulli()(logits)
        log_p = observation.log_prob(torch.full((2, 1, 1, 1), 0.9))
        (gradient,) = torch.autograd.grad(log_p.sum(), logits)
        for pair in (log_p, gradient.flatten(), observation.mean.flatten()):
            assert abs(pair[0] - pair[1]).item() < 1e-9


def test_the_gradients_of_a_continuous_bernoulli():
    """Near 0, around the end of the series and for large logits they equal x minus the mean and finite differences;
    in float32 they are finite."""
    logits = torch.tensor([*LOGITS, 0.25, -0.25]).view(-1, 1, 1, 1).requires_grad_()
    x = torch.full_like(logits, 0.9)

    def log_prob(logits: torch.Tensor) -> torch.Tensor:
        return ContinuousBernoulli()(logits).log_prob(x)

    (gradient,) = torch.autograd.grad(log_prob(logits).sum(), logits)
    torch.testing.assert_close(gradient, x - ContinuousBernoulli()(logits).mean, atol=1e-9, rtol=0)
    step = 1e-4
    with torch.no_grad():
        differences = (log_prob(logits + step) - log_prob(logits - step)) / (2 * step)
    torch.testing.assert_close(gradient.flatten(), differences, atol=1e-8, rtol=0)

    logits32 = logits.detach().float().requires_grad_()
    (gradient32,) = torch.autograd.grad(ContinuousBernoulli()(logits32).log_prob(x.float()).sum(), logits32)
    assert gradient32.dtype == torch.float32
    torch.testing.assert_close(gradient32.double(), gradient, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_prob(logits32).double(), log_prob(logits), atol=1e-5, rtol=0)
    huge = torch.tensor([1e20, -1e20], dtype=torch.float32).view(2, 1, 1, 1).requires_grad_()
    observation = ContinuousBernoulli()(huge)
    loss = observation.log_prob(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)).sum() + observation.mean.sum()
    assert torch.autograd.grad(loss, huge)[0].isfinite().all()


def test_log_prob_equals_scipy_summed_over_the_image():
    raw, x = images(4, 3, 5, 2)
    mean = torch.sigmoid(raw)
    gaussian = torch.from_numpy(scipy.stats.norm.logpdf(x, mean, 0.3)).sum((1, 2, 3))
    torch.testing.assert_close(Gaussian(0.3)(raw).log_prob(x), gaussian)
    unbounded = torch.from_numpy(scipy.stats.norm.logpdf(x, raw, 0.3)).sum((1, 2, 3))
    torch.testing.assert_close(Gaussian(0.3, mean_activation="identity")(raw).log_prob(x), unbounded)
    binary = (x > 0.5).double()
    bernoulli = torch.from_numpy(scipy.stats.bernoulli.logpmf(binary, mean)).sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli()(raw).log_prob(binary), bernoulli)
    laplace = torch.from_numpy(scipy.stats.laplace.logpdf(x, mean, 0.3)).sum((1, 2, 3))
    torch.testing.assert_close(Laplace(0.3)(raw).log_prob(x), laplace)


@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_a_pixelwise_gaussian_equals_scipy_with_sigma_above_its_floor(activation):
    raw, _ = images(4, 6, 5, 2)
    raw[:, 3:] *= 300  # so small that softplus is 0
    x = images(4, 3, 5, 2)[1]
    likelihood = GaussianPixelwise(0.05, mean_activation=activation)
    assert likelihood.raw_shape((3, 5, 2)) == (6, 5, 2)
    assert not list(likelihood.parameters())
    observation = likelihood(raw)
    sigma = observation.log_sigma.exp()
    assert sigma.min().item() == pytest.approx(0.05) and sigma.max() > 100
    torch.testing.assert_close(sigma, 0.05 + F.softplus(raw[:, 3:]))
    mean = raw[:, :3].sigmoid() if activation == "sigmoid" else raw[:, :3]
    torch.testing.assert_close(observation.mean, mean)
    expected = torch.from_numpy(scipy.stats.norm.logpdf(x, mean, sigma)).sum((1, 2, 3))
    torch.testing.assert_close(observation.log_prob(x), expected)


def test_a_gaussian_with_sigma_1_is_half_the_squared_error_plus_a_constant():
    raw, x = images(4, 1, 5, 2)
    raw.requires_grad_()
    nll, half_squared_error = -Gaussian()(raw).log_prob(x).sum(), 0.5 * F.mse_loss(raw.sigmoid(), x, reduction="sum")
    assert (nll - half_squared_error).item() == pytest.approx(x.numel() / 2 * math.log(2 * math.pi))
    torch.testing.assert_close(torch.autograd.grad(nll, raw), torch.autograd.grad(half_squared_error, raw))


def test_bernoulli_is_cross_entropy_with_gradient_prediction_minus_target():
    raw, x = images(4, 1, 5, 2)
    raw.requires_grad_()
    nll = -Bernoulli()(raw).log_prob(x).sum()
    torch.testing.assert_close(nll, F.binary_cross_entropy(raw.sigmoid(), x, reduction="sum"))
    (gradient,) = torch.autograd.grad(nll, raw)
    torch.testing.assert_close(gradient, torch.sigmoid(raw.detach()) - x)


def test_the_optimal_learned_sigma_is_the_root_mean_squared_error():
    raw, x = images(8, 1, 5, 2)
    rmse = (raw.sigmoid() - x).square().mean().sqrt().item()
    likelihood = Gaussian(rmse, learned=True)
    assert [name for name, _ in likelihood.named_parameters()] == ["tenth_log_sigma"]
    (gradient,) = torch.autograd.grad(likelihood(raw).log_prob(x).sum(), likelihood.tenth_log_sigma)
    assert gradient.item() == pytest.approx(0, abs=1e-9)
    assert not list(Gaussian(rmse).parameters())


def test_samples_have_the_right_mean_and_standard_deviation():
    """Within five standard errors of 40,000 samples, for each pixel."""
    n = 40_000
    raw = torch.tensor([-2.0, 0.0, 1.0]).view(1, 1, 1, 3).expand(n, -1, -1, -1)
    mean = torch.sigmoid(raw[:1])
    samples = Gaussian(0.3)(raw).sample(Draws(0))
    assert ((samples.mean(0) - mean).abs() < 5 * 0.3 / math.sqrt(n)).all()
    assert ((samples.std(0) / 0.3 - 1).abs() < 5 / math.sqrt(2 * n)).all()
    samples = Bernoulli()(raw).sample(Draws(0))
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    assert ((samples.mean(0) - mean).abs() < 5 * 0.5 / math.sqrt(n)).all()
    pixelwise = torch.cat([raw, torch.tensor([-3.0, 0.0, 1.0]).expand_as(raw)], dim=1)
    samples, sigma = GaussianPixelwise()(pixelwise).sample(Draws(0)), 0.01 + F.softplus(pixelwise[0, 1])
    assert ((samples.mean(0) - mean).abs() < 5 * sigma / math.sqrt(n)).all()
    assert ((samples.std(0) / sigma - 1).abs() < 5 / math.sqrt(2 * n)).all()


def test_laplace_samples_have_the_distribution_of_scipy():
    samples = Laplace(0.3)(torch.zeros(40_000, 1, 1, 1)).sample(Draws(0)).flatten()
    assert scipy.stats.kstest(samples, scipy.stats.laplace(0.5, 0.3).cdf).pvalue > 1e-3
    assert abs(samples.mean() - 0.5) < 5 * 0.3 * math.sqrt(2 / len(samples))


@pytest.mark.parametrize("logit", [0.0, 1e-4, -0.01, 0.3, -1.0, 5.0, -30.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_continuous_bernoulli_samples_have_the_right_distribution(logit, dtype):
    n = 40_000
    raw = torch.full((n, 1, 1, 1), logit, dtype=dtype)
    samples = ContinuousBernoulli()(raw).sample(Draws(0)).double().flatten()
    assert samples.min() >= 0 and samples.max() <= 1
    steepness, is_rising = max(abs(logit), 1e-9), logit > 0
    falling = scipy.stats.truncexpon(steepness, scale=1 / steepness)  # on [0, 1]
    assert scipy.stats.kstest(1 - samples if is_rising else samples, falling.cdf).pvalue > 1e-3
    mean = ContinuousBernoulli()(torch.tensor([[[[logit]]]])).mean.item()
    assert abs(samples.mean().item() - mean) < 5 * samples.std().item() / math.sqrt(n)


class ExtremeDraws(Draws):
    """The smallest and the largest possible uniform number."""

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([0.0, 1 - 2**-24], dtype=torch.float32).view(2, 1, 1, 1).expand(shape)


@pytest.mark.parametrize("logit", LOGITS)
def test_extreme_draws_give_finite_samples(logit):
    raw = torch.full((2, 1, 1, 1), logit, dtype=torch.float32)
    samples = ContinuousBernoulli()(raw).sample(ExtremeDraws(0))
    assert samples.min() >= 0 and samples.max() <= 1
    assert Laplace(mean_activation="identity")(raw).sample(ExtremeDraws(0)).isfinite().all()


def test_means():
    raw, _ = images(2, 1, 3, 3)
    for likelihood in (Bernoulli(), Gaussian(), Gaussian(0.2, learned=True)):
        torch.testing.assert_close(likelihood(raw).mean, torch.sigmoid(raw))
    assert torch.equal(Gaussian(mean_activation="identity")(raw).mean, raw)
    torch.testing.assert_close(Laplace()(raw).mean, torch.sigmoid(raw))
    assert torch.equal(Laplace(mean_activation="identity")(raw).mean, raw)


def test_measures():
    assert Bernoulli().measure(binary=True) == "mass"
    assert Bernoulli().measure(binary=False) == "unnormalised"
    for density in (Gaussian(), GaussianPixelwise(), Laplace(), ContinuousBernoulli()):
        assert {density.measure(binary) for binary in (True, False)} == {"density"}


def test_which_likelihoods_learn_a_sigma():
    assert Gaussian(learned=True).learned and GaussianPixelwise().learned
    assert not any(fixed.learned for fixed in (Bernoulli(), ContinuousBernoulli(), Gaussian(), Laplace()))


def test_a_bernoulli_of_grey_pixels_does_not_integrate_to_one():
    """This is why its measure for grey pixels is "unnormalised"."""
    grid = torch.linspace(0, 1, 1001)
    density = Bernoulli()(torch.full((1001, 1, 1, 1), 0.7)).log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() < 0.9


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("likelihood=bernoulli", "likelihood.mean_activation=identity"), "likelihood.mean_activation"),
        (("likelihood=continuous_bernoulli", "likelihood.mean_activation=identity"), "likelihood.mean_activation"),
        (("likelihood=gaussian", "likelihood.mean_activation=tanh"), "likelihood.mean_activation"),
        (("likelihood=gaussian", "likelihood.sigma=0"), "likelihood.sigma"),
        (("likelihood=gaussian_learned", "likelihood.sigma=-1"), "likelihood.sigma"),
        (("likelihood=gaussian_learned", "likelihood.sigma=0.001"), "must be above likelihood.sigma_floor=0.001"),
        (("likelihood=gaussian_pixelwise", "likelihood.sigma_floor=0"), "likelihood.sigma_floor"),
        (("likelihood=laplace", "likelihood.scale=0"), "likelihood.scale"),
    ],
)
def test_invalid_options_of_a_likelihood_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        build(job_of(*overrides).config, SHAPES, seed=0)


def test_the_two_gaussian_files():
    options = {name: job_of(f"likelihood={name}").config["likelihood"] for name in ("gaussian", "gaussian_learned")}
    assert not options["gaussian"]["learned"] and options["gaussian_learned"]["learned"]
    assert options["gaussian"]["sigma"] == 1


# --- contracts of every likelihood in conf/likelihood


def test_every_likelihood_has_a_file():
    """Several files may configure one class."""
    classes = {kind.__name__ for kind in Likelihood.__subclasses__() if kind.__module__ == Likelihood.__module__}
    assert set(TARGETS.values()) == classes


@every_likelihood
def test_a_file_has_exactly_the_options_of_its_likelihood(name):
    options = yaml.safe_load(FILES[name].read_text())
    assert set(options) - {"_target_"} == set(inspect.signature(type(likelihood_of(name))).parameters)


@every_likelihood
@pytest.mark.parametrize("image", [(1, 8, 8), (3, 5, 4), (1, 1, 2)])
def test_the_shapes_of_a_likelihoods_outputs(name, image):
    likelihood = likelihood_of(name)
    x = (images(7, *image)[1] > 0.5).double()
    raw = images(7, *likelihood.raw_shape(image))[0].requires_grad_()
    observation = likelihood(raw)
    assert observation.log_prob(x).shape == (7,) and observation.log_prob(x).isfinite().all()
    assert observation.mean.shape == observation.sample(Draws(0)).shape == (7, *image)
    assert torch.equal(observation.sample(Draws(0)), observation.sample(Draws(0)))
    assert not torch.equal(observation.sample(Draws(0)), observation.sample(Draws(1)))
    (gradient,) = torch.autograd.grad(observation.log_prob(x).sum(), raw)
    assert gradient.isfinite().all() and (gradient != 0).all()


@every_likelihood
def test_a_stacked_likelihood_equals_that_of_each_seed_alone(name):
    likelihood, image, seeds = likelihood_of(name), (3, 5, 4), [3, 1, 4]
    raw, (_, x) = images(3, 7, *likelihood.raw_shape(image))[0], images(3, 7, *image)
    raw[:, :2] = 0  # a likelihood may use a series or have a kink here

    def outputs(raw, x, seed):
        observation = likelihood(raw)
        return observation.log_prob(x), observation.mean, observation.sample(Draws(seed, "k"))

    raw.requires_grad_()
    stacked = vmap(outputs, randomness="error")(raw, x, torch.tensor(seeds))
    (gradient,) = torch.autograd.grad(stacked[0].sum(), raw)
    for k, seed in enumerate(seeds):
        alone = outputs(raw[k], x[k], seed)
        for expected, actual in zip(alone, stacked, strict=True):
            torch.testing.assert_close(actual[k], expected)
        torch.testing.assert_close(gradient[k], torch.autograd.grad(alone[0].sum(), raw)[0][k])
