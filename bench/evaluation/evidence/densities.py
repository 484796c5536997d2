"""Evidence on log p(x) of test images: estimates of the integral over z."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.core import Observation, UnavailableError
from bench.data import Batch
from bench.draws import Draws
from bench.evaluation.annealing import (
    Annealed,
    Joint,
    Point,
    anneal,
    anneal_back,
    at,
    pilot_temperatures,
    transition,
    tune,
)
from bench.evaluation.evidence.answers import Answers
from bench.evaluation.evidence.decorator import evidence
from bench.evaluation.progress import Progress, no_progress
from bench.evaluation.settings import EvaluationSettings
from bench.metrics.likelihood import log_mean_exp
from bench.parts.likelihoods import GaussianObservation

Observe = Callable[[Tensor, Batch], Observation]


AIS = ("ais_images", "ais_chains", "ais_temperatures", "ais_sigma")  # the settings of annealing
PIXELS_AT_ONCE = 1_500_000  # of all chains that move together; memory and rounding depend on it
SIMULATED = 5  # one image is simulated for the error bar for every so many test images

# The sigma of a Gaussian is fitted to validation images by expectation maximisation, with persistent Markov chains.
SIGMA_IMAGES, SIGMA_CHAINS, SIGMA_ROUNDS, SIGMA_MOVES = 20, 4, 20, 5
SIGMA_START, SIGMA_FLOOR = 0.2, 0.001


class Importance(NamedTuple):
    """Importance sampling with draws of q(z|x): log mean weight, [n] nats, and the effective number of draws, [n]."""

    log_mean_weight: Tensor
    effective_samples: Tensor


class Annealing(NamedTuple):
    """log_weight: [n, chains] nats; acceptance: [n]. gap: [m], upper minus lower bound on log p of simulated images.

    sigma: that of the Gaussian likelihood, if it replaces the model's own.
    """

    log_weight: Tensor
    acceptance: Tensor
    gap: Tensor
    sigma: float | None


def _repeated(batch: Batch, chains: int) -> Batch:
    """Each example `chains` times."""
    return batch.map(lambda part: part.repeat_interleave(chains, 0))


class Densities:
    """log p(x) of the first test images in their random order.

    settings: those for the device, see `EvaluationSettings.on`.
    """

    def __init__(self, answers: Answers, settings: EvaluationSettings, progress: Progress = no_progress):
        self._answers, self._images, self._model = answers, answers.images, answers.model
        self._settings, self._progress = settings, progress

    @evidence()
    def log2_levels(self) -> float:
        """The bits of a pixel's grey level: 0 for binary pixels, log2 of the number of levels for dequantised ones."""
        data, likelihood = self._images.data, self._likelihood
        binary = data.binarize != "none"
        measure = likelihood.measure(binary) if likelihood else "density"
        if measure != ("mass" if binary else "density"):
            raise UnavailableError(
                f"bits of {'binary' if binary else 'grey'} pixels need a {'mass' if binary else 'density'}, but this "
                f"likelihood is {'not normalised' if measure == 'unnormalised' else f'a {measure}'}"
            )
        if not (binary or data.dequantize):
            raise UnavailableError("a density of grey levels has no bits: set dataset.dequantize=true")
        return 0.0 if binary else math.log2(data.grey_levels)

    @evidence(sized_by=("iw_images",))
    def probed_x(self) -> Tensor:
        """The test images whose density is estimated, [iw_images, C, H, W]."""
        return self._first(self._settings.iw_images).x

    @evidence(asks=("encode", "posterior", "decode", "likelihood"), sized_by=("iw_images", "iw_samples"), cached=True)
    def importance(self) -> Importance:
        """With `iw_samples` draws from q(z|x), one at a time, so that memory does not grow with their number."""
        self._check_normalised()
        prior, k = self._prior(), self._settings.iw_samples

        def log_sums(batch: Batch, draws: Draws) -> Tensor:
            q = self._model.encode(batch)
            log_sum = log_sum_of_squares = torch.full(batch.x.shape[:1], -math.inf, dtype=torch.float64)
            for i in self._progress(range(k), "importance sampling"):
                z = q.sample(draws.within(str(i)))
                log_px = self._model.decode(z, batch).log_prob(batch.x)
                log_weight = (log_px + prior.log_prob(z) - q.log_prob(z)).double().cpu()
                log_sum = torch.logaddexp(log_sum, log_weight)
                log_sum_of_squares = torch.logaddexp(log_sum_of_squares, 2 * log_weight)
            return torch.stack([log_sum, log_sum_of_squares], 1)

        sums = self._answers.each(log_sums, "importance", self._first(self._settings.iw_images)).unbind(1)
        return Importance(sums[0] - math.log(k), (2 * sums[0] - sums[1]).exp())

    @evidence(asks=("decode", "likelihood", "prior"), sized_by=AIS, cached=True)
    def annealed(self) -> Annealing:
        """Under the model's own likelihood. A GAN has none, and uses the Gaussian of `annealed_shared`."""
        if self._likelihood is None:
            return self.annealed_shared
        self._check_normalised()
        return self._anneal(self._model.decode, "annealed", None)

    @evidence(asks=("decode", "prior"), sized_by=AIS, cached=True)
    def annealed_shared(self) -> Annealing:
        """Under a Gaussian around the decoder's mean, with `ais_sigma` or the sigma fitted to validation images."""
        sigma = self._settings.ais_sigma or self._validation_sigma
        return self._anneal(self._gaussian(sigma), "annealed_shared", sigma)

    # --- how it is computed

    @property
    def _likelihood(self) -> Any:
        return getattr(self._model, "likelihood", None)

    def _prior(self) -> Any:
        prior: Any = getattr(self._model, "prior", None)
        if prior is None:
            raise UnavailableError(f"{type(self._model).__name__} has no prior")
        return prior

    def _check_normalised(self) -> None:
        binary = self._images.data.binarize != "none"
        if self._likelihood and self._likelihood.measure(binary) == "unnormalised":
            raise UnavailableError(
                "a Bernoulli on grey pixels is not normalised: set dataset.binarize, or choose another likelihood"
            )

    def _gaussian(self, sigma: float) -> Observe:
        """p(x|z) as a Gaussian of this sigma around the decoder's mean."""

        def observe(z: Tensor, batch: Batch) -> Observation:
            return GaussianObservation(self._model.decode(z, batch).mean, torch.tensor(math.log(sigma)))

        return observe

    def _first(self, n: int, split: str = "test") -> Batch:
        """The first n examples of a split in its random order."""
        return self._images.select(split, self._images.order(split)[:n])

    def _prior_codes(self, n: int, chains: int, draws: Draws) -> Tensor:
        """[n, chains, D]."""
        return torch.stack([self._model.prior_codes(n, draws.within(f"prior_{c}")) for c in range(chains)], 1)

    def _joint(self, observe: Observe, batch: Batch, chains: int) -> Joint:
        prior = self._prior()
        repeated = _repeated(batch, chains)

        def log_prior(z: Tensor) -> Tensor:
            return prior.log_prob(z.flatten(0, 1)).unflatten(0, z.shape[:2])

        def log_likelihood(z: Tensor) -> Tensor:
            return observe(z.flatten(0, 1), repeated).log_prob(repeated.x).unflatten(0, z.shape[:2])

        return Joint(log_prior, log_likelihood)

    def _anneal(self, observe: Observe, name: str, sigma: float | None) -> Annealing:
        settings = self._settings
        assert settings.ais_images and settings.ais_chains and settings.ais_temperatures, "see EvaluationSettings.on"
        chains, count = settings.ais_chains, settings.ais_temperatures
        at_once = max(1, PIXELS_AT_ONCE // (chains * self._images.x[0].numel()))

        def shown(description: str) -> Callable[[Iterable[int]], Iterable[int]]:
            return lambda steps: self._progress(steps, f"{name}: {description}")

        def pilot(joint: Joint, n: int, draws: Draws, images: str) -> Tensor:
            draws, progress = draws.within("pilot"), shown(f"{images}, step sizes")
            return tune(joint, self._prior_codes(n, chains, draws), pilot_temperatures(count), draws, progress)[0]

        def forwards(joint: Joint, n: int, steps: Tensor, draws: Draws, images: str) -> Annealed:
            draws = draws.within("forwards")
            return anneal(joint, self._prior_codes(n, chains, draws), count, steps, draws, shown(images))

        def real(batch: Batch, draws: Draws) -> Tensor:
            joint, n, images = self._joint(observe, batch, chains), len(batch.x), "test images"
            found = forwards(joint, n, pilot(joint, n, draws, images), draws, images)
            return torch.cat([found.log_weight, found.acceptance[:, None]], 1)

        def simulated(batch: Batch, draws: Draws) -> Tensor:
            """The gap for images made from known codes, [n]: these codes are exact draws of the posterior."""
            n, images = len(batch.x), "simulated images"
            z = self._model.prior_codes(n, draws.within("code"))
            x = observe(z, batch).sample(draws.within("image"))
            joint = self._joint(observe, batch._replace(x=x, input=x), chains)
            steps = pilot(joint, n, draws, images)
            lower = log_mean_exp(forwards(joint, n, steps, draws, images).log_weight)
            start = z[:, None].expand(-1, chains, -1).contiguous()
            back = anneal_back(joint, start, count, steps, draws.within("back"), shown(f"{images}, backwards"))
            return -log_mean_exp(-back.log_weight) - lower

        probed = self._first(settings.ais_images)
        first = probed.rows(slice(max(1, len(probed.x) // SIMULATED)))
        found = self._answers.each(real, name, probed, at_once)
        gap = self._answers.each(simulated, f"{name} simulated", first, at_once)
        return Annealing(found[:, :-1], found[:, -1], gap, sigma)

    @cached_property
    def _validation_sigma(self) -> float:
        """The maximum likelihood sigma on validation images, by SIGMA_ROUNDS of expectation maximisation."""
        draws = Draws(self._answers.seed, "evaluate", "validation_sigma", device=self._answers.device)
        batch = self._first(SIGMA_IMAGES, "validation").to(self._answers.device)
        chains, sigma = SIGMA_CHAINS, SIGMA_START
        z = self._prior_codes(len(batch.x), chains, draws)
        joint = self._joint(self._gaussian(sigma), batch, chains)
        steps, z = tune(joint, z, pilot_temperatures(0), draws.within("pilot"))
        step, posterior = steps[-1], torch.ones((), device=z.device)
        repeated = _repeated(batch, chains)
        for i in range(SIGMA_ROUNDS):
            mean = self._model.decode(z.flatten(0, 1), repeated).mean
            before, sigma = sigma, max((repeated.x - mean).square().mean().sqrt().item(), SIGMA_FLOOR)
            step = step * sigma / before
            joint = self._joint(self._gaussian(sigma), batch, chains)
            point: Point = at(joint, z)
            for j in range(SIGMA_MOVES):
                point, _ = transition(joint, point, posterior, step, draws.within(f"{i}_{j}"))
            z = point.z
        return sigma
