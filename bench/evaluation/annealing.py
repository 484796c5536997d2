"""log p(x) of any decoder whose prior can be drawn from: annealed importance sampling (Neal 2001; Wu et al. 2017).

Codes are [n, chains, D]: for each of n images so many chains, which move at once. All of it is float32 and in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from bench.draws import Draws

LEAPFROGS = 10  # steps of a trajectory
ACCEPTANCE = 0.65  # that step sizes are tuned to
FIRST_STEP = 0.5
JITTER = 0.4  # a trajectory's step is within so much of the tuned one, by chance: else some return to where they began
TUNING_RATE = 0.1  # by which the logarithm of a step follows a surplus of acceptance
PILOT = 5  # the pilot run has one temperature for so many of the main run, at least PILOT_TEMPERATURES
PILOT_TEMPERATURES = 200
STEEP = 4.0  # temperatures are spaced as a sigmoid from -STEEP to STEEP

Watch = Callable[[Iterable[int]], Iterable[int]]


class Joint(NamedTuple):
    """log p(z) and log p(x|z) of n images: functions of codes [n, chains, D], [n, chains] nats."""

    log_prior: Callable[[Tensor], Tensor]
    log_likelihood: Callable[[Tensor], Tensor]


class Point(NamedTuple):
    """Codes, and both terms of the density there with their gradients."""

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
        # Nothing flows back where a term is constant in z, as a uniform prior's is.
        slopes = [
            torch.autograd.grad(term.sum(), z)[0] if term.requires_grad else torch.zeros_like(z)
            for term in (log_prior, log_likelihood)
        ]
    return Point(z.detach(), log_prior.detach(), log_likelihood.detach(), *slopes)


def transition(joint: Joint, start: Point, beta: Tensor, step: Tensor, draws: Draws) -> tuple[Point, Tensor]:
    """One trajectory of Hamiltonian Monte Carlo (Neal 2011, section 5.3) that leaves p(z) p(x|z)^beta as it is.

    step: [n]. Returns where the chains are now, and the probabilities of acceptance [n, chains].
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
    # What left the support of the prior or overflowed is nan or -inf, and not accepted.
    probability = (gained + kinetic).clamp(max=0).exp().nan_to_num(0.0)
    accepted = draws.uniform("accept", probability.shape) < probability
    moved = (torch.where(accepted[..., None] if new.ndim == 3 else accepted, new, old)
             for new, old in zip(point, start, strict=True))  # fmt: skip
    return Point(*moved), probability


def temperatures(count: int) -> Tensor:
    """[count + 1] from 0, the prior, to 1, the posterior: a sigmoid, dense at both ends (Wu et al. 2017, section 4)."""
    rising = torch.sigmoid(STEEP * torch.linspace(-1, 1, count + 1, dtype=torch.float64))
    return ((rising - rising[0]) / (rising[-1] - rising[0])).float()


def tune(joint: Joint, z: Tensor, count: int, draws: Draws, watch: Watch = iter) -> tuple[Tensor, Tensor]:
    """A pilot run from the prior's z to the posterior: step sizes [count, n] for ACCEPTANCE, and the codes at its end.

    The main run then moves by steps that do not depend on its own draws, which keeps its weights unbiased.
    """
    beta, point = temperatures(count).to(z.device), at(joint, z)
    steps = [torch.full(z.shape[:1], FIRST_STEP, device=z.device)]
    for t in watch(range(1, count + 1)):
        point, probability = transition(joint, point, beta[t], steps[-1], draws.within(str(t)))
        steps.append(steps[-1] * (TUNING_RATE * (probability.mean(1) - ACCEPTANCE)).exp())
    return torch.stack(steps[1:]), point.z


def pilot_temperatures(count: int) -> int:
    return max(count // PILOT, PILOT_TEMPERATURES)


class Annealed(NamedTuple):
    """log_weight: [n, chains] nats, whose exponential is p(x) in expectation; acceptance: its mean rate, [n]."""

    log_weight: Tensor
    acceptance: Tensor


def anneal(joint: Joint, z: Tensor, count: int, steps: Tensor, draws: Draws, watch: Watch = iter) -> Annealed:
    """From draws of the prior through `count` temperatures to the posterior: log-mean-exp of weights <= log p(x)."""
    beta, point = temperatures(count).to(z.device), at(joint, z)
    log_weight, acceptance = torch.zeros_like(point.log_prior), torch.zeros_like(point.log_prior)
    for t in watch(range(1, count + 1)):
        log_weight += (beta[t] - beta[t - 1]) * point.log_likelihood
        if t < count:  # a last one, at the posterior itself, would change no weight
            point, probability = transition(joint, point, beta[t], _step(steps, t, count), draws.within(str(t)))
            acceptance += probability
    return Annealed(log_weight, _rate(acceptance, count))


def anneal_back(joint: Joint, z: Tensor, count: int, steps: Tensor, draws: Draws, watch: Watch = iter) -> Annealed:
    """From draws of the posterior down to the prior; -log-mean-exp of the negated weights >= log p(x).

    Exact draws of a posterior are those that simulated images were made from (Grosse et al. 2015, section 3.1).
    """
    beta, point = temperatures(count).to(z.device), at(joint, z)
    log_weight, acceptance = torch.zeros_like(point.log_prior), torch.zeros_like(point.log_prior)
    for t in watch(range(count, 0, -1)):
        if t < count:
            point, probability = transition(joint, point, beta[t], _step(steps, t, count), draws.within(str(t)))
            acceptance += probability
        log_weight += (beta[t] - beta[t - 1]) * point.log_likelihood
    return Annealed(log_weight, _rate(acceptance, count))


def _rate(accepted: Tensor, count: int) -> Tensor:
    """The mean probability of acceptance, [n], of the count - 1 transitions; nan where there were none."""
    return accepted.mean(1) / (count - 1) if count > 1 else torch.full_like(accepted[:, 0], torch.nan)


def _step(steps: Tensor, t: int, count: int) -> Tensor:
    """[n]: of the pilot's temperature that is nearest to the t-th of count."""
    return steps[min(len(steps) * t // count, len(steps) - 1)]
