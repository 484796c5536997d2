"""VAE and GAN, the first way: the manifold that a VAE has learned conditions the generator of a GAN.

As in StackGAN (Zhang et al. 2017), in general form: stage one is a VAE, stage two draws in detail what a code names.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import Count, Level, Losses, Model, Observation, Phase, Player, Posterior, NonNegativeInt
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Judgement, Network, beside
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import Prior


class ManifoldGAN(Model):
    """Two phases. First max ELBO; then, the VAE frozen, a GAN of pairs (image, z), z ~ q(z|x).

    The discriminator tells real pairs (x, z) from generated ones (G(z, n), z) and from mismatched ones (x, z of another
    image), which is what makes G heed z (Reed et al. 2016, algorithm 1). G also pays l1_weight E|G(z, n) - x|, the mean
    over pixels. Codes, reconstructions and likelihoods are those of the VAE; samples are G's, of z ~ p(z).
    """

    players = (
        Player("vae", ("encoder", "decoder", "likelihood")),
        Player("discriminator", ("discriminator",)),
        Player("generator", ("generator",)),
    )
    notes = {"decode": "of its first stage, a VAE"}

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        adversarial: Adversarial,
        latent_dim: Count = 16,
        noise_dim: NonNegativeInt = 16,
        beta: Level = 1.0,
        adversarial_weight: Level = 1.0,
        l1_weight: Level = 10.0,
        vae_share: Level = 1.0,
    ):
        super().__init__()
        self.latent_dim, self.noise_dim, self.beta = latent_dim, noise_dim, beta
        self.adversarial_weight, self.l1_weight = adversarial_weight, l1_weight
        self.encoder = network.encoder(shapes.image, 2 * latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw(shapes.image))
        self.generator = network.decoder(latent_dim + noise_dim, shapes.image)
        self.discriminator = network.critic(shapes.image, condition=latent_dim)
        self.likelihood, self.prior = likelihood, prior.checked(latent_dim, density=True)
        self.adversarial = adversarial
        self.phases = (Phase((("vae",),), vae_share), Phase(adversarial.turns))

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        q = self.encode(batch)
        z = q.sample(draws)
        if turn == ("vae",):
            log_px, kl = self.decode(z).log_prob(batch.x).mean(), self.prior.kl(q, z).mean()
            return Losses({"vae": self.beta * kl - log_px}, {"reconstruction": -log_px, "kl": kl})
        generated = self.generate(z, draws)
        codes = torch.cat([z, z, z.roll(1, 0)])  # of real images, of generated ones, and of mismatched real ones

        def judge(x: Tensor, draws: Draws, *, copies: int) -> Judgement:
            return self.discriminator(x, draws, codes[: len(x)], copies)

        fakes, weight = torch.cat([generated, batch.x]), self.adversarial_weight
        losses = self.adversarial.turn(turn, judge, batch.x, fakes, draws, batch.step, weight)
        if turn == ("discriminator",):
            return losses
        l1 = (generated - batch.x).abs().mean()
        return losses._replace(players={"generator": losses.players["generator"] + self.l1_weight * l1}, log={"l1": l1})

    def generate(self, z: Tensor, draws: Draws) -> Tensor:
        """Images [B, C, H, W] of the codes, by the second stage."""
        noise = draws.normal("detail", (len(z), self.noise_dim)) if self.noise_dim else None
        return torch.sigmoid(self.generator(beside(z, noise)))

    def encode(self, batch: Batch) -> Posterior:
        return DiagonalGaussian(*self.encoder(batch.input).chunk(2, dim=1))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.generate(self.prior_codes(n, draws), draws)
