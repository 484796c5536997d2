import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, laplace, sobel
from sklearn.datasets import load_digits

from bench.core import UnavailableError
from bench.metrics.sharpness import (
    high_frequency_reconstructions,
    high_frequency_samples,
    sharpness_decoded,
    sharpness_reconstructions,
    sharpness_samples,
    tenengrad_reconstructions,
    tenengrad_samples,
)

X = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16
OF_SAMPLES = (sharpness_samples, tenengrad_samples, high_frequency_samples)
OF_BOTH = list(
    zip(OF_SAMPLES, (sharpness_reconstructions, tenengrad_reconstructions, high_frequency_reconstructions), strict=True)
)

of_samples = pytest.mark.parametrize("metric", OF_SAMPLES)


def blurred(sigma: float) -> torch.Tensor:
    return torch.from_numpy(gaussian_filter(X.numpy(), sigma, axes=(2, 3)))


@pytest.mark.parametrize(("of_samples", "of_reconstructions"), OF_BOTH)
def test_the_sharpness_of_real_images_is_1(of_samples, of_reconstructions):
    assert of_reconstructions(x=X, x_mean=X).item() == of_samples(x=X, samples=X).item() == 1.0
    assert of_samples(x=X[:800], samples=X[800:]).item() == pytest.approx(1.0, abs=0.1)
    y = blurred(0.7)
    assert of_reconstructions(x=X, x_mean=y) == of_samples(x=X, samples=y)


@of_samples
def test_blur_lowers_sharpness_and_noise_raises_it(metric):
    blur = [metric(x=X, samples=blurred(sigma)).item() for sigma in (0.0, 0.4, 0.7, 1.0, 2.0)]
    assert all(sharper > softer for sharper, softer in zip(blur, blur[1:], strict=False)) and blur[-1] < 0.05
    assert metric(x=X, samples=X + 0.5 * torch.randn_like(X)).item() > 1.5


@of_samples
def test_sharpness_scales_with_the_squared_contrast_and_ignores_brightness(metric):
    assert metric(x=X, samples=X / 2 + 0.3).item() == pytest.approx(0.25, rel=1e-5)
    assert metric(x=X, samples=torch.full_like(X, 0.5)).item() == pytest.approx(0.0, abs=1e-10)


def expected_ratio(measure) -> float:
    """An independent measure of images [N, H, W], of blurred images relative to real ones."""
    of_blurred, of_real = (measure(images[:, 0].double().numpy()) for images in (blurred(0.5), X))
    return pytest.approx(of_blurred / of_real, rel=1e-5)


def test_sharpness_equals_scipys_laplacian_at_interior_pixels():
    def variance(images: np.ndarray) -> float:
        return laplace(images, axes=(1, 2))[:, 1:-1, 1:-1].reshape(len(X), -1).var(axis=1).mean()

    assert sharpness_samples(x=X, samples=blurred(0.5)).item() == expected_ratio(variance)


def test_tenengrad_equals_scipys_sobel_at_interior_pixels():
    def squared(images: np.ndarray) -> float:
        gradients = [[sobel(image, axis)[1:-1, 1:-1] for axis in (0, 1)] for image in images]
        return np.square(gradients).sum(axis=1).mean()

    assert tenengrad_samples(x=X, samples=blurred(0.5)).item() == expected_ratio(squared)


def test_high_frequency_power_equals_numpys_fft_of_the_mirrored_image():
    frequency = np.fft.fftfreq(16)
    high = np.hypot(frequency[:, None], frequency) > 0.25

    def power(images: np.ndarray) -> float:
        mirrored = np.concatenate([images, images[:, ::-1]], axis=1)
        mirrored = np.concatenate([mirrored, mirrored[:, :, ::-1]], axis=2)
        return (np.abs(np.fft.fft2(mirrored)) ** 2)[:, high].sum(axis=1).mean()

    assert high_frequency_samples(x=X, samples=blurred(0.5)).item() == expected_ratio(power)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_white_noise_in_closed_form():
    # The Laplacian of white noise has 4^2 + 4 times the variance of the noise.
    checkerboard = torch.zeros(200, 1, 64, 64)
    checkerboard[:, :, ::2, ::2] = checkerboard[:, :, 1::2, 1::2] = 1  # its Laplacian is -4 and 4: variance 16
    assert sharpness_samples(x=checkerboard, samples=noise(200, 1, 64, 64)).item() == pytest.approx(20 / 16, rel=0.02)
    # A Sobel gradient has 2 (1 + 4 + 1) times the variance of white noise; for a ramp it is 8 times the step.
    ramp = torch.arange(64.0).expand(200, 1, 64, 64)
    assert tenengrad_samples(x=ramp, samples=noise(200, 1, 64, 64)).item() == pytest.approx(24 / 64, rel=0.02)
    assert tenengrad_samples(x=ramp, samples=ramp.mT + 2 * ramp).item() == pytest.approx(5, rel=1e-5)


