"""The loss of the VAE against Pythae (Chadebec et al. 2022) with the same weights, images and noise."""

from __future__ import annotations

import math

import pytest
import torch
from pythae.models import VAE as PythaeVAE
from pythae.models import VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder

from bench.draws import Draws
from bench.runs.config import build
from tests.conftest import LATENTS, SHAPES, batch_of, small_data, small_job

PIXELS = math.prod(SHAPES.x)


class PythaeEncoder(BaseEncoder):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        mean, log_variance = self.network(x).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class PythaeDecoder(BaseDecoder):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))


@pytest.mark.parametrize(
    ("likelihood", "reconstruction_loss", "constant"),
    [
        ("bernoulli", "bce", 0.0),
        # Pythae's squared error is a Gaussian with sigma = 1 without its normalising constant.
        ("gaussian", "mse", PIXELS / 2 * math.log(2 * math.pi)),
    ],
)
def test_losses_differ_by_a_known_constant(monkeypatch, likelihood, reconstruction_loss, constant):
    job, data = small_job("vae", "mlp", "none", f"likelihood={likelihood}"), small_data()
    model, batch = build(job.config, SHAPES, seed=0), batch_of(job, data)
    batch = batch.map(lambda part: part[0])
    losses = model.losses(batch, Draws(0), ("model",))

    config = VAEConfig(input_dim=SHAPES.x, latent_dim=LATENTS["vae"], reconstruction_loss=reconstruction_loss)
    pythae = PythaeVAE(config, PythaeEncoder(model.encoder), PythaeDecoder(model.decoder))
    epsilon = Draws(0).within("sample_0").normal("epsilon", (len(batch.x), LATENTS["vae"]))
    monkeypatch.setattr(pythae, "_sample_gauss", lambda mean, sigma: (mean + sigma * epsilon, epsilon))
    expected = pythae({"data": batch.x})

    assert losses.players["model"].item() == pytest.approx(expected.loss.item() + constant, rel=1e-5)
    assert losses.log["kl"].item() == pytest.approx(expected.reg_loss.item(), rel=1e-5)
    assert losses.log["reconstruction"].item() == pytest.approx(expected.recon_loss.item() + constant, rel=1e-5)
