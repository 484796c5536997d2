"""Untrained models, some with results in closed form, and digits to evaluate them on."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch.distributions import MultivariateNormal

from bench.core import Losses, Model
from bench.data import Data, Shapes, Split
from bench.parts.likelihoods import GaussianObservation
from bench.parts.posteriors import Deterministic, DiagonalGaussian
from bench.parts.priors import Normal

SIGMA = 0.5


def digits(binarize: str = "none", dequantize: bool = False, labels: bool = True) -> Data:
    images, label = load_digits(return_X_y=True)
    x = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16
    y = torch.from_numpy(label).long()
    splits = [
        Split(x[rows], y[rows] if labels else None) for rows in (slice(1200), slice(1200, 1400), slice(1400, None))
    ]
    return Data(*splits, Shapes((1, 8, 8), 10 if labels else 0), 17, binarize, dequantize, "digits")


class Untrained(Model):
    def losses(self, batch, draws, turn):
        return Losses({})


class LinearGaussian(Untrained):
    """Probabilistic PCA. The columns of w are orthogonal, so the exact posterior is diagonal."""

    def __init__(self, latent_dim: int = 3):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        basis = torch.linalg.qr(torch.randn(64, latent_dim, generator=generator)).Q
        self.register_buffer("w", basis * torch.linspace(1, 2, latent_dim))
        self.latent_dim, self.prior = latent_dim, Normal()

    def encode(self, batch):
        m = self.w.square().sum(0) + SIGMA**2
        mean = batch.input.flatten(1) @ self.w / m
        return DiagonalGaussian(mean, (SIGMA**2 / m).log().expand_as(mean))

    def decode(self, z, batch=None):
        return GaussianObservation((z @ self.w.T).view(-1, 1, 8, 8), torch.tensor(SIGMA).log())

    def sample(self, n, draws, label=None):
        return self.decode(self.prior.sample((n, self.latent_dim), draws)).mean

    def log_evidence(self, x):
        covariance = self.w @ self.w.T + SIGMA**2 * torch.eye(64)
        return MultivariateNormal(torch.zeros(64), covariance).log_prob(x.flatten(1))


class OneSampleKL(Normal):
    """A prior that estimates the KL divergence at one code instead of computing it in closed form."""

    def kl(self, q, z):
        return q.log_prob(z) - self.log_prob(z)


class IdentityAutoencoder(Untrained):
    """An autoencoder that computes the identity, without a prior."""

    def encode(self, batch):
        return Deterministic(batch.input.flatten(1))

    def decode(self, z, batch=None):
        return GaussianObservation(z.view(-1, 1, 8, 8), torch.tensor(0.0))


class Generator(Untrained):
    prior, latent_dim = Normal(), 64

    def sample(self, n, draws, label=None):
        return torch.sigmoid(self.prior.sample((n, 64), draws)).view(n, 1, 8, 8)


class Conditional(LinearGaussian):
    """Decodes class c to the constant image c / 10, for any code."""

    conditional = True

    def encode(self, batch):
        return DiagonalGaussian(batch.label[:, None].float().expand(-1, 3), torch.zeros(len(batch.label), 3))

    def decode(self, z, batch=None):
        return GaussianObservation(batch.label.view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 10, torch.tensor(0.0))

    def sample(self, n, draws, label=None):
        return label.view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 10
