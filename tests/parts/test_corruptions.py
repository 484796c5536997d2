"""The corruptions of the noise group, and that they leave the target clean."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
import yaml
from torch.func import vmap

from bench.core import InputError
from bench.data import Batch
from bench.draws import Draws
from bench.engine.train import Budget
from bench.parts.corruptions import Blocks, Blur, Gaussian, Masking, Poisson, SaltAndPepper
from bench.paths import CONF
from bench.runs.config import corruption
from tests.conftest import batch_of, job_of, small_data, stack_of, trained

FILES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path(CONF, "noise").glob("*.yaml"))}
NOISY = [name for name in FILES if name not in ("none", "recordings")]  # recordings: see test_recordings.py
DETERMINISTIC = {"blur"}  # independent of the draws
RATES = {"masking", "salt_and_pepper", "blocks"}  # with a level of at most 1

every_noise = pytest.mark.parametrize("name", NOISY)


def grey(n: int = 400, channels: int = 3) -> torch.Tensor:
    return torch.full((n, channels, 10, 10), 0.5)


def test_gaussian_noise_has_the_right_sigma_no_bias_and_is_not_clipped():
    x = grey()
    noise = Gaussian(0.5)(x, Draws(0)) - x
    assert abs(noise.mean()) < 5 * 0.5 / math.sqrt(x.numel())
    assert abs(noise.std() / 0.5 - 1) < 5 / math.sqrt(2 * x.numel())
    noisy = x + noise
    assert noisy.min() < 0 and noisy.max() > 1
    channels = noise.transpose(0, 1).flatten(1)
    assert (torch.corrcoef(channels) - torch.eye(3)).abs().max() < 5 / math.sqrt(channels.shape[1])


@pytest.mark.parametrize("level", [0.1, 0.25, 1.0])
def test_masking_sets_pixels_to_0_in_all_channels_at_its_rate(level):
    x = grey()
    noisy = Masking(level)(x, Draws(0))
    masked = noisy == 0
    assert torch.equal(noisy[~masked], x[~masked])
    assert torch.equal(masked, masked[:, :1].expand_as(masked))
    pixels = masked[:, 0].float()
    assert abs(pixels.mean() - level) <= 5 * math.sqrt(level * (1 - level) / pixels.numel())


@pytest.mark.parametrize("level", [0.1, 0.25, 1.0])
def test_salt_and_pepper_each_have_half_the_rate(level):
    x = grey()
    noisy = SaltAndPepper(level)(x, Draws(0))
    error = 5 * math.sqrt(level / 2 * (1 - level / 2) / x[:, 0].numel())
    for value in (0.0, 1.0):
        replaced = noisy == value
        assert torch.equal(replaced, replaced[:, :1].expand_as(replaced))
        assert abs(replaced[:, 0].float().mean() - level / 2) < error
    assert set(noisy.unique().tolist()) <= {0.0, 0.5, 1.0}


def covered(noisy: torch.Tensor) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of the zeros in each image, which must be a rectangle and equal in all channels."""
    masked = noisy == 0
    assert torch.equal(masked, masked[:, :1].expand_as(masked))
    rectangles = []
    for image in masked[:, 0]:
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        top, left, height, width = int(rows[0]), int(columns[0]), len(rows), len(columns)
        assert image[top : top + height, left : left + width].all() and image.sum() == height * width
        rectangles.append((top, left, height, width))
    return rectangles


