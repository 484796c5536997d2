"""How probable is an image under the model? In nats per image, all constants included."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import Value, metric, summarise

PARZEN_SIGMAS = torch.logspace(-2, 0, 21)  # candidates, compared on validation images
AT_FLOOR = 0.001  # share of pixels with sigma at its floor, from which on a note says so
LEGACY = "a legacy metric, which may rank models wrongly (Wu et al. 2017)"


def _with_floor_note(values: Tensor, sigma_at_floor: Tensor) -> Value:
    """The mean of values [N], with a note if the floor of a learned sigma decides them."""
    share = sigma_at_floor.mean().item()
    note = f"the learned sigma is at its floor in {share:.1%} of the pixels, so the floor decides the density"
    return replace(summarise(values), note=note if share >= AT_FLOOR else None)


def log_mean_exp(log_weight: Tensor) -> Tensor:
    """The logarithm of the mean of k exponentials, [n, k] -> [n]; on the CPU, since not every device has float64."""
    return log_weight.cpu().double().logsumexp(1) - math.log(log_weight.shape[1])


def effective_samples(log_weight: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 over each image's chains, [n, chains] -> [n], between 1 and the number of chains."""
    log_weight = log_weight.cpu().double()
    return (2 * log_weight.logsumexp(1) - (2 * log_weight).logsumexp(1)).exp()


@metric(better="higher", unit="nats")
def elbo(log_likelihood: Tensor, divergence: Tensor, sigma_at_floor: Tensor) -> Value:
    """log p(x|z) - KL(q(z|x) || p(z)), [N], z ~ q(z|x): at most log p(x) in expectation (Kingma & Welling 2014, eq. 3).

    With beta = 1, whatever beta the model was trained with.
    """
    return _with_floor_note(log_likelihood - divergence, sigma_at_floor)


@metric(better=None, unit="nats")
def kl(divergence: Tensor) -> Tensor:
    """KL(q(z|x) || p(z)), [N]. No direction is better: at 0 the code says nothing about the image."""
    return divergence


@metric(better="lower", unit="nats")
def reconstruction_nll(log_likelihood: Tensor, sigma_at_floor: Tensor) -> Value:
    """-log p(x|z), [N], z ~ q(z|x)."""
    return _with_floor_note(-log_likelihood, sigma_at_floor)


@metric(better=None, ideal=0.0, unit="nats")
def squared_error_gap(log_likelihood_at_mean: Tensor, x: Tensor, x_mean: Tensor) -> Tensor:
    """The absolute difference between -log p(x|z), z the posterior mean, and |x - mean|^2 / 2 + d/2 log 2 pi, [N].

    d: pixels times channels. 0 except for rounding if the likelihood is a Gaussian of sigma = 1.
    """
    squared = (x.double() - x_mean.double()).square().flatten(1).sum(1)
    expected = 0.5 * squared + 0.5 * x[0].numel() * math.log(2 * math.pi)
    return (-log_likelihood_at_mean.double() - expected).abs()


@metric(better=None, ideal=0.0, unit="nats")
def cross_entropy_gap(log_likelihood_at_mean: Tensor, x: Tensor, x_mean: Tensor) -> Tensor:
    """The absolute difference between -log p(x|z), z the posterior mean, and the cross-entropy of x and x_mean, [N].

    0 except for rounding if the likelihood is a Bernoulli. Logarithms are at least -100, as in torch's
    binary_cross_entropy. n/a if a mean is outside [0, 1].
    """
    if ((x_mean < 0) | (x_mean > 1)).any():
        raise UnavailableError("some means are outside [0, 1], where the cross-entropy is not defined")
    x, mean = x.double(), x_mean.double()
    log_yes, log_no = mean.log().clamp(min=-100), (-mean).log1p().clamp(min=-100)
    expected = -(x * log_yes + (1 - x) * log_no).flatten(1).sum(1)
    return (-log_likelihood_at_mean.double() - expected).abs()


@metric(better="lower", unit="bits")
def bits_per_dim(
    log_likelihood: Tensor, divergence: Tensor, sigma_at_floor: Tensor, x: Tensor, log2_levels: float
) -> Value:
    """Bits per pixel and channel that the ELBO promises for lossless coding, [N] (Theis et al. 2016, section 3.1).

    -ELBO / (dimensions ln 2) + log2(grey levels), since a level of dequantised pixels in [0, 1] is 1 / levels wide.
    """
    bits = (divergence - log_likelihood) / (math.log(2) * x[0].numel()) + log2_levels
    return _with_floor_note(bits, sigma_at_floor)


