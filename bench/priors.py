"""p(z): what codes are drawn from, and the divergence of a posterior from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor, nn

from bench.core import Posterior
from bench.draws import Draws
from bench.posteriors import DiagonalGaussian


class Prior(nn.Module, ABC):
    """Codes are [n, latent_dim]; log_prob and kl are [n] nats."""

    @abstractmethod
    def sample(self, shape: tuple[int, ...], draws: Draws) -> Tensor:
        """Codes of the given shape."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor: ...

    def kl(self, q: Posterior, z: Tensor) -> Tensor:
        """KL(q || p), estimated at one z ~ q."""
        return q.log_prob(z) - self.log_prob(z)


class Normal(Prior):
    """N(0, I)."""

    def sample(self, shape: tuple[int, ...], draws: Draws) -> Tensor:
        return draws.normal("prior", shape)

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)

    def kl(self, q: Posterior, z: Tensor) -> Tensor:
        """In closed form for a Gaussian q (Kingma & Welling 2014, appendix B)."""
        if isinstance(q, DiagonalGaussian):
            return 0.5 * (q.mean**2 + q.log_variance.exp() - q.log_variance - 1).sum(-1)
        return super().kl(q, z)