@pytest.mark.parametrize("level", [0.01, 0.1, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("image", [(3, 10, 10), (1, 28, 28), (2, 6, 9), (1, 1, 2)])
def test_blocks_are_rectangles_inside_the_image_with_the_right_area(level, image):
    x = torch.full((200, *image), 0.5)
    noisy = Blocks(level)(x, Draws(0))
    sides = tuple(max(1, round(math.sqrt(level) * side)) for side in image[1:])
    assert {rectangle[2:] for rectangle in covered(noisy)} == {sides}
    assert set(noisy.unique().tolist()) <= {0.0, 0.5}


def test_positions_of_blocks_are_uniform():
    """Chi-square test over the 6 x 6 positions, which includes the independence of the two axes."""
    positions = [rectangle[:2] for rectangle in covered(Blocks(0.25)(grey(7200), Draws(0)))]
    counts = np.bincount([6 * top + left for top, left in positions], minlength=36)
    assert len(counts) == 36
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_blur_equals_scipys_gaussian_filter_away_from_the_border():
    x = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    for sigma in (0.5, 1.0, 2.0):
        expected = scipy.ndimage.gaussian_filter(x.numpy(), sigma, axes=(2, 3))
        inner = np.s_[:, :, 10:-10, 10:-10]
        np.testing.assert_allclose(Blur(sigma)(x, Draws(0)).numpy()[inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("level", [0.3, 1.0, 20.0])
def test_blur_keeps_a_constant_image(level):
    torch.testing.assert_close(Blur(level)(grey(2), Draws(0)), grey(2))


def test_blur_spreads_a_point_with_the_variance_of_its_level_and_keeps_the_sum():
    x = torch.zeros(1, 1, 41, 31)
    x[..., 20, 15] = 1
    rows, columns = torch.arange(41) - 20.0, torch.arange(31) - 15.0
    last = 1.0
    for level in (0.5, 1.0, 2.0):
        spread = Blur(level)(x, Draws(0))[0, 0]
        assert spread.sum().item() == pytest.approx(1, abs=1e-5)
        assert spread[20, 15] == spread.max() < last
        last = spread.max()
        if level >= 1:  # below, the variance of a sampled Gaussian deviates from level^2
            assert (spread.sum(1) @ rows**2).item() == pytest.approx(level**2, rel=1e-3)
            assert (spread.sum(0) @ columns**2).item() == pytest.approx(level**2, rel=1e-3)


def test_a_higher_level_of_blur_leaves_less_variance():
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    spreads = [Blur(level)(x, Draws(0)).var().item() for level in (0.0, 0.3, 0.5, 1.0, 2.0, 4.0)]
    assert spreads == sorted(spreads, reverse=True) and len(set(spreads)) == len(spreads)


def test_blur_of_two_pixels_is_a_weighted_mean():
    a, b = Blur(1.0)(torch.tensor([[[[0.0, 1.0]]]]), Draws(0)).flatten().tolist()
    assert (a, b) == pytest.approx((1 / (1 + math.exp(0.5)), 1 / (1 + math.exp(-0.5))))


@pytest.mark.parametrize("level", [0.05, 0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("value", [0.0, 0.2, 1.0])
def test_poisson_noise_has_the_distribution_of_scipy(level, value):
    """Mean, variance, and a chi-square test of the counts with the tails pooled."""
    n, photons = 40_000, 1 / level**2
    noisy = Poisson(level)(torch.full((n, 1, 1, 1), value), Draws(0)).double().flatten()
    counts = (noisy * photons).round()
    torch.testing.assert_close(noisy, counts / photons, rtol=1e-6, atol=0)
    if value == 0:
        assert not counts.any()
        return
    variance = value * level**2
    assert abs(noisy.mean() - value) < 5 * math.sqrt(variance / n)
    fourth_moment = variance**2 * (3 + 1 / (value * photons))  # central
    assert abs(noisy.var() - variance) < 5 * math.sqrt((fourth_moment - variance**2) / n)

    poisson = scipy.stats.poisson(value * photons)
    low, high = (int(poisson.ppf(tail)) for tail in (1e-3, 1 - 1e-3))
    expected = np.array([poisson.cdf(low), *poisson.pmf(range(low + 1, high)), poisson.sf(high - 1)])
    observed = np.bincount(counts.clamp(low, high).int().numpy() - low, minlength=len(expected))
    assert scipy.stats.chisquare(observed, n * expected).pvalue > 1e-3


def test_poisson_noise_is_not_clipped_and_independent_between_channels():
    noise = Poisson(0.5)(grey(), Draws(0)) - 0.5
    assert noise.max() > 0.5
    channels = noise.transpose(0, 1).flatten(1)
    assert (torch.corrcoef(channels) - torch.eye(3)).abs().max() < 5 / math.sqrt(channels.shape[1])


def test_poisson_noise_maps_negative_pixels_to_0():
    assert not Poisson(0.5)(torch.full((4, 1, 8, 8), -0.1), Draws(0)).any()


class ExtremeDraws(Draws):
    """The smallest and the largest possible uniform number."""

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([0.0, 1 - 2**-24]).view(2, 1, 1, 1).expand(shape)


@pytest.mark.parametrize("level", [0.05, 0.5])
def test_extreme_draws_give_the_photon_counts_of_their_quantiles(level):
    """A draw of 0 has probability 2^-24: for a mean of 400 photons it is a count near 300, not 0."""
    photons = 1 / level**2
    counts = Poisson(level)(torch.ones(2, 1, 1, 1), ExtremeDraws(0)).flatten() * photons
    expected = scipy.stats.poisson(photons).ppf([2**-25, 1 - 2**-25])
    assert counts.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("level", [0.001, 0.0499])
def test_poisson_levels_with_too_many_photons_are_refused(level):
    with pytest.raises(InputError, match=f"noise.level={level}.*photons.*noise=gaussian"):
        job_of("noise=poisson", f"noise.level={level}")


@pytest.mark.parametrize("level", [1e-30, 1e-4, 1e30])
def test_extreme_levels_of_blur_reach_its_limits(level):
    x = torch.rand(5, 3, 4, 6)
    limit = x if level < 1 else x.mean((2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(Blur(level)(x, Draws(0)), limit)


@pytest.mark.parametrize("sides", [(9,), (9, 12), (9, 10, 11)])
def test_blur_is_a_gaussian_filter_along_every_side(sides):
    """Far from the border, where the weights are the same as those of the independent implementation."""
    x = torch.zeros(1, 2, *sides)
    x[0, 1][tuple(side // 2 for side in sides)] = 1.0
    expected = scipy.ndimage.gaussian_filter(x[0, 1].numpy(), 0.5, mode="constant", truncate=6)
    torch.testing.assert_close(Blur(0.5)(x, Draws(0))[0, 1], torch.from_numpy(expected), rtol=0, atol=1e-6)
    constant = torch.full((1, 1, *sides), 0.7)
    torch.testing.assert_close(Blur(2.0)(constant, Draws(0)), constant)


@pytest.mark.parametrize(("sides", "lengths"), [((40,), (10,)), ((8, 20), (4, 10)), ((8, 16, 24), (5, 10, 15))])
def test_blocks_of_waves_and_volumes_have_the_same_share(sides, lengths):
    covered = Blocks(0.25)(torch.ones(50, 2, *sides), Draws(0)) == 0
    assert torch.equal(covered[:, 0], covered[:, 1])
    for axis, length in enumerate(lengths, start=1):
        others = tuple(other for other in range(1, len(sides) + 1) if other != axis)
        along = covered[:, 0].any(others) if others else covered[:, 0]
        assert (along.sum(1) == length).all()
        first, last = along.int().argmax(1), along.int().cumsum(1).argmax(1)
        assert (last - first == length - 1).all() and len(first.unique()) > 3
    assert (covered[:, 0].flatten(1).sum(1) == math.prod(lengths)).all()


def test_blocks_of_level_1_cover_the_image():
    assert not Blocks(1.0)(grey(), Draws(0)).any()


# --- every file in conf/noise


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("image", [(3, 4, 4), (1, 1, 2), (2, 9), (1, 3, 4, 5)])
def test_level_0_is_the_identity(name, image):
    x = torch.rand(5, *image)
    assert torch.equal(corruption(job_of(f"noise={name}", "noise.level=0"))(x, Draws(0)), x)


@every_noise
def test_the_image_is_not_modified_in_place_and_draws_determine_the_result(name):
    corrupt, x = corruption(job_of(f"noise={name}")), torch.rand(5, 1, 8, 8)
    before = x.clone()
    noisy = corrupt(x, Draws(0))
    assert torch.equal(x, before) and not torch.equal(noisy, x)
    assert torch.equal(noisy, corrupt(x, Draws(0)))
    assert torch.equal(noisy, corrupt(x, Draws(1))) == (name in DETERMINISTIC)
    assert noisy.dtype == x.dtype and noisy.shape == x.shape


@every_noise
@pytest.mark.parametrize("image", [(3, 8, 6), (1, 1, 2), (2, 9), (1, 3, 4, 5)])
def test_stacked_noise_equals_noise_alone(name, image):
    """For images that differ between seeds and for shared images, both of which the engine uses."""
    corrupt, seeds = corruption(job_of(f"noise={name}")), [3, 1, 4]
    images = torch.rand(3, 20, *image)
    for x, dim in ((images, 0), (images[0], None)):
        noisy = vmap(lambda x, seed: corrupt(x, Draws(seed, "k")), (dim, 0), randomness="error")
        stacked = noisy(x, torch.tensor(seeds))
        for k, seed in enumerate(seeds):
            alone = corrupt(x if dim is None else x[k], Draws(seed, "k"))
            torch.testing.assert_close(stacked[k], alone, rtol=0, atol=1e-6)  # Blur may sum in another order


@every_noise
def test_training_uses_noisy_inputs_and_clean_targets(name, monkeypatch):
    job, data = job_of("model=ae", f"noise={name}", "network.hidden=16"), small_data()
    stack = stack_of(job)
    batches: list[Batch] = []
    losses = stack.model.losses
    monkeypatch.setattr(stack.model, "losses", lambda batch, *rest: (batches.append(batch), losses(batch, *rest))[1])
    trained(job, stack, data, Budget(epochs=1, batch_size=20))
    clean = {tuple(x.flatten().tolist()) for x in data.train.x}
    assert {tuple(x.flatten().tolist()) for batch in batches for x in batch.x} == clean
    assert not clean & {tuple(x.flatten().tolist()) for batch in batches for x in batch.input}


@every_noise
def test_the_loss_compares_with_the_clean_target(name, float64):
    """The loss is -log p(x | encoder(x~)), and differs from the loss with x~ as the target."""
    job = job_of("model=dae", f"noise={name}", "network.hidden=16", "network.norm=none")
    data, stack = small_data(), stack_of(job)
    batch = batch_of(job, data)
    loss = stack.losses(batch, ("k",), ("model",)).players["model"].item()
    model, x, input = stack.model, batch.x[0], batch.input[0]
    observation = model.decode(model.encode(Batch(x, input)).mean)
    assert loss == pytest.approx(-observation.log_prob(x).mean().item())
    assert loss != pytest.approx(-observation.log_prob(input).mean().item())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("level", ["-1", "nan", "inf", "much"])
def test_a_bad_level_is_refused(name, level):
    with pytest.raises(InputError, match="noise.level"):
        job_of(f"noise={name}", f"noise.level={level}")


@every_noise
def test_a_rate_above_1_is_refused(name):
    if name not in RATES:
        assert job_of(f"noise={name}", "noise.level=1.5").config["noise"]["level"] == 1.5
        return
    with pytest.raises(InputError, match="noise.level"):
        job_of(f"noise={name}", "noise.level=1.5")


@pytest.mark.parametrize("name", FILES)
def test_the_only_option_of_a_noise_is_its_level(name):
    assert set(FILES[name]) - ({"snrs"} if name == "recordings" else set()) == {"_target_", "level"}
