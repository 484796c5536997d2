"""Probabilistic PCA (Tipping & Bishop 1999), fitted in closed form: the linear-Gaussian baseline of a VAE."""

from __future__ import annotations

import math

import torch
from sklearn.decomposition import PCA
from torch import Tensor

from bench.core import Count, InputError, Model, Observation, Posterior, SkipError
from bench.data import Batch, Data, Shapes
from bench.draws import Draws
from bench.parts.likelihoods import Gaussian
from bench.parts.posteriors import DiagonalGaussian
from bench.parts.priors import Normal


class ProbabilisticPCA(Model):
    """x = W z + mean + sigma epsilon, z ~ N(0, I). Its posterior is exact, so its ELBO is log p(x)."""

    players = ()
    mean: Tensor
    weight: Tensor
    variance: Tensor
    reads_noise = False

    def __init__(self, shapes: Shapes, latent_dim: Count = 16):
        super().__init__()
        if shapes.input != shapes.x:
            raise SkipError(f"PCA reconstructs what it reads, but sources {shapes.input} and images {shapes.x} differ")
        pixels = math.prod(shapes.x)
        if latent_dim >= pixels:
            raise InputError(
                f"model.latent_dim={latent_dim} leaves no dimension for noise: choose fewer than the {pixels} pixels"
            )
        self.image, self.latent_dim = shapes.x, latent_dim
        self.likelihood, self.prior = Gaussian(mean_activation="identity"), Normal()
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("weight", torch.zeros(pixels, latent_dim))  # W
        self.register_buffer("variance", torch.ones(latent_dim))  # the diagonal of W'W + sigma^2 I

    def fit(self, data: Data, draws: Draws) -> None:
        x = data.observe(data.train.x[:], draws)
        pca = PCA(self.latent_dim, svd_solver="covariance_eigh").fit(x.flatten(1).double().cpu().numpy())
        if pca.noise_variance_ < 1e-8:
            raise InputError(f"model.latent_dim={self.latent_dim} leaves no noise variance: choose fewer latents")
        variance = torch.from_numpy(pca.explained_variance_)
        scale = (variance - pca.noise_variance_).clamp(min=0).sqrt()
        self.mean.copy_(torch.from_numpy(pca.mean_))
        self.weight.copy_(torch.from_numpy(pca.components_).T * scale)
        self.variance.copy_(variance)
        self.likelihood.log_sigma.fill_(0.5 * math.log(pca.noise_variance_))

    def encode(self, batch: Batch) -> Posterior:
        centred = batch.input.flatten(1) - self.mean
        log_variance = 2 * self.likelihood.log_sigma - self.variance.log()
        return DiagonalGaussian(centred @ self.weight / self.variance, log_variance.expand(len(centred), -1))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Observation:
        return self.likelihood((z @ self.weight.T + self.mean).unflatten(1, self.image))

    def sample(self, n: int, draws: Draws, label: Tensor | None = None) -> Tensor:
        return self.decode(self.prior_codes(n, draws)).mean
