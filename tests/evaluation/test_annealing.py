"""Annealed importance sampling where log p(x) is known: linear-Gaussian decoders, and a one-dimensional integral."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from bench.draws import Draws, RowDraws
from bench.evaluation.annealing import (
    ACCEPTANCE,
    Joint,
    anneal,
    anneal_back,
    at,
    pilot_temperatures,
    temperatures,
    transition,
    tune,
)
from bench.metrics.likelihood import effective_samples, log_mean_exp


def log_normal(z):
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)


class Linear:
    """x = W z + sigma epsilon: n images of 30 pixels from the codes z; evidence and posterior in closed form."""

    def __init__(self, latents: int, sigma: float, n: int):
        draws = Draws(0, "linear")
        basis = torch.linalg.qr(draws.normal("w", (30, latents))).Q
        self.w, self.sigma = basis * torch.linspace(1, 2, latents), sigma
        self.z = draws.normal("z", (n, latents))
        self.x = self.z @ self.w.T + sigma * draws.normal("x", (n, 30))
        covariance = self.w @ self.w.T + sigma**2 * torch.eye(30)
        self.exact = MultivariateNormal(torch.zeros(30).double(), covariance.double()).log_prob(self.x.double())
        self.joint = self.joint_of(slice(n))

    def joint_of(self, rows: slice) -> Joint:
        def log_likelihood(z):
            error = (self.x[rows, None] - z @ self.w.T) / self.sigma
            return -(0.5 * error**2 + math.log(self.sigma * math.sqrt(2 * math.pi))).sum(-1)

        return Joint(log_normal, log_likelihood)

    def posterior(self, beta: float):
        """Means [n, D] and variances [D] of p(z) p(x|z)^beta; the columns of w are orthogonal."""
        precision = 1 + beta * self.w.square().sum(0) / self.sigma**2
        return beta * self.x @ self.w / self.sigma**2 / precision, 1 / precision


def prior_codes(n: int, chains: int, latents: int, name: str = "start"):
    return Draws(0, name).normal("z", (n, chains, latents))


def bounds(problem: Linear, chains: int, count: int):
    """A lower and an upper bound on log p(x), [n] each, and the result of the forward annealing."""
    n, latents = problem.z.shape
    steps, _ = tune(problem.joint, prior_codes(n, chains, latents, "p"), pilot_temperatures(count), Draws(0, "tune"))
    forward = anneal(problem.joint, prior_codes(n, chains, latents), count, steps, Draws(0, "up"))
    codes = problem.z[:, None].expand(-1, chains, -1)
    backward = anneal_back(problem.joint, codes, count, steps, Draws(0, "down"))
    return log_mean_exp(forward.log_weight), -log_mean_exp(-backward.log_weight), forward


def test_both_bounds_are_within_a_twentieth_of_a_nat_for_ten_latents():
    """Many chains cost less than many temperatures, since all chains move at once."""
    problem = Linear(latents=10, sigma=0.5, n=12)
    lower, upper, annealed = bounds(problem, chains=32, count=1000)
    assert abs((lower - problem.exact).mean()) < 0.05 and abs((upper - problem.exact).mean()) < 0.05
    assert (annealed.acceptance - ACCEPTANCE).abs().max() < 0.2


def test_the_gap_between_the_bounds_exceeds_the_error():
    """With few temperatures both bounds are loose, and the gap between them bounds the error."""
    problem = Linear(latents=10, sigma=0.3, n=40)
    gaps = []
    for count in (10, 50, 250):
        lower, upper, _ = bounds(problem, chains=4, count=count)
        error = (lower - problem.exact).mean()
        assert error < 0 < (upper - problem.exact).mean()
        gaps.append((upper - lower).mean().item())
        assert -error < gaps[-1]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


def test_weights_are_unbiased_in_both_directions():
    """The mean weight of very many chains is p(x), or 1 / p(x) from the posterior, however few temperatures."""
    problem, chains, count = Linear(latents=2, sigma=1.5, n=1), 100_000, 4
    steps = torch.full((count, 1), 0.3)
    up = anneal(problem.joint, prior_codes(1, chains, 2), count, steps, Draws(0, "up")).log_weight
    mean, variance = problem.posterior(1.0)
    exact_draws = mean[:, None] + variance.sqrt() * prior_codes(1, chains, 2, "posterior")
    down = -anneal_back(problem.joint, exact_draws, count, steps, Draws(0, "down")).log_weight
    for log_weight, expected in ((up, problem.exact), (down, -problem.exact)):
        ratio = (log_weight[0].double() - expected).exp()
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / chains**0.5 < 0.05


@pytest.mark.parametrize(("beta", "step"), [(0.1, 1.0), (1.0, 0.5)])
def test_a_transition_leaves_its_density_invariant(beta, step):
    problem, chains = Linear(latents=3, sigma=0.7, n=2), 20_000
    mean, variance = problem.posterior(beta)
    point = at(problem.joint, mean[:, None] + variance.sqrt() * prior_codes(2, chains, 3))
    first = point.z
    for i in range(5):
        # The steps are so long that many are rejected: the density stays only if the acceptance rule is right.
        point, probability = transition(problem.joint, point, torch.tensor(beta), torch.full((2,), step), Draws(0, i))
    assert 0.3 < probability.mean() < 0.9 and (point.z != first).all(-1).float().mean() > 0.9
    deviation = (point.z - mean[:, None]) / variance.sqrt()
    assert deviation.mean(1).abs().max() < 4.5 / chains**0.5
    assert (deviation.square().mean(1) - 1).abs().max() < 4.5 * (2 / chains) ** 0.5


def test_chains_stay_inside_a_prior_of_bounded_support():
    """z uniform in [-1, 1], x|z ~ N(z, 0.3^2): p(x) is a difference of normal distribution functions."""
    x = torch.tensor([0.0, 0.9, 1.5])
    log_prior = lambda z: torch.where(z.abs() <= 1, math.log(0.5), -math.inf).squeeze(-1)  # noqa: E731

    def log_likelihood(z):
        return (-0.5 * ((x[:, None] - z.squeeze(-1)) / 0.3) ** 2) - math.log(0.3 * math.sqrt(2 * math.pi))

    joint, count = Joint(log_prior, log_likelihood), 200
    z = lambda name: 2 * Draws(0, name).uniform("z", (3, 500, 1)) - 1  # noqa: E731
    steps, last = tune(joint, z("p"), count, Draws(0, "tune"))
    assert last.abs().max() <= 1
    estimate = log_mean_exp(anneal(joint, z("q"), count, steps, Draws(0, "up")).log_weight)
    normal = torch.distributions.Normal(x.double(), 0.3)
    exact = ((normal.cdf(torch.tensor(1.0)) - normal.cdf(torch.tensor(-1.0))) / 2).log()
    torch.testing.assert_close(estimate, exact, atol=0.04, rtol=0)  # 500 chains


def test_the_batch_of_an_image_does_not_change_its_weight():
    problem = Linear(latents=4, sigma=0.5, n=6)

    def log_weights(rows: slice):
        def draws(name):
            return RowDraws(0, name, rows=rows, total=6, device=torch.device("cpu"))

        n = len(range(6)[rows])
        joint, shape = problem.joint_of(rows), (n, 3, 4)
        steps, _ = tune(joint, draws("a").normal("z", shape), 20, draws("tune"))
        return anneal(joint, draws("b").normal("z", shape), 100, steps, draws("up")).log_weight

    whole = log_weights(slice(0, 6))
    parts = torch.cat([log_weights(slice(0, 1)), log_weights(slice(1, 4)), log_weights(slice(4, 6))])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-3)


def test_temperatures_rise_from_the_prior_to_the_posterior():
    beta = temperatures(1000)
    assert beta[0] == 0 and beta[-1] == 1 and (beta.diff() > 0).all()
    assert beta.diff()[0] < beta.diff()[500] / 10  # dense at the ends


def test_log_mean_exp_and_effective_samples():
    weights = torch.tensor([[1.0, 2.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0], [1.0, 1e-30, 1e-30, 1e-30]])
    huge = weights.log() + 1000  # their exponentials overflow
    torch.testing.assert_close(log_mean_exp(huge), weights.double().mean(1).log() + 1000, rtol=1e-7, atol=0)
    torch.testing.assert_close(effective_samples(huge), torch.tensor([64 / 18, 4, 1]).double(), rtol=1e-4, atol=0)
