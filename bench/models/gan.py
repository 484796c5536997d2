"""The generative adversarial network (Goodfellow et al. 2014): a generator of images from prior samples, no encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import Count, Losses, Model, Observation, Phase, Player, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.likelihoods import PointObservation
from bench.parts.networks import Network
from bench.parts.priors import Prior


class GAN(Model):
    """Two players: the discriminator distinguishes images from G(z), z ~ p(z), and G tries to deceive it.

    The output of G is a sigmoid, so there is no likelihood.
    """

    players = (Player("discriminator", ("discriminator",)), Player("generator", ("generator",)))
    reads_noise = False

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        prior: Prior,
        adversarial: Adversarial,
        latent_dim: Count = 16,
        adversarial_weight: Weight = 1.0,
    ):
        super().__init__()
        self.latent_dim, self.adversarial_weight = latent_dim, adversarial_weight
        self.generator = network.decoder(latent_dim, shapes.x)
        self.discriminator = network.critic(shapes.x)
        self.prior, self.adversarial = prior.checked(latent_dim), adversarial
        self.phases = (Phase(adversarial.turns),)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        generated = self.sample(len(batch.x), draws)
        weight = weight_at(self.adversarial_weight, batch)
        return self.adversarial.losses(turn, self.discriminator, batch.x, generated, draws, batch.step, weight)

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return PointObservation(torch.sigmoid(self.generator(z)))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws)).mean

    def critic_features(self, x: Tensor, draws: Draws) -> Tensor:
        return self.discriminator.pooled_features(x, draws)
