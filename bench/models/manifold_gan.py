"""A GAN on the manifold of a VAE: the codes of a trained VAE condition the generator of a GAN.

Generalises StackGAN (Zhang, Xu et al. 2017): the first stage is a VAE, and the second adds detail to what the code
describes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import (
    Count,
    Level,
    Losses,
    Model,
    NonNegativeInt,
    Observation,
    Phase,
    Player,
    Posterior,
    Weight,
    weight_at,
)
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import CriticOutput, Network, concatenate
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import Prior


class ManifoldGAN(Model):
    """Two phases: maximise the ELBO, then freeze the VAE and train a GAN on pairs (image, z), z ~ q(z|x).

    The discriminator distinguishes real pairs (x, z) from generated pairs (G(z, n), z) and from mismatched pairs (x, z
    of another image), which force G to use z (Reed et al. 2016, algorithm 1). The loss of G also has the term l1_weight
    E|G(z, n) - x|, a mean over pixels. Codes, reconstructions and likelihoods are those of the VAE; samples are G(z, n)
    with z ~ p(z).
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
        beta: Weight = 1.0,
        adversarial_weight: Weight = 1.0,
        l1_weight: Weight = 10.0,
        vae_share: Level = 1.0,
    ):
        super().__init__()
        self.latent_dim, self.noise_dim, self.beta = latent_dim, noise_dim, beta
        self.adversarial_weight, self.l1_weight = adversarial_weight, l1_weight
        self.encoder = network.encoder(shapes.input, 2 * latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw_shape(shapes.x))
        self.generator = network.decoder(latent_dim + noise_dim, shapes.x)
        self.discriminator = network.critic(shapes.x, condition=latent_dim)
        self.likelihood, self.prior = likelihood, prior.checked(latent_dim, needs_kl=True)
        self.adversarial = adversarial
        self.phases = (Phase((("vae",),), vae_share), Phase(adversarial.turns))

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        q = self.encode(batch)
        z = q.sample(draws)
        if turn == ("vae",):
            log_px, kl = self.decode(z).log_prob(batch.x).mean(), self.prior.kl(q, z).mean()
            return Losses({"vae": weight_at(self.beta, batch) * kl - log_px}, {"reconstruction": -log_px, "kl": kl})
        generated = self.generate(z, draws)
        codes = torch.cat([z, z, z.roll(1, 0)])  # of real, of generated and of mismatched pairs

        def critic(x: Tensor, draws: Draws, *, copies: int) -> CriticOutput:
            return self.discriminator(x, draws, codes[: len(x)], copies)

        fake, weight = torch.cat([generated, batch.x]), weight_at(self.adversarial_weight, batch)
        losses = self.adversarial.losses(turn, critic, batch.x, fake, draws, batch.step, weight)
        if turn == ("discriminator",):
            return losses
        l1 = (generated - batch.x).abs().mean()
        generator = losses.players["generator"] + weight_at(self.l1_weight, batch) * l1
        return losses._replace(players={"generator": generator}, log={"l1": l1})

    def generate(self, z: Tensor, draws: Draws) -> Tensor:
        """Images [B, C, H, W] that the second stage generates from codes."""
        noise = draws.normal("detail", (len(z), self.noise_dim)) if self.noise_dim else None
        return torch.sigmoid(self.generator(concatenate(z, noise)))

    def encode(self, batch: Batch) -> Posterior:
        return DiagonalGaussian(*self.encoder(batch.input).chunk(2, dim=1))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.generate(self.prior_codes(n, draws), draws)