def waves(high: bool, n: int = 50, side: int = 32) -> torch.Tensor:
    """Random sums [n, 1, H, W] of cosines, either above a quarter of a cycle per pixel or at most that."""
    index = torch.arange(side)
    cosines = ((index + 0.5) * index[:, None] * math.pi / side).cos()  # row i: i / (2 side) cycles per pixel
    chosen = (index.square() + index[:, None].square() > (side / 2) ** 2) == high
    weights = noise(n, 1, side, side, seed=int(high)) * chosen
    return cosines.T @ weights @ cosines


def test_high_frequency_power_is_the_mean_square_of_the_fine_structure_only():
    """By Parseval, if an image has only fine structure, its power is that of its pixels."""
    fine, coarse, other = waves(high=True), waves(high=False), 3 * waves(high=True, n=20)
    ratio = (other.square().mean() / fine.square().mean()).item()
    assert high_frequency_samples(x=fine, samples=other).item() == pytest.approx(ratio, rel=1e-5)
    assert high_frequency_samples(x=fine, samples=fine + coarse).item() == pytest.approx(1, rel=1e-4)
    assert high_frequency_samples(x=fine, samples=coarse).item() == pytest.approx(0, abs=1e-8)
    white = noise(500, 1, 32, 32)  # equal power at all frequencies: the square without a quarter of the disc
    expected = (1 - math.pi / 16) * (white.square().mean() / fine.square().mean()).item()
    assert high_frequency_samples(x=fine, samples=white).item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("down", "across", "fine"),
    [(0, 0.2, False), (0, 0.3, True), (0.2, 0, False), (0.3, 0, True), (0.15, 0.15, False), (0.21, 0.21, True)],
)
def test_a_sine_is_fine_above_a_quarter_of_a_cycle_per_pixel(down, across, fine):
    """At frequencies that do not fit the image, and at any phase, only a little power leaks."""
    i, j = torch.arange(64.0)[:, None], torch.arange(60.0)
    phase = 2 * math.pi * torch.arange(10)[:, None, None] / 10
    sine = (2 * math.pi * (down * i + across * j) + phase).sin()[:, None]
    share = high_frequency_samples(x=waves(high=True), samples=sine) * waves(high=True).square().mean()
    assert share.item() / sine.square().mean().item() == pytest.approx(1.0 if fine else 0.0, abs=0.06)


@of_samples
def test_colour_images_are_converted_to_grey(metric):
    colour = X.repeat(1, 3, 1, 1) * torch.tensor([0.5, 1.0, 1.5]).view(1, 3, 1, 1)  # the mean of the channels is X
    assert metric(x=X, samples=colour).item() == pytest.approx(1.0, rel=1e-5)


@of_samples
def test_sharpness_is_a_mean_over_images_in_any_order(metric):
    order, y = torch.randperm(len(X)), blurred(1.0)
    whole = metric(x=X, samples=y[:1000]).item()
    assert metric(x=X[order], samples=y[:1000].flip(0)).item() == pytest.approx(whole, rel=1e-5)
    parts = [metric(x=X, samples=part).item() for part in y[:1000].split(250)]
    assert whole == pytest.approx(sum(parts) / 4, rel=1e-5)


@of_samples
def test_transposing_and_flipping_images_changes_nothing(metric):
    y = blurred(0.7)
    value = metric(x=X, samples=y).item()
    for transformed in (y.mT, y.flip(2), y.flip(3)):
        assert metric(x=X, samples=transformed.contiguous()).item() == pytest.approx(value, rel=1e-5)


@of_samples
@pytest.mark.parametrize("grey", [0.0, 0.3, 1.0])
def test_constant_real_images_have_no_sharpness(metric, grey):
    """The transform and the sums round, so the value is not always exactly 0."""
    for flat in (torch.full((5, 1, 7, 9), grey), torch.rand(5, 1, 1, 1).expand(-1, -1, 28, 28)):
        with pytest.raises(UnavailableError, match="^the test images are flat: they have no fine structure"):
            metric(x=flat, samples=torch.rand(5, 1, 7, 9))
    speck = torch.full((1000, 1, 28, 28), grey)
    speck[0, 0, 9, 9] -= 1 / 255  # one grey level in one pixel of a thousand images
    assert metric(x=speck, samples=speck) == 1


def test_the_sharpness_of_decoded_images_equals_that_of_samples():
    assert sharpness_decoded(x=X, decoded=blurred(0.7)).item() == sharpness_samples(x=X, samples=blurred(0.7)).item()


@of_samples
def test_sharpness_needs_three_pixels(metric):
    with pytest.raises(UnavailableError, match="fewer than 3 pixels"):
        metric(x=torch.rand(4, 1, 1, 2), samples=torch.rand(4, 1, 1, 2))
    assert metric(x=torch.rand(4, 1, 3, 4), samples=torch.rand(4, 1, 3, 4)) > 0
