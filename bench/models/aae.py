"""The adversarial autoencoder (Makhzani et al. 2016): a discriminator of codes replaces the KL divergence."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor

from bench.core import Count, Losses, Model, Observation, Phase, Player, Posterior, Rate, UnusedIf, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.adversaries import Adversarial
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Network, one_hot
from bench.parts.posteriors import Deterministic, DiagonalGaussian, Universal
from bench.parts.priors import Prior

# The fractional parts of its multiples are evenly spread, so they decide which examples are labelled.
GOLDEN_RATIO = (5**0.5 - 1) / 2


class AAE(Model):
    """Three players, one after the other: the autoencoder minimises the reconstruction error, the discriminator
    distinguishes codes from samples of the prior, and the generator (the encoder again) tries to deceive it.

    informed: the discriminator also gets the label, and real codes are sampled from the component of the prior that the
    label selects, so that each class is mapped to one component (section 2.3). labelled_fraction: the share of examples
    with labels; the others form an additional class, "unknown", whose real codes come from the full prior.
    """

    players = (
        Player("autoencoder", ("encoder", "decoder", "likelihood")),
        Player("discriminator", ("discriminator",)),
        Player("generator", ("encoder",)),
    )

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        adversarial: Adversarial,
        latent_dim: Count = 16,
        posterior: Literal["deterministic", "gaussian", "universal"] = "deterministic",
        adversarial_weight: Weight = 1.0,
        informed: bool = False,
        labelled_fraction: Annotated[Rate, UnusedIf(informed=False)] = 1.0,
    ):
        super().__init__()
        self.latent_dim, self.posterior, self.adversarial_weight = latent_dim, posterior, adversarial_weight
        self.samples_by_label, self.labelled_fraction = informed, labelled_fraction
        self.classes = shapes.classes if informed else 0
        outputs, noise = (1 + (posterior == "gaussian")) * latent_dim, latent_dim * (posterior == "universal")
        self.encoder = network.encoder(shapes.input, outputs, noise)
        self.decoder = network.decoder(latent_dim, likelihood.raw_shape(shapes.x))
        self.discriminator = network.critic((latent_dim,), condition=self.classes + 1 if informed else 0)
        self.prior = prior.checked(latent_dim, classes=self.classes if informed else None)
        self.likelihood, self.adversarial = likelihood, adversarial
        self.phases = (Phase((("autoencoder",), *adversarial.turns)),)
        self.notes = {"posterior": "a valid number, but not the training objective of the model"}
        if posterior == "universal":
            self.notes |= {"mean": "of the code at noise 0"}

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        z = self.encode(batch).sample(draws)
        if turn == ("autoencoder",):
            return Losses({"autoencoder": -self.decode(z).log_prob(batch.x).mean()})
        label = self.visible_label(batch)
        condition = None if label is None else one_hot(label, self.classes + 1)
        critic = partial(self.discriminator, condition=condition)
        real, weight = self.prior_codes(len(z), draws, label), weight_at(self.adversarial_weight, batch)
        return self.adversarial.losses(turn, critic, real, z, draws, batch.step, weight)

    def visible_label(self, batch: Batch) -> Tensor | None:
        """The class of each example, [B], with `classes` for "unknown"; None if the model uses no labels."""
        if not self.samples_by_label:
            return None
        assert batch.label is not None and batch.example is not None, "a label-informed model needs labels and indices"
        is_labelled = torch.frac(batch.example.double() * GOLDEN_RATIO) < self.labelled_fraction
        return torch.where(is_labelled, batch.label, self.classes)

    def encode(self, batch: Batch) -> Posterior:
        x = batch.input
        if self.posterior == "universal":
            return Universal(partial(self.encoder, x), x.new_zeros(len(x), self.latent_dim))
        if self.posterior == "gaussian":
            return DiagonalGaussian(*self.encoder(x).chunk(2, dim=1))
        return Deterministic(self.encoder(x))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def prior_codes(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.prior.sample((n, self.latent_dim), draws, label if self.samples_by_label else None)

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws, label)).mean
