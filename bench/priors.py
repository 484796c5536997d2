"""p(z): what codes are drawn from, and the divergence of a posterior from it."""

from __future__ import annotations

import math

from torch import Tensor, nn

from bench.core import Posterior
from bench.draws import Draws
from bench.posteriors import DiagonalGaussian


class Normal(nn.Module):
    """N(0, I)."""

    def sample(self, shape: tuple[int, int], draws: Draws) -> Tensor:
        """Codes [n, latent_dim]."""
        return draws.normal("prior", shape)

    def log_prob(self, z: Tensor) -> Tensor:
        """[B] nats for z [B, latent_dim]."""
        return -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)

    def kl(self, q: Posterior, z: Tensor) -> Tensor:
        """KL(q || p), [B] nats: in closed form for a Gaussian q (Kingma & Welling 2014, appendix B), else at z ~ q."""
        if isinstance(q, DiagonalGaussian):
            return 0.5 * (q.mean**2 + q.log_variance.exp() - q.log_variance - 1).sum(-1)
        return q.log_prob(z) - self.log_prob(z)
