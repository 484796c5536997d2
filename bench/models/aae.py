"""The adversarial autoencoder (Makhzani et al. 2016): a discriminator of codes in the place of the KL."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import Batch, Count, Level, Losses, Model, Observation, Phase, Player, Posterior, Shapes
from bench.divergences import NonSaturating, accuracy
from bench.draws import Draws
from bench.likelihoods import Likelihood
from bench.networks import Network
from bench.posteriors import Deterministic
from bench.priors import Prior


class AAE(Model):
    """Three players in turn: the autoencoder reconstructs, the discriminator tells codes from draws of the prior, and
    the generator, which is the encoder once more, makes its codes look like those draws."""

    players = (
        Player("autoencoder", ("encoder", "decoder", "likelihood")),
        Player("discriminator", ("discriminator",)),
        Player("generator", ("encoder",)),
    )
    phases = (Phase((("autoencoder",), ("discriminator",), ("generator",))),)

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        adversarial: NonSaturating,
        latent_dim: Count = 16,
        adversarial_weight: Level = 1.0,
    ):
        super().__init__()
        self.latent_dim, self.adversarial_weight = latent_dim, adversarial_weight
        self.encoder = network.encoder(shapes.image, latent_dim)
        self.decoder = network.decoder(latent_dim, shapes.image)
        self.discriminator = network.critic((latent_dim,))
        self.likelihood, self.prior, self.adversarial = likelihood, prior, adversarial

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        z = self.encode(batch).sample(draws)
        if turn == ("autoencoder",):
            return Losses({"autoencoder": -self.decode(z).log_prob(batch.x).mean()})
        if turn == ("generator",):
            judged = self.discriminator(z, draws)
            return Losses({"generator": self.adversarial_weight * self.adversarial.generator(judged.logit)})
        codes = torch.cat([self.prior.sample(z.shape, draws), z])
        real, fake = self.discriminator(codes, draws, copies=2).logit.chunk(2)
        cost = self.adversarial.discriminator(real, fake)
        return Losses({"discriminator": cost}, {"discriminator_accuracy": accuracy(real, fake)})

    def encode(self, batch: Batch) -> Posterior:
        return Deterministic(self.encoder(batch.x_noisy))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior.sample((n, self.latent_dim), draws)).mean
