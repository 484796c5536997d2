"""The generative adversarial network (Goodfellow et al. 2014): a decoder of prior draws, and no encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import Batch, Count, Losses, Model, Phase, Player, Shapes
from bench.divergences import NonSaturating, accuracy
from bench.draws import Draws
from bench.networks import Network
from bench.priors import Prior


class GAN(Model):
    """min over G of what the best discriminator makes of G(z), z ~ p(z). The output is a sigmoid: no likelihood."""

    players = (Player("discriminator", ("discriminator",)), Player("generator", ("generator",)))
    phases = (Phase((("discriminator",), ("generator",))),)
    reads_noise = False

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        prior: Prior,
        adversarial: NonSaturating,
        latent_dim: Count = 16,
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self.generator = network.decoder(latent_dim, shapes.image)
        self.discriminator = network.critic(shapes.image)
        self.prior, self.adversarial = prior, adversarial

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        generated = self.sample(len(batch.x), draws)
        if turn == ("generator",):
            logit = self.discriminator(generated, draws).logit
            return Losses({"generator": self.adversarial.generator(logit)})
        images = torch.cat([batch.x, generated])
        real, fake = self.discriminator(images, draws, copies=2).logit.chunk(2)
        cost = self.adversarial.discriminator(real, fake)
        return Losses({"discriminator": cost}, {"discriminator_accuracy": accuracy(real, fake)})

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return torch.sigmoid(self.generator(self.prior.sample((n, self.latent_dim), draws)))
