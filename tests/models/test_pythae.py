"""The VAE's loss against that of Pythae (Chadebec et al. 2022), on the same weights, images and noise."""

from __future__ import annotations

import math

import pytest
import torch
from pythae.models import VAE as TheirVAE
from pythae.models import VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder

from bench.draws import Draws
from bench.runs.config import build
from tests.conftest import LATENTS, SHAPES, batch_of, small_data, small_job

PIXELS = math.prod(SHAPES.image)


class TheirEncoder(BaseEncoder):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        mean, log_variance = self.network(x).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class TheirDecoder(BaseDecoder):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))


@pytest.mark.parametrize(
    ("likelihood", "theirs", "constant"),
    [
        ("bernoulli", "bce", 0.0),
        # Their squared error is a Gaussian's of sigma = 1 without its normalising constant.
        ("gaussian", "mse", PIXELS / 2 * math.log(2 * math.pi)),
    ],
)
def test_losses_differ_by_a_known_constant(monkeypatch, likelihood, theirs, constant):
    job, data = small_job("vae", "mlp", "none", f"likelihood={likelihood}"), small_data()
    model, batch = build(job.config, SHAPES, seed=0), batch_of(job, data)
    batch = type(batch)(*(part if part is None else part[0] for part in batch))
    ours = model.losses(batch, Draws(0), ("model",))

    config = VAEConfig(input_dim=SHAPES.image, latent_dim=LATENTS["vae"], reconstruction_loss=theirs)
    other = TheirVAE(config, TheirEncoder(model.encoder), TheirDecoder(model.decoder))
    epsilon = Draws(0).within("sample_0").normal("epsilon", (len(batch.x), LATENTS["vae"]))
    monkeypatch.setattr(other, "_sample_gauss", lambda mean, sigma: (mean + sigma * epsilon, epsilon))
    found = other({"data": batch.x})

    assert ours.players["model"].item() == pytest.approx(found.loss.item() + constant, rel=1e-5)
    assert ours.log["kl"].item() == pytest.approx(found.reg_loss.item(), rel=1e-5)
    assert ours.log["reconstruction"].item() == pytest.approx(found.recon_loss.item() + constant, rel=1e-5)
