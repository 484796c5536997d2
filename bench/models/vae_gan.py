"""VAE/GAN (Larsen et al. 2016): a VAE with a reconstruction error in the features of a GAN discriminator."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import Count, Losses, Model, Observation, Player, Posterior, Rate, SkipError, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Network
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import Prior


class VAEGAN(Model):
    """Three players updated from one forward pass (Larsen et al. 2016, algorithm 1), each by its own loss:

    encoder        KL + L_rec, where L_rec = |D_l(x) - D_l(x~)|^2 / 2 is that of a Gaussian on discriminator features
    decoder        gamma L_rec + (1 - gamma) * the generator loss of x~ = dec(z), z ~ q(z|x), and x_p = dec(z), z ~ p(z)
    discriminator  its loss on real x and on fake x~ and x_p; it is not trained by L_rec

    The default generator loss is the non-saturating -log D; the paper has log(1 - D).
    """

    players = (
        Player("encoder", ("encoder",)),
        Player("decoder", ("decoder",)),
        Player("discriminator", ("discriminator",)),
    )
    notes = {"likelihood": "a valid number, but not the training objective of the model"}

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        adversarial: Adversarial,
        latent_dim: Count = 16,
        gamma: Rate = 0.1,
        beta: Weight = 1.0,
        adversarial_weight: Weight = 1.0,
    ):
        super().__init__()
        if likelihood.learned:
            raise SkipError("a VAE/GAN does not train its likelihood: choose one with a fixed sigma")
        if adversarial.critic_steps > 1:
            raise SkipError("a VAE/GAN updates all players from one forward pass: adversarial.critic_steps must be 1")
        self.latent_dim, self.gamma, self.beta, self.adversarial_weight = latent_dim, gamma, beta, adversarial_weight
        self.encoder = network.encoder(shapes.input, 2 * latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw_shape(shapes.x))
        self.discriminator = network.critic(shapes.x)
        self.likelihood, self.adversarial = likelihood, adversarial
        self.prior = prior.checked(latent_dim, needs_kl=True)

    @classmethod
    def default_balance(cls, adversarial_weight: Weight = 1.0, **options: object) -> str:
        return "margin" if adversarial_weight else "always"  # without an adversary no player needs to wait

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        q = self.encode(batch)
        z = q.sample(draws)
        decoded = self.decode(z).mean
        images = torch.cat([batch.x, decoded, self.sample(len(z), draws)])
        logit, features, _ = self.discriminator(images, draws, copies=3)
        features_x, features_decoded, _ = features.chunk(3)
        real, fake = logit[: len(z)], logit[len(z) :]

        kl = self.prior.kl(q, z).mean()
        reconstruction = 0.5 * ((features_x - features_decoded) ** 2).sum(1).mean()
        generator = weight_at(self.adversarial_weight, batch) * self.adversarial.generator(fake)
        discriminator = self.adversarial.discriminator(real, fake)
        policy = self.default_balance(self.adversarial_weight)
        discriminator_gate, decoder_gate = self.adversarial.gates(real, fake, batch.step, policy)
        return Losses(
            {
                "encoder": weight_at(self.beta, batch) * kl + reconstruction,
                "decoder": self.gamma * reconstruction + (1 - self.gamma) * generator,
                "discriminator": discriminator + self.adversarial.penalty(self.discriminator, batch.x, decoded, draws),
            },
            {
                "kl": kl,
                "feature_reconstruction": reconstruction,
                "discriminator_accuracy": self.adversarial.critic_accuracy(real, fake),
            },
            {"decoder": decoder_gate, "discriminator": discriminator_gate},
        )

    def encode(self, batch: Batch) -> Posterior:
        return DiagonalGaussian(*self.encoder(batch.input).chunk(2, dim=1))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws)).mean

    def critic_features(self, x: Tensor, draws: Draws) -> Tensor:
        return self.discriminator.pooled_features(x, draws)
