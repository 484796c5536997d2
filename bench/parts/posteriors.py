"""q(z|x), the distributions that encoders return."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core import UnavailableError
from bench.draws import Draws


@dataclass(frozen=True)
class Deterministic:
    """A point mass at the code of a deterministic encoder. It has no density."""

    mean: Tensor

    def sample(self, draws: Draws) -> Tensor:
        return self.mean

    def log_prob(self, z: Tensor) -> Tensor:
        raise UnavailableError("the encoder is deterministic: q(z|x) has no density")


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z|x) = N(mean, diag(exp(log_variance))); both [B, latent_dim]."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, draws: Draws) -> Tensor:
        epsilon = draws.normal("epsilon", self.mean.shape)
        return self.mean + torch.exp(0.5 * self.log_variance) * epsilon

    def log_prob(self, z: Tensor) -> Tensor:
        squared = (z - self.mean) ** 2 * torch.exp(-self.log_variance)
        return -0.5 * (squared + self.log_variance + math.log(2 * math.pi)).sum(-1)


@dataclass(frozen=True)
class Universal:
    """The distribution of push(eta) with eta ~ N(0, I); a flexible push can give any (Makhzani et al. 2016, section 2).

    push: maps eta [B, noise_dim] to z [B, latent_dim]; like: a tensor with the shape of eta. Neither the mean nor the
    density has a closed form; `mean` is the code at eta = 0.
    """

    push: Callable[[Tensor], Tensor]
    like: Tensor

    @property
    def mean(self) -> Tensor:
        return self.push(torch.zeros_like(self.like))

    def sample(self, draws: Draws) -> Tensor:
        return self.push(draws.normal("eta", self.like.shape))

    def log_prob(self, z: Tensor) -> Tensor:
        raise UnavailableError("the encoder transforms noise by a network: q(z|x) has no density in closed form")
