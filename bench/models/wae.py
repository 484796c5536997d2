"""The Wasserstein autoencoder (Tolstikhin et al. 2018): an AAE with an MMD penalty instead of an adversary."""

from __future__ import annotations

from torch import Tensor

from bench.core import Count, Losses, Model, Observation, Posterior, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.divergences import mmd
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Network
from bench.parts.posteriors import Deterministic
from bench.parts.priors import Prior


class WAE(Model):
    """min E[-log p(x | z)] + weight * MMD^2(q(z), p(z)), z = encoder(x), with q(z) the codes of a batch (equation 4).

    The paper's reconstruction cost is the squared error. -log p(x|z) of a Gaussian with sigma = 1 is half of it, so the
    same trade-off needs half the paper's weight.
    """

    unused_settings = ("network.dropout",)

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        latent_dim: Count = 16,
        weight: Weight = 10.0,
    ):
        super().__init__()
        self.latent_dim, self.weight = latent_dim, weight
        self.encoder = network.encoder(shapes.input, latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw_shape(shapes.x))
        self.likelihood, self.prior = likelihood, prior.checked(latent_dim)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        z = self.encode(batch).sample(draws)
        reconstruction = -self.decode(z).log_prob(batch.x).mean()
        discrepancy = mmd(z, self.prior_codes(len(z), draws))
        loss = reconstruction + weight_at(self.weight, batch) * discrepancy
        return Losses({"model": loss}, {"reconstruction": reconstruction, "mmd": discrepancy})

    def encode(self, batch: Batch) -> Posterior:
        return Deterministic(self.encoder(batch.input))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws)).mean