@metric(better="higher", unit="nats")
def log_likelihood_iw(importance: Any, sigma_at_floor: Tensor) -> Value:
    """log 1/k sum_i p(x, z_i) / q(z_i|x), z_i ~ q(z|x), [n]: at most log p(x) in expectation, and tighter for larger k.

    Importance sampling (Burda et al. 2016, equation 8), k = iw_samples.
    """
    details = {"effective_samples": importance.effective_samples.mean().item()}
    return replace(_with_floor_note(importance.log_mean_weight, sigma_at_floor), details=details)


def _annealed(annealing: Any) -> Value:
    details: dict[str, float | str] = {
        "acceptance": annealing.acceptance.mean().item(),
        "effective_chains": effective_samples(annealing.log_weight).mean().item(),
    }
    note = None
    if annealing.sigma is not None:
        details["sigma"] = annealing.sigma
        note = "under a Gaussian around the decoder's mean"
    return replace(summarise(log_mean_exp(annealing.log_weight)), details=details, note=note)


@metric(better="higher", unit="nats")
def log_likelihood_ais(annealed: Any) -> Value:
    """log p(x) under the model's own likelihood, by annealed importance sampling, [n] (Wu et al. 2017).

    At most log p(x) in expectation; `bdmc_gap` is its error bar. It needs no encoder.
    """
    return _annealed(annealed)


@metric(better="higher", unit="nats")
def log_likelihood_ais_shared(annealed_shared: Any) -> Value:
    """`log_likelihood_ais` with the same kind of Gaussian likelihood for all models, so that decoders compare, [n].

    Its sigma is ais_sigma, or the maximum likelihood estimate on validation images for each model.
    """
    return _annealed(annealed_shared)


@metric(better=None, ideal=0.0, unit="nats")
def bdmc_gap(annealed: Any) -> Tensor:
    """How far `log_likelihood_ais` may be below log p(x), on simulated images that also have an upper bound, [m].

    Bidirectional Monte Carlo (Grosse et al. 2015): upper minus lower bound, both by annealing.
    """
    return annealed.gap


@metric(better=None, ideal=0.0, unit="nats")
def bdmc_gap_shared(annealed_shared: Any) -> Tensor:
    """`bdmc_gap` of `log_likelihood_ais_shared`."""
    return annealed_shared.gap


@metric(better=None, unit="nats")
def ais_minus_iw(annealed: Any, importance: Any) -> Tensor:
    """`log_likelihood_ais` minus `log_likelihood_iw` of the same images, [n]: the loss due to the encoder.

    Below 0 if annealing is the looser of the two bounds.
    """
    n = min(len(annealed.log_weight), len(importance.log_mean_weight))
    return log_mean_exp(annealed.log_weight[:n]) - importance.log_mean_weight[:n]


@metric(better="higher", unit="nats")
def parzen(samples: Tensor, probed_x: Tensor, validation_x: Tensor) -> Value:
    """log density of test images under a Gaussian kernel density estimate of samples, [n] (Goodfellow et al. 2014).

    sigma is the one of PARZEN_SIGMAS with the highest density on validation images.
    """
    centres = samples.flatten(1).double()

    def log_densities(x: Tensor, sigmas: Tensor) -> Tensor:
        """[sigmas, n]."""
        d = x[0].numel()
        parts = []
        for part in x.flatten(1).split(500):
            squared = torch.cdist(part.double(), centres).square()
            kernels = [(-squared / (2 * s * s)).logsumexp(1) - d * torch.log(s) for s in sigmas.double()]
            parts.append(torch.stack(kernels) - math.log(len(samples)) - 0.5 * d * math.log(2 * math.pi))
        return torch.cat(parts, 1)

    held_out = validation_x[: len(probed_x)]
    sigma = PARZEN_SIGMAS[log_densities(held_out, PARZEN_SIGMAS).mean(1).argmax()]
    values = log_densities(probed_x, sigma[None])[0]
    return replace(summarise(values), note=LEGACY, details={"sigma": sigma.item()})
