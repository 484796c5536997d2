"""Autoencoders and, with noisy inputs and clean targets, denoising autoencoders (Vincent et al. 2010)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bench.core import Count, InputError, Losses, Model, Observation, Posterior, UnavailableError
from bench.data import Batch, Data, Shapes
from bench.draws import Draws
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Network
from bench.parts.posteriors import Deterministic
from bench.parts.priors import unfitted_mixture

COMPONENTS = 10


class Autoencoder(Model):
    """min E[-log p(x | z)], z = encoder(x~): the squared error for a Gaussian with fixed sigma, cross-entropy for a
    Bernoulli.

    The model has no prior. ex_post="gmm" fits a mixture of 10 Gaussians to the training codes after training (Ghosh et
    al. 2020, section 4) and samples codes from it.
    """

    unused_settings = ("network.dropout",)

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        latent_dim: Count = 16,
        ex_post: Literal["none", "gmm"] = "none",
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = network.encoder(shapes.input, latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw_shape(shapes.x))
        self.likelihood = likelihood
        self.ex_post = ex_post == "gmm"
        if self.ex_post:
            self.prior = unfitted_mixture(COMPONENTS, latent_dim)
            note = f"codes are samples of a mixture of {COMPONENTS} Gaussians fitted to the training codes"
            self.notes = {"prior": note}

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        z = self.encode(batch).sample(draws)
        reconstruction = -self.decode(z).log_prob(batch.x).mean()
        return Losses({"model": reconstruction})

    def fit(self, data: Data, draws: Draws) -> None:
        if self.ex_post and len(data.train.x) < COMPONENTS:
            raise InputError(
                f"model.ex_post=gmm cannot fit {COMPONENTS} Gaussians to the codes of {len(data.train.x)} training "
                f"images: use at least {COMPONENTS} images, or set model.ex_post=none"
            )

    def fit_after(self, data: Data, draws: Draws) -> None:
        if self.ex_post:
            parts = (data.train.rows(slice(start, start + 1000)) for start in range(0, len(data.train.x), 1000))
            batches = (data.read(part, draws.within(str(i))) for i, part in enumerate(parts))
            self.prior.fit(torch.cat([self.encoder(batch.input) for batch in batches]), draws)

    def encode(self, batch: Batch) -> Posterior:
        return Deterministic(self.encoder(batch.input))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))

    def prior_codes(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        if not self.ex_post:
            raise UnavailableError("an autoencoder has no prior to sample codes from (model.ex_post=gmm fits one)")
        return super().prior_codes(n, draws)

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws)).mean
