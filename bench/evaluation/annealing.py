"""Annealed importance sampling of log p(x), for any decoder and a prior with draws (Neal 2001; Wu et al. 2017).

Codes are [n, chains, D]: several chains for each of n images, which all move together. In float32 and nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from bench.draws import Draws

LEAPFROGS = 10  # steps of a trajectory
ACCEPTANCE = 0.65  # target for the step sizes
FIRST_STEP = 0.5
JITTER = 0.4  # relative random change of a trajectory's step size: without it some trajectories return to their start
TUNING_RATE = 0.1  # change of a step's logarithm per surplus of acceptance
PILOT = 5  # the main run has so many temperatures for each of the pilot run's, which are at least PILOT_TEMPERATURES
PILOT_TEMPERATURES = 200
STEEP = 4.0  # temperatures are spaced as a sigmoid from -STEEP to STEEP

Progress = Callable[[Iterable[int]], Iterable[int]]  # yields the steps and shows how many are done


class Joint(NamedTuple):
    """log p(z) and log p(x|z) of n images: functions of codes [n, chains, D], [n, chains] nats."""

    log_prior: Callable[[Tensor], Tensor]
    log_likelihood: Callable[[Tensor], Tensor]


class Point(NamedTuple):
    """Codes, with both terms of the log density there and their gradients."""

    z: Tensor
    log_prior: Tensor
    log_likelihood: Tensor
    prior_slope: Tensor
    likelihood_slope: Tensor

    def log_density(self, beta: Tensor) -> Tensor:
        return self.log_prior + beta * self.log_likelihood

    def slope(self, beta: Tensor) -> Tensor:
        return self.prior_slope + beta * self.likelihood_slope


def at(joint: Joint, z: Tensor) -> Point:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        log_prior, log_likelihood = joint.log_prior(z), joint.log_likelihood(z)
        # A term that is constant in z, like a uniform prior's, has no gradient.
        slopes = [
            torch.autograd.grad(term.sum(), z)[0] if term.requires_grad else torch.zeros_like(z)
            for term in (log_prior, log_likelihood)
        ]
    return Point(z.detach(), log_prior.detach(), log_likelihood.detach(), *slopes)


def transition(joint: Joint, start: Point, beta: Tensor, step: Tensor, draws: Draws) -> tuple[Point, Tensor]:
    """One trajectory of Hamiltonian Monte Carlo (Neal 2011, section 5.3) that leaves p(z) p(x|z)^beta invariant.

    step: [n]. Returns the new points of the chains and the acceptance probabilities, [n, chains].
    """
    jitter = 1 + JITTER * (2 * draws.uniform("jitter", start.log_prior.shape) - 1)
    step = (step[:, None] * jitter)[..., None]
    first = draws.normal("momentum", start.z.shape)
    momentum, point = first + 0.5 * step * start.slope(beta), start
    for i in range(LEAPFROGS):
        point = at(joint, point.z + step * momentum)
        momentum = momentum + (step if i < LEAPFROGS - 1 else 0.5 * step) * point.slope(beta)
    gained = point.log_density(beta) - start.log_density(beta)
    kinetic = 0.5 * (first.square() - momentum.square()).sum(-1)
    # A point outside the support of the prior, or an overflow, gives nan or -inf and is rejected.
    probability = (gained + kinetic).clamp(max=0).exp().nan_to_num(0.0)
    accepted = draws.uniform("accept", probability.shape) < probability
    moved = (torch.where(accepted[..., None] if new.ndim == 3 else accepted, new, old)
             for new, old in zip(point, start, strict=True))  # fmt: skip
    return Point(*moved), probability


def temperatures(count: int) -> Tensor:
    """[count + 1] from 0, the prior, to 1, the posterior: a sigmoid, dense at both ends (Wu et al. 2017, section 4)."""
    rising = torch.sigmoid(STEEP * torch.linspace(-1, 1, count + 1, dtype=torch.float64))
    return ((rising - rising[0]) / (rising[-1] - rising[0])).float()


def tune(joint: Joint, z: Tensor, count: int, draws: Draws, progress: Progress = iter) -> tuple[Tensor, Tensor]:
    """A pilot run from the prior's z to the posterior: step sizes [count, n] for ACCEPTANCE, and the final codes.

    The main run's step sizes then do not depend on its own draws, so its weights are unbiased.
    """
    beta, point = temperatures(count).to(z.device), at(joint, z)
    steps = [torch.full(z.shape[:1], FIRST_STEP, device=z.device)]
    for t in progress(range(1, count + 1)):
        point, probability = transition(joint, point, beta[t], steps[-1], draws.within(str(t)))
        steps.append(steps[-1] * (TUNING_RATE * (probability.mean(1) - ACCEPTANCE)).exp())
    return torch.stack(steps[1:]), point.z


def pilot_temperatures(count: int) -> int:
    return max(count // PILOT, PILOT_TEMPERATURES)


class Annealed(NamedTuple):
    """log_weight: [n, chains] nats, whose exponential is p(x) in expectation; acceptance: its mean rate, [n]."""

    log_weight: Tensor
    acceptance: Tensor


def anneal(joint: Joint, z: Tensor, count: int, steps: Tensor, draws: Draws, progress: Progress = iter) -> Annealed:
    """From draws of the prior through `count` temperatures to the posterior; log-mean-exp of weights <= log p(x)."""
    beta, point = temperatures(count).to(z.device), at(joint, z)
    log_weight, acceptance = torch.zeros_like(point.log_prior), torch.zeros_like(point.log_prior)
    for t in progress(range(1, count + 1)):
        log_weight += (beta[t] - beta[t - 1]) * point.log_likelihood
        if t < count:  # a transition at the posterior itself would change no weight
            point, probability = transition(joint, point, beta[t], _step(steps, t, count), draws.within(str(t)))
            acceptance += probability
    return Annealed(log_weight, _rate(acceptance, count))


def anneal_back(
    joint: Joint, z: Tensor, count: int, steps: Tensor, draws: Draws, progress: Progress = iter
) -> Annealed:
    """From draws of the posterior back to the prior; -log-mean-exp of the negated weights >= log p(x).

    The codes that simulated images are made from are exact draws of the posterior (Grosse et al. 2015, section 3.1).
    """
    beta, point = temperatures(count).to(z.device), at(joint, z)
    log_weight, acceptance = torch.zeros_like(point.log_prior), torch.zeros_like(point.log_prior)
    for t in progress(range(count, 0, -1)):
        if t < count:
            point, probability = transition(joint, point, beta[t], _step(steps, t, count), draws.within(str(t)))
            acceptance += probability
        log_weight += (beta[t] - beta[t - 1]) * point.log_likelihood
    return Annealed(log_weight, _rate(acceptance, count))


def _rate(accepted: Tensor, count: int) -> Tensor:
    """The mean acceptance probability of the count - 1 transitions, [n]; nan if there are none."""
    return accepted.mean(1) / (count - 1) if count > 1 else torch.full_like(accepted[:, 0], torch.nan)


def _step(steps: Tensor, t: int, count: int) -> Tensor:
    """The step size at the pilot's temperature that corresponds to the t-th of count, [n]."""
    return steps[min(len(steps) * t // count, len(steps) - 1)]
