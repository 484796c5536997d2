"""The variational autoencoder (Kingma & Welling 2014) and, with labels, the conditional one (Sohn et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import Count, Losses, Model, Observation, Posterior, SkipError, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Network, one_hot
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import Prior


class VAE(Model):
    """max E_q(z|x)[log p(x|z)] - beta KL(q(z|x) || p(z)), the expectation estimated from `samples` draws of z.

    beta = 1 is the evidence lower bound (ELBO); other values are the beta-VAE (Higgins et al. 2017).
    """

    unused_settings = ("network.dropout",)

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        prior: Prior,
        latent_dim: Count = 16,
        beta: Weight = 1.0,
        samples: Count = 1,
        conditional: bool = False,
    ):
        super().__init__()
        if conditional and not shapes.classes:
            raise SkipError("a conditional VAE needs labels, but this data set has none: set model.conditional=false")
        self.latent_dim, self.beta, self.samples = latent_dim, beta, samples
        self.conditional = self.samples_by_label = conditional
        self.classes = shapes.classes if conditional else 0
        self.encoder = network.encoder(shapes.input, 2 * latent_dim, self.classes)
        self.decoder = network.decoder(latent_dim, likelihood.raw_shape(shapes.x), self.classes)
        self.likelihood, self.prior = likelihood, prior.checked(latent_dim, needs_kl=True)
        if conditional:
            self.notes = dict.fromkeys(("encode", "decode"), "the model uses the labels of the test images")

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        q = self.encode(batch)
        z = [q.sample(draws.within(f"sample_{i}")) for i in range(self.samples)]
        log_px = torch.stack([self.decode(z_i, batch).log_prob(batch.x) for z_i in z]).mean()
        kl = torch.stack([self.prior.kl(q, z_i) for z_i in z]).mean()
        beta = weight_at(self.beta, batch)
        return Losses({"model": beta * kl - log_px}, {"reconstruction": -log_px, "kl": kl})

    def encode(self, batch: Batch) -> Posterior:
        mean, log_variance = self.encoder(batch.input, self.condition(batch.label)).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance)

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z, self.condition(batch.label if batch else None)))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.likelihood(self.decoder(self.prior_codes(n, draws), self.condition(label))).mean

    def condition(self, label: Tensor | None) -> Tensor | None:
        """The one-hot labels [B, classes] that encoder and decoder also get; None if the model is not conditional."""
        if not self.classes:
            return None
        assert label is not None, "a conditional model needs labels"
        return one_hot(label, self.classes)
