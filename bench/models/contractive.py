"""Contractive autoencoders: codes that change little when the image changes (Rifai et al. 2011)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.func import grad

from bench.core import Count, InputError, Losses, Model, Observation, Posterior, SkipError, Weight, weight_at
from bench.data import Batch, Shapes
from bench.draws import Draws
from bench.parts.divergences import jacobian_exact, jacobian_hutchinson, jacobian_layer
from bench.parts.likelihoods import Likelihood
from bench.parts.networks import Dense, Network
from bench.parts.posteriors import Deterministic

FEW_LATENTS = 4  # up to which the exact Jacobian costs little more than an estimate
CODE_ACTIVATIONS = {"linear": lambda a: a, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


class Contractive(Model):
    """min E[-log p(x | h) + weight * c], where c is the penalty on changes of the code h = code(encoder(x)).

    layer, exact, hutchinson    c = |J|_F^2, the Jacobian of h at the encoder's input: in closed form if the encoder is
                                one layer, by one backward pass per latent, or estimated without bias by one pass
    auto                        the first of these three that is cheap for this encoder
    stochastic                  c = |h(x) - h(x~)|^2 with x~ from the noise group; the decoder gets the clean h(x)

    relative: divides c by the total variance of the codes. Otherwise the model can lower c just by scaling the codes
    down and the decoder's weights up.
    """

    unused_settings = ("network.dropout",)

    def __init__(
        self,
        shapes: Shapes,
        network: Network,
        likelihood: Likelihood,
        latent_dim: Count = 16,
        penalty: Literal["auto", "layer", "exact", "hutchinson", "stochastic"] = "auto",
        weight: Weight = 5.0,
        relative: bool = True,
        code: Literal["linear", "sigmoid", "tanh"] = "linear",
    ):
        super().__init__()
        self.latent_dim, self.weight, self.relative = latent_dim, weight, relative
        self.code = CODE_ACTIVATIONS[code]
        self.encoder = network.encoder(shapes.input, latent_dim)
        self.decoder = network.decoder(latent_dim, likelihood.raw_shape(shapes.x))
        self.likelihood = likelihood
        is_layer = isinstance(self.encoder, Dense) and not len(self.encoder.hidden)
        if penalty == "stochastic" and shapes.source is not None:
            raise SkipError(
                "a stochastic contractive autoencoder compares noisy with clean images, and reads no sources"
            )
        if penalty == "layer" and not is_layer:
            raise InputError("model.penalty=layer needs a one-layer encoder: set network=linear or model.penalty=auto")
        cheap = "layer" if is_layer else "exact" if latent_dim <= FEW_LATENTS else "hutchinson"
        self.penalty = cheap if penalty == "auto" else penalty
        self.needs_noise = penalty == "stochastic"

    def losses(self, batch: Batch, draws: Draws, turn: tuple[str, ...]) -> Losses:
        x = batch.x if self.penalty == "stochastic" else batch.input
        h = self.h(x)
        reconstruction = -self.decode(h).log_prob(batch.x).mean()
        spread = h.var(0).sum() if self.relative else 1
        contraction = self.contraction(x, h, batch.input, draws).mean() / spread
        loss = reconstruction + weight_at(self.weight, batch) * contraction
        return Losses({"model": loss}, {"reconstruction": reconstruction, "contraction": contraction})

    def h(self, x: Tensor) -> Tensor:
        """Codes [B, latent_dim] of images [B, C, H, W]."""
        return self.code(self.encoder(x))

    def contraction(self, x: Tensor, h: Tensor, input: Tensor, draws: Draws) -> Tensor:
        """The penalty c of each example, [B]."""
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
