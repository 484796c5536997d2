"""Densities that integrate to one, constants included; gradients that are those of MSE and cross-entropy."""

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
    """Raw decoder outputs and images in [0, 1]."""
    draws = Draws(0)
    return draws.normal("raw", shape), draws.uniform("x", shape)


def made(name: str) -> Likelihood:
    """The likelihood of a file in conf, built as a run builds it."""
    return build(job_of("model=vae", f"likelihood={name}").config, SHAPES, seed=0).likelihood


def gauss_legendre(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Points [200, 1, 1, 1] in [0, 1] and their weights: exact to rounding for e^(l x), |l| up to 100."""
    points, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(200))
    return (0.5 * (points + 1)).to(dtype).view(-1, 1, 1, 1), 0.5 * weights


def continuous_bernoulli(logit: float, dtype: torch.dtype = torch.float64):
    """The observation of 200 one-pixel images."""
    return ContinuousBernoulli()(torch.full((200, 1, 1, 1), logit, dtype=dtype))


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


@pytest.mark.parametrize("scale", [0.1, 1.0])
@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_a_laplace_pixel_integrates_to_one(scale, activation):
    """The trapezoidal rule over 30 scales either way, with the kink on a point of the grid."""
    observation = Laplace(scale, mean_activation=activation)(torch.tensor([[[[0.7]]]]))
    grid = observation.mean.item() + scale * torch.linspace(-30, 30, 60_001)
    density = observation.log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("raw_sigma", [-200.0, -1.0, 0.0, 2.0])
def test_a_pixel_with_its_own_sigma_integrates_to_one(raw_sigma):
    observation = GaussianPixelwise()(torch.tensor([0.7, raw_sigma]).view(1, 2, 1, 1))
    grid = observation.mean.item() + (0.01 + math.log1p(math.exp(raw_sigma))) * torch.linspace(-12, 12, 2001)
    density = observation.log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_continuous_bernoulli_pixel_integrates_to_one_and_has_its_mean(logit, dtype, tolerance):
    """In float32 the two terms of 50 whose difference a log density is, for a logit of 100, are rounded by 4e-6."""
    x, weights = gauss_legendre(dtype)
    observation = continuous_bernoulli(logit, dtype)
    density = observation.log_prob(x).double().exp()
    assert (weights @ density).item() == pytest.approx(1, abs=tolerance)
    assert observation.mean.dtype == dtype
    assert observation.mean[0].item() == pytest.approx((weights @ (x.flatten() * density)).item(), abs=tolerance)


@pytest.mark.parametrize("logit", [0.2, 0.24, 0.26, 1.0, -3.0])
def test_a_continuous_bernoulli_is_the_papers_formula(logit):
    """In lambda, away from where it cancels (Loaiza-Ganem & Cunningham 2019)."""
    p = 1 / (1 + math.exp(-logit))
    constant = 2 * math.atanh(1 - 2 * p) / (1 - 2 * p)
    log_p = math.log(constant) + 0.3 * math.log(p) + 0.7 * math.log(1 - p)
    mean = p / (2 * p - 1) + 1 / (2 * math.atanh(1 - 2 * p))
    observation = continuous_bernoulli(logit)
    assert observation.log_prob(torch.full((200, 1, 1, 1), 0.3))[0].item() == pytest.approx(log_p, abs=1e-10)
    assert observation.mean[0].item() == pytest.approx(mean, abs=1e-10)


def test_a_continuous_bernoulli_does_not_show_where_its_series_ends():
    """Value, gradient and mean on either side, 2e-12 apart."""
    for switch in (0.25, -0.25):
        logits = torch.tensor([switch - 1e-12, switch + 1e-12]).view(2, 1, 1, 1).requires_grad_()
        observation = ContinuousBernoulli()(logits)
        log_p = observation.log_prob(torch.full((2, 1, 1, 1), 0.9))
        (gradient,) = torch.autograd.grad(log_p.sum(), logits)
        for pair in (log_p, gradient.flatten(), observation.mean.flatten()):
            assert abs(pair[0] - pair[1]).item() < 1e-9


def test_a_continuous_bernoullis_gradients():
    """At 0, around the switch and far out: x minus the mean, finite differences, and finite in float32 too."""
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

    coarse = logits.detach().float().requires_grad_()
    (coarse_gradient,) = torch.autograd.grad(ContinuousBernoulli()(coarse).log_prob(x.float()).sum(), coarse)
    assert coarse_gradient.dtype == torch.float32
    torch.testing.assert_close(coarse_gradient.double(), gradient, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_prob(coarse).double(), log_prob(logits), atol=1e-5, rtol=0)
    far = torch.tensor([1e20, -1e20], dtype=torch.float32).view(2, 1, 1, 1).requires_grad_()
    observation = ContinuousBernoulli()(far)
    loss = observation.log_prob(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)).sum() + observation.mean.sum()
    assert torch.autograd.grad(loss, far)[0].isfinite().all()


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
    laplace = torch.from_numpy(scipy.stats.laplace.logpdf(x, mean, 0.3)).sum((1, 2, 3))
    torch.testing.assert_close(Laplace(0.3)(raw).log_prob(x), laplace)


@pytest.mark.parametrize("activation", ["sigmoid", "identity"])
def test_a_sigma_a_pixel_is_scipys_and_never_below_its_floor(activation):
    raw, _ = images(4, 6, 5, 2)
    raw[:, 3:] *= 300  # so far down that softplus is 0
    x = images(4, 3, 5, 2)[1]
    likelihood = GaussianPixelwise(0.05, mean_activation=activation)
    assert likelihood.raw((3, 5, 2)) == (6, 5, 2)
    assert not list(likelihood.parameters())
    observation = likelihood(raw)
    sigma = observation.log_sigma.exp()
    assert sigma.min().item() == pytest.approx(0.05) and sigma.max() > 100
    torch.testing.assert_close(sigma, 0.05 + F.softplus(raw[:, 3:]))
    mean = raw[:, :3].sigmoid() if activation == "sigmoid" else raw[:, :3]
    torch.testing.assert_close(observation.mean, mean)
    expected = torch.from_numpy(scipy.stats.norm.logpdf(x, mean, sigma)).sum((1, 2, 3))
    torch.testing.assert_close(observation.log_prob(x), expected)


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
    own = torch.cat([raw, torch.tensor([-3.0, 0.0, 1.0]).expand_as(raw)], dim=1)
    drawn, sigma = GaussianPixelwise()(own).sample(Draws(0)), 0.01 + F.softplus(own[0, 1])
    assert ((drawn.mean(0) - mean).abs() < 5 * sigma / math.sqrt(n)).all()
    assert ((drawn.std(0) / sigma - 1).abs() < 5 / math.sqrt(2 * n)).all()


def test_laplace_samples_are_scipys():
    drawn = Laplace(0.3)(torch.zeros(40_000, 1, 1, 1)).sample(Draws(0)).flatten()
    assert scipy.stats.kstest(drawn, scipy.stats.laplace(0.5, 0.3).cdf).pvalue > 1e-3
    assert abs(drawn.mean() - 0.5) < 5 * 0.3 * math.sqrt(2 / len(drawn))


@pytest.mark.parametrize("logit", [0.0, 1e-4, -0.01, 0.3, -1.0, 5.0, -30.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_continuous_bernoulli_samples_have_their_distribution(logit, dtype):
    n = 40_000
    raw = torch.full((n, 1, 1, 1), logit, dtype=dtype)
    drawn = ContinuousBernoulli()(raw).sample(Draws(0)).double().flatten()
    assert drawn.min() >= 0 and drawn.max() <= 1
    steep, rising = max(abs(logit), 1e-9), logit > 0
    ends = scipy.stats.truncexpon(steep, scale=1 / steep)  # the falling one on [0, 1]
    assert scipy.stats.kstest(1 - drawn if rising else drawn, ends.cdf).pvalue > 1e-3
    mean = ContinuousBernoulli()(torch.tensor([[[[logit]]]])).mean.item()
    assert abs(drawn.mean().item() - mean) < 5 * drawn.std().item() / math.sqrt(n)


class AtTheEnd(Draws):
    """Uniform numbers that are the least or the greatest there are."""

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([0.0, 1 - 2**-24], dtype=torch.float32).view(2, 1, 1, 1).expand(shape)


@pytest.mark.parametrize("logit", LOGITS)
def test_the_rarest_draws_are_finite_samples(logit):
    raw = torch.full((2, 1, 1, 1), logit, dtype=torch.float32)
    drawn = ContinuousBernoulli()(raw).sample(AtTheEnd(0))
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert Laplace(mean_activation="identity")(raw).sample(AtTheEnd(0)).isfinite().all()


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


def test_which_have_a_sigma_to_learn():
    assert Gaussian(learned=True).learned and GaussianPixelwise().learned
    assert not any(fixed.learned for fixed in (Bernoulli(), ContinuousBernoulli(), Gaussian(), Laplace()))


def test_a_bernoullis_grey_pixels_do_not_integrate_to_one():
    """Why its measure on grey pixels is "unnormalised"."""
    grid = torch.linspace(0, 1, 1001)
    density = Bernoulli()(torch.full((1001, 1, 1, 1), 0.7)).log_prob(grid.view(-1, 1, 1, 1)).exp()
    assert torch.trapezoid(density, grid).item() < 0.9


@pytest.mark.parametrize(
    ("overrides", "said"),
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
def test_a_bad_likelihood_is_refused(overrides, said):
    with pytest.raises(InputError, match=said):
        build(job_of(*overrides).config, SHAPES, seed=0)


def test_what_the_configuration_offers():
    built = {name: job_of(f"likelihood={name}").config["likelihood"] for name in ("gaussian", "gaussian_learned")}
    assert not built["gaussian"]["learned"] and built["gaussian_learned"]["learned"]
    assert built["gaussian"]["sigma"] == 1


# --- contracts of every likelihood found in conf/likelihood


def test_every_likelihood_has_a_file():
    """A class of ours, and the files of those that are one class with other values."""
    ours = {kind.__name__ for kind in Likelihood.__subclasses__() if kind.__module__ == Likelihood.__module__}
    assert set(TARGETS.values()) == ours


@every_likelihood
def test_a_file_offers_every_option_of_its_likelihood_and_no_other(name):
    written = yaml.safe_load(FILES[name].read_text())
    assert set(written) - {"_target_"} == set(inspect.signature(type(made(name))).parameters)


@every_likelihood
@pytest.mark.parametrize("image", [(1, 8, 8), (3, 5, 4), (1, 1, 2)])
def test_a_likelihood_answers_in_the_shapes_it_promises(name, image):
    likelihood = made(name)
    x = (images(7, *image)[1] > 0.5).double()
    raw = images(7, *likelihood.raw(image))[0].requires_grad_()
    observation = likelihood(raw)
    assert observation.log_prob(x).shape == (7,) and observation.log_prob(x).isfinite().all()
    assert observation.mean.shape == observation.sample(Draws(0)).shape == (7, *image)
    assert torch.equal(observation.sample(Draws(0)), observation.sample(Draws(0)))
    assert not torch.equal(observation.sample(Draws(0)), observation.sample(Draws(1)))
    (gradient,) = torch.autograd.grad(observation.log_prob(x).sum(), raw)
    assert gradient.isfinite().all() and (gradient != 0).all()


@every_likelihood
def test_a_likelihood_answers_stacked_as_alone(name):
    likelihood, image, seeds = made(name), (3, 5, 4), [3, 1, 4]
    raw, (_, x) = images(3, 7, *likelihood.raw(image))[0], images(3, 7, *image)
    raw[:, :2] = 0  # where a series or a kink may be

    def answers(raw, x, seed):
        observation = likelihood(raw)
        return observation.log_prob(x), observation.mean, observation.sample(Draws(seed, "k"))

    raw.requires_grad_()
    stacked = vmap(answers, randomness="error")(raw, x, torch.tensor(seeds))
    (gradient,) = torch.autograd.grad(stacked[0].sum(), raw)
    for k, seed in enumerate(seeds):
        alone = answers(raw[k], x[k], seed)
        for one, many in zip(alone, stacked, strict=True):
            torch.testing.assert_close(many[k], one)
        torch.testing.assert_close(gradient[k], torch.autograd.grad(alone[0].sum(), raw)[0][k])
