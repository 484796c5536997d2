"""VAE/GAN (Larsen et al. 2016): a VAE whose reconstruction is measured in the features of a GAN's discriminator."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import (
    Batch,
    Count,
    Level,
    Losses,
    Model,
    Observation,
    Player,
    Positive,
    Posterior,
    Rate,
    Shapes,
    SkipError,
)
from bench.divergences import MarginGate, NonSaturating, accuracy
from bench.draws import Draws
from bench.likelihoods import Likelihood
from bench.networks import Network
from bench.posteriors import DiagonalGaussian
from bench.priors import Prior


class VAEGAN(Model):
    """Three players from one forward pass (Larsen et al. 2016, algorithm 1), each with the gradient of its own loss:

    encoder        KL + L_rec, where L_rec = |D_l(x) - D_l(x~)|^2 / 2 is a Gaussian's in the discriminator's features
    decoder        gamma L_rec + (1 - gamma) * the generator's cost of x~ = dec(q(z|x)) and x_p = dec(p(z))
    discriminator  its cost of real x against x~ and x_p; L_rec does not train it

    The generator's cost is non-saturating by default, -log D, where the paper has log(1 - D).
    """

    players = (
        Player("encoder", ("encoder",)),
        Player("decoder", ("decoder",)),
        Player("discriminator", ("discriminator",)),
    )
    notes = dict.fromkeys(("elbo", "reconstruction_nll"), "a valid number, but not what the model was trained on")

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        adversarial: NonSaturating,
        latent_dim: Count = 16,
        gamma: Rate = 0.1,
        beta: Level = 1.0,
        equilibrium: Positive = 0.68,
        margin: Positive = 0.35,
    ):
        super().__init__()
        if any(True for _ in likelihood.parameters()):
            raise SkipError(
                "a VAE/GAN does not train its likelihood, so its sigma would never be learned: use a fixed one"
            )
        self.latent_dim, self.gamma, self.beta = latent_dim, gamma, beta
        self.encoder = network.encoder(shapes.image, 2 * latent_dim)
        self.decoder = network.decoder(latent_dim, shapes.image)
        self.discriminator = network.critic(shapes.image)
        self.likelihood, self.prior, self.adversarial = likelihood, prior, adversarial
        self.balance = MarginGate(equilibrium, margin)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        q = self.encode(batch)
        z = q.sample(draws)
        images = torch.cat([batch.x, self.decode(z).mean, self.sample(len(z), draws)])
        judged = self.discriminator(images, draws, copies=3)
        features, features_decoded, _ = judged.features.chunk(3)
        real, fake = judged.logit[: len(z)], judged.logit[len(z) :]

        kl = self.prior.kl(q, z).mean()
        reconstruction = 0.5 * ((features - features_decoded) ** 2).sum(1).mean()
        decoder = self.gamma * reconstruction + (1 - self.gamma) * self.adversarial.generator(fake)
        discriminator = self.adversarial.discriminator(real, fake)
        costs = self.adversarial.real(real).mean(), self.adversarial.fake(fake).mean()
        discriminator_learns, decoder_learns = self.balance(*costs)
        return Losses(
            {"encoder": self.beta * kl + reconstruction, "decoder": decoder, "discriminator": discriminator},
            {"kl": kl, "feature_reconstruction": reconstruction, "discriminator_accuracy": accuracy(real, fake)},
            {"decoder": decoder_learns, "discriminator": discriminator_learns},
        )

    def encode(self, batch: Batch) -> Posterior:
        mean, log_variance = self.encoder(batch.x_noisy).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance)

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior.sample((n, self.latent_dim), draws)).mean
