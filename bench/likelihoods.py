"""p(x|z): raw decoder output in, an observation out. log_prob is in nats, summed over an image, constants included."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import InputError, Observation, Positive
from bench.draws import Draws

MeanActivation = Literal["sigmoid", "identity"]


def _mean(raw: Tensor, activation: MeanActivation) -> Tensor:
    return torch.sigmoid(raw) if activation == "sigmoid" else raw


@dataclass(frozen=True)
class BernoulliObservation:
    """Independent pixels, x = 1 with probability sigmoid(logits); logits: [B, C, H, W]."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(self.logits, x, reduction="none").flatten(1).sum(1)

    def sample(self, draws: Draws) -> Tensor:
        return (draws.uniform("pixels", self.logits.shape) < self.mean).to(self.logits.dtype)


@dataclass(frozen=True)
class GaussianObservation:
    """Independent pixels, N(mean, sigma^2); mean: [B, C, H, W], log_sigma: broadcastable to it."""

    mean: Tensor
    log_sigma: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        standardised = (x - self.mean) * torch.exp(-self.log_sigma)
        return -(0.5 * standardised**2 + self.log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def sample(self, draws: Draws) -> Tensor:
        return self.mean + torch.exp(self.log_sigma) * draws.normal("pixels", self.mean.shape)


class Likelihood(nn.Module, ABC):
    """Raw decoder output [B, C, H, W] in, an observation out."""

    @abstractmethod
    def forward(self, raw: Tensor) -> Observation: ...

    @abstractmethod
    def measure(self, binary: bool) -> str:
        """What log_prob is on binary or grey pixels: a "density", a "mass", or "unnormalised"."""


class Bernoulli(Likelihood):
    """Cross-entropy. A mass on binary pixels; on grey pixels it is not normalised, and no number of it is a density."""

    def __init__(self, mean_activation: MeanActivation = "sigmoid"):
        super().__init__()
        if mean_activation != "sigmoid":
            raise InputError("likelihood.mean_activation must be sigmoid for a Bernoulli: its mean is a probability")

    def forward(self, raw: Tensor) -> Observation:
        return BernoulliObservation(raw)

    def measure(self, binary: bool) -> str:
        return "mass" if binary else "unnormalised"


class Gaussian(Likelihood):
    """sigma = 1 is half the squared error plus a constant. learned: one sigma for all pixels, which starts at sigma.

    What is learned is log(sigma) / 10: optimizers move a parameter by about their rate a step, and from 1 to 0.1 would
    else be thousands of steps.
    """

    log_sigma: Tensor

    def __init__(self, sigma: Positive = 1.0, learned: bool = False, mean_activation: MeanActivation = "sigmoid"):
        super().__init__()
        self.mean_activation: MeanActivation = mean_activation
        self.learned = learned
        log_sigma = torch.tensor(math.log(sigma))
        if learned:
            self.tenth_log_sigma = nn.Parameter(log_sigma / 10)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def forward(self, raw: Tensor) -> Observation:
        log_sigma = 10 * self.tenth_log_sigma if self.learned else self.log_sigma
        return GaussianObservation(_mean(raw, self.mean_activation), log_sigma)

    def measure(self, binary: bool) -> str:
        return "density"
