"""3D-VAE-GAN (Wu et al. 2016): a GAN of shapes, and an encoder that finds the code of a shape from a view of it."""

from __future__ import annotations

from torch import Tensor

from bench.core import Count, Losses, Model, Observation, Phase, Player, Posterior, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Network
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import Prior


class VoxelVAEGAN(Model):
    """A VAE whose encoder reads a view y of the shape x, and whose decoder is the generator of a GAN (section 3.3):

    discriminator  its loss on real x and on x_p = G(z), z ~ p(z); unlike that of a VAE/GAN it sees no reconstructions
    encoder        beta KL(q(z|y) || p(z)) + L_rec
    generator      L_rec + adversarial_weight * the generator loss of x_p

    L_rec = -log p(x|z), z ~ q(z|y). The paper has the squared error, and updates encoder and generator one after the
    other. Without the adversary this is a VAE from views to shapes.
    """

    players: tuple[Player, ...] = (
        Player("discriminator", ("discriminator",)),
        Player("encoder", ("encoder",)),
        Player("generator", ("generator", "likelihood")),
    )

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        adversarial: Adversarial,
        latent_dim: Count = 64,
        beta: Weight = 1.0,
        adversarial_weight: Weight = 100.0,
    ):
        super().__init__()
        self.latent_dim, self.beta, self.adversarial_weight = latent_dim, beta, adversarial_weight
        self.encoder = network.encoder(shapes.input, 2 * latent_dim)
        self.generator = network.decoder(latent_dim, likelihood.raw_shape(shapes.x))
        if adversarial_weight:
            self.discriminator = network.critic(shapes.x)
        else:
            self.players = self.players[1:]
        self.likelihood, self.adversarial = likelihood, adversarial
        self.prior = prior.checked(latent_dim, needs_kl=True)
        critic_steps = adversarial.critic_steps if adversarial_weight else 0
        self.phases = (Phase((*[("discriminator",)] * critic_steps, ("encoder", "generator"))),)

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        adversary = Losses({"generator": batch.x.new_zeros(())})
        if self.adversarial_weight:
            weight, player = weight_at(self.adversarial_weight, batch), (turn[-1],)
            generated = self.sample(len(batch.x), draws)
            adversary = self.adversarial.losses(
                player, self.discriminator, batch.x, generated, draws, batch.step, weight
            )
        if turn == ("discriminator",):
            return adversary
        q = self.encode(batch)
        z = q.sample(draws)
        kl, reconstruction = self.prior.kl(q, z).mean(), -self.decode(z).log_prob(batch.x).mean()
        players = {
            "encoder": weight_at(self.beta, batch) * kl + reconstruction,
            "generator": reconstruction + adversary.players["generator"],
        }
        return Losses(players, {"reconstruction": reconstruction, "kl": kl}, adversary.gates)

    def encode(self, batch: Batch) -> Posterior:
        return DiagonalGaussian(*self.encoder(batch.input).chunk(2, dim=1))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.generator(z))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws)).mean

    def critic_features(self, x: Tensor, draws: Draws) -> Tensor:
        if not self.adversarial_weight:
            return super().critic_features(x, draws)
        return self.discriminator.pooled_features(x, draws)
