"""Autoencoders: a code and its decoding. Fed noisy inputs with clean targets, denoising ones (Vincent et al. 2010)."""

from __future__ import annotations

from torch import Tensor

from bench.core import Batch, Count, Losses, Model, Observation, Posterior, Shapes, UnavailableError
from bench.draws import Draws
from bench.likelihoods import Likelihood
from bench.networks import Network
from bench.posteriors import Deterministic


class Autoencoder(Model):
    """min E[-log p(x | z)], z = encoder(x~): for a fixed Gaussian the squared error, for a Bernoulli cross-entropy."""

    def __init__(self, shapes: Shapes, network: Network, likelihood: Likelihood, latent_dim: Count = 16):
        super().__init__()
        self.encoder = network.encoder(shapes.image, latent_dim)
        self.decoder = network.decoder(latent_dim, shapes.image)
        self.likelihood = likelihood

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        z = self.encode(batch).sample(draws)
        reconstruction = -self.decode(z).log_prob(batch.x).mean()
        return Losses({"model": reconstruction})

    def encode(self, batch: Batch) -> Posterior:
        return Deterministic(self.encoder(batch.x_noisy))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        raise UnavailableError("an autoencoder has no prior to draw codes from")
