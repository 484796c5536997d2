"""What the noise group does to an image, and that it stays away from the target."""

from __future__ import annotations

import math

import pytest
import torch

from bench.check import corruption
from bench.core import Batch, InputError
from bench.corruptions import Gaussian, Identity, Masking, SaltAndPepper
from bench.draws import Draws
from bench.train import Budget
from tests.conftest import batch_of, job_of, small_data, stack_of, trained

NOISY = ["gaussian", "masking", "salt_and_pepper"]


def grey(n: int = 400, channels: int = 3) -> torch.Tensor:
    return torch.full((n, channels, 10, 10), 0.5)


def test_gaussian_noise_has_its_sigma_no_bias_and_is_not_clipped():
    x = grey()
    noise = Gaussian(0.5)(x, Draws(0)) - x
    assert abs(noise.mean()) < 5 * 0.5 / math.sqrt(x.numel())
    assert abs(noise.std() / 0.5 - 1) < 5 / math.sqrt(2 * x.numel())
    noisy = x + noise
    assert noisy.min() < 0 and noisy.max() > 1
    channels = noise.transpose(0, 1).flatten(1)
    assert (torch.corrcoef(channels) - torch.eye(3)).abs().max() < 5 / math.sqrt(channels.shape[1])


@pytest.mark.parametrize("level", [0.1, 0.25, 1.0])
def test_masking_loses_whole_pixels_at_its_rate(level):
    x = grey()
    noisy = Masking(level)(x, Draws(0))
    lost = noisy == 0
    assert torch.equal(noisy[~lost], x[~lost])
    assert torch.equal(lost, lost[:, :1].expand_as(lost))
    pixels = lost[:, 0].float()
    assert abs(pixels.mean() - level) <= 5 * math.sqrt(level * (1 - level) / pixels.numel())


@pytest.mark.parametrize("level", [0.1, 0.25, 1.0])
def test_salt_and_pepper_halve_the_rate(level):
    x = grey()
    noisy = SaltAndPepper(level)(x, Draws(0))
    error = 5 * math.sqrt(level / 2 * (1 - level / 2) / x[:, 0].numel())
    for value in (0.0, 1.0):
        hit = noisy == value
        assert torch.equal(hit, hit[:, :1].expand_as(hit))
        assert abs(hit[:, 0].float().mean() - level / 2) < error
    assert set(noisy.unique().tolist()) <= {0.0, 0.5, 1.0}


@pytest.mark.parametrize("make", [Gaussian, Masking, SaltAndPepper, Identity])
def test_level_0_is_the_identity(make):
    x = torch.rand(5, 3, 4, 4)
    assert torch.equal(make(0.0)(x, Draws(0)), x)


@pytest.mark.parametrize("name", NOISY)
def test_the_input_is_left_as_it_was_and_draws_decide(name):
    corrupt, x = corruption(job_of(f"noise={name}")), torch.rand(5, 1, 8, 8)
    before = x.clone()
    noisy = corrupt(x, Draws(0))
    assert torch.equal(x, before) and not torch.equal(noisy, x)
    assert torch.equal(noisy, corrupt(x, Draws(0))) and not torch.equal(noisy, corrupt(x, Draws(1)))
    assert noisy.dtype == x.dtype


@pytest.mark.parametrize("name", NOISY)
def test_a_model_reads_the_noisy_image_and_its_target_is_clean(name, monkeypatch):
    job, data = job_of("model=ae", f"noise={name}", "network.hidden=16"), small_data()
    stack = stack_of(job)
    seen: list[Batch] = []
    losses = stack.model.losses
    monkeypatch.setattr(stack.model, "losses", lambda batch, *rest: (seen.append(batch), losses(batch, *rest))[1])
    trained(job, stack, data, Budget(epochs=1, batch_size=20))
    clean = {tuple(x.flatten().tolist()) for x in data.train.x}
    assert {tuple(x.flatten().tolist()) for batch in seen for x in batch.x} == clean
    assert not clean & {tuple(x.flatten().tolist()) for batch in seen for x in batch.x_noisy}


@pytest.mark.parametrize("name", NOISY)
def test_the_loss_compares_with_the_clean_target(name, float64):
    """The encoder's answer to x~ against x: written out, and another number than with x~ as the target."""
    job = job_of("model=dae", f"noise={name}", "network.hidden=16", "network.norm=none")
    data, stack = small_data(), stack_of(job)
    batch = batch_of(job, data)
    loss = stack.losses(batch, ("k",), ("model",)).players["model"].item()
    model, x, x_noisy = stack.model, batch.x[0], batch.x_noisy[0]
    observation = model.decode(model.encode(Batch(x, x_noisy)).mean)
    assert loss == pytest.approx(-observation.log_prob(x).mean().item())
    assert loss != pytest.approx(-observation.log_prob(x_noisy).mean().item())


@pytest.mark.parametrize("name", [*NOISY, "none"])
@pytest.mark.parametrize("level", ["-1", "nan", "inf", "much"])
def test_a_bad_level_is_refused(name, level):
    with pytest.raises(InputError, match="noise.level"):
        job_of(f"noise={name}", f"noise.level={level}")


@pytest.mark.parametrize("name", ["masking", "salt_and_pepper"])
def test_a_rate_above_1_is_refused(name):
    with pytest.raises(InputError, match="noise.level"):
        job_of(f"noise={name}", "noise.level=1.5")
    assert job_of("noise=gaussian", "noise.level=1.5").config["noise"]["level"] == 1.5
