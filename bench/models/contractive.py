"""Contractive autoencoders: codes that move little when the image does (Rifai et al. 2011)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.func import grad

from bench.core import Count, InputError, Level, Losses, Model, Observation, Posterior
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.divergences import jacobian_exact, jacobian_hutchinson, jacobian_layer
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Dense, Network
from bench.parts.posteriors import Deterministic

FEW = 4  # latents, up to which the exact Jacobian costs little more than an estimate
CODES = {"linear": lambda a: a, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


class Contractive(Model):
    """min E[-log p(x | h) + weight * c], where c says how much the code h = code(encoder(x)) moves with x.

    layer, exact, hutchinson    c = |J|_F^2, the Jacobian of h at what the encoder reads: in closed form where h is one
                                layer, by a backward pass a latent, or by an unbiased estimate of one backward pass
    auto                        the first of these three that is cheap here
    stochastic                  c = |h(x) - h(x~)|^2, x~ of the noise group; what is decoded is the clean image's code

    relative: c is divided by the variance of the codes, summed over latents. Else a code that only shrinks lowers it,
    and a decoder only has to grow with it.
    """

    unused_settings = ("network.dropout",)

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        latent_dim: Count = 16,
        penalty: Literal["auto", "layer", "exact", "hutchinson", "stochastic"] = "auto",
        weight: Level = 5.0,
        relative: bool = True,
        code: Literal["linear", "sigmoid", "tanh"] = "linear",
    ):
        super().__init__()
        self.latent_dim, self.weight, self.relative, self.code = latent_dim, weight, relative, CODES[code]
        self.encoder = network.encoder(shapes.image, latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw(shapes.image))
        self.likelihood = likelihood
        is_layer = isinstance(self.encoder, Dense) and not len(self.encoder.hidden)
        if penalty == "layer" and not is_layer:
            raise InputError("model.penalty=layer needs an encoder of one layer: set network=linear, or penalty=auto")
        cheap = "layer" if is_layer else "exact" if latent_dim <= FEW else "hutchinson"
        self.penalty = cheap if penalty == "auto" else penalty
        self.needs_noise = penalty == "stochastic"

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        x = batch.x if self.penalty == "stochastic" else batch.input
        h = self.h(x)
        reconstruction = -self.decode(h).log_prob(batch.x).mean()
        spread = h.var(0).sum() if self.relative else 1
        contraction = self.moved(x, h, batch.input, draws).mean() / spread
        loss = reconstruction + self.weight * contraction
        return Losses({"model": loss}, {"reconstruction": reconstruction, "contraction": contraction})

    def h(self, x: Tensor) -> Tensor:
        """Codes [B, latent_dim] of images [B, C, H, W]."""
        return self.code(self.encoder(x))

    def moved(self, x: Tensor, h: Tensor, input: Tensor, draws: Draws) -> Tensor:
        """How much each code moves, [B]."""
        if self.penalty == "stochastic":
            return (h - self.h(input)).square().sum(1)
        if self.penalty == "hutchinson":
            return jacobian_hutchinson(self.h, x, draws.normal("direction", h.shape))
        if self.penalty == "exact":
            return jacobian_exact(self.h, x)
        slope = grad(lambda a: self.code(a).sum())(self.encoder(x))
        return jacobian_layer(self.encoder.get_submodule("last").get_parameter("weight"), slope)

    def encode(self, batch: Batch) -> Posterior:
        return Deterministic(self.h(batch.input))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood(self.decoder(z))
