"""The importance weighted autoencoder (Burda et al. 2016): a VAE with a tighter bound on log p(x)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.core import Count, Losses, Model, Observation, Posterior
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Network
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import Prior


class IWAE(Model):
    """max E[log 1/k sum_i p(x, z_i) / q(z_i|x)], z_1 ... z_k ~ q(z|x) (equation 8); the ELBO at k = 1.

    This is not the mean of k ELBOs: the sum is inside the logarithm. The weights stay in log space.
    """

    unused_settings = ("network.dropout",)

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        latent_dim: Count = 16,
        samples: Count = 5,
    ):
        super().__init__()
        self.latent_dim, self.samples = latent_dim, samples
        self.encoder = network.encoder(shapes.input, 2 * latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw_shape(shapes.x))
        self.likelihood, self.prior = likelihood, prior.checked(latent_dim, needs_kl=True)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        q = self.encode(batch)
        z = [q.sample(draws.within(f"sample_{i}")) for i in range(self.samples)]
        # One decoder pass for all k samples, [k B, ...].
        x = batch.x.repeat(self.samples, *[1] * (batch.x.ndim - 1))
        log_px = self.decode(torch.cat(z)).log_prob(x).view(self.samples, -1)
        log_weight = log_px + torch.stack([self.prior.log_prob(z_i) - q.log_prob(z_i) for z_i in z])
        bound = (log_weight.logsumexp(0) - math.log(self.samples)).mean()
        return Losses({"model": -bound}, {"reconstruction": -log_px.mean(), "elbo": log_weight.mean()})

    def encode(self, batch: Batch) -> Posterior:
        return DiagonalGaussian(*self.encoder(batch.input).chunk(2, dim=1))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws)).mean
