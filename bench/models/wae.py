"""The Wasserstein autoencoder with a maximum mean discrepancy (Tolstikhin et al. 2018): an AAE without an adversary."""

from __future__ import annotations

from torch import Tensor

from bench.core import Count, Level, Losses, Model, Observation, Posterior
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.divergences import mmd
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Network
from bench.parts.posteriors import Deterministic
from bench.parts.priors import Prior


class WAE(Model):
    """min E[-log p(x | z)] + weight * MMD^2(q(z), p(z)), z = encoder(x), q(z) being the codes of a batch (eq. 4).

    The paper's cost is the squared error; that of a Gaussian with sigma = 1 is half of it, and then half the weight is
    the paper's.
    """

    unused_settings = ("network.dropout",)

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        latent_dim: Count = 16,
        weight: Level = 10.0,
    ):
        super().__init__()
        self.latent_dim, self.weight = latent_dim, weight
        self.encoder = network.encoder(shapes.image, latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw(shapes.image))
        self.likelihood, self.prior = likelihood, prior.checked(latent_dim)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        z = self.encode(batch).sample(draws)
        reconstruction = -self.decode(z).log_prob(batch.x).mean()
        discrepancy = mmd(z, self.prior_codes(len(z), draws))
        loss = reconstruction + self.weight * discrepancy
        return Losses({"model": loss}, {"reconstruction": reconstruction, "mmd": discrepancy})

    def encode(self, batch: Batch) -> Posterior:
        return Deterministic(self.encoder(batch.input))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws)).mean
