import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.datasets import load_digits
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from bench.core import UnavailableError
from bench.metrics import summarise
from bench.metrics.reconstruction import (
    denoising_gain_db,
    denoising_gain_db_filter,
    denoising_psnr,
    denoising_ssim,
    psnr,
    reconstruction_mse,
    ssim,
)

torch.manual_seed(0)
X = torch.rand(20, 3, 16, 12)
Y = (X + 0.1 * torch.randn_like(X)).clamp(0, 1)


def digits() -> torch.Tensor:
    return torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16


def test_a_constant_error_in_closed_form():
    x_mean = X + 0.1
    assert reconstruction_mse(x=X, x_mean=x_mean).tolist() == pytest.approx([0.01] * 20, rel=1e-5)
    assert psnr(x=X, x_mean=x_mean).tolist() == pytest.approx([20.0] * 20, rel=1e-5)


def test_a_copy_has_no_error_and_no_finite_psnr():
    assert reconstruction_mse(x=X, x_mean=X).eq(0).all()
    three_copies = torch.cat([X[:3], Y[3:]])
    with pytest.raises(UnavailableError, match="^3 of 20 images are reproduced exactly: their PSNR is infinite$"):
        psnr(x=X, x_mean=three_copies)
    assert ssim(x=X, x_mean=X).tolist() == pytest.approx([1.0] * 20, abs=1e-5)


def test_psnr_equals_torchmetrics():
    expected = [peak_signal_noise_ratio(y[None], x[None], data_range=1.0).item() for x, y in zip(X, Y, strict=True)]
    assert psnr(x=X, x_mean=Y).tolist() == pytest.approx(expected, rel=1e-5)
    assert denoising_psnr(x=X, x_denoised=Y).tolist() == pytest.approx(expected, rel=1e-5)


def test_ssim_equals_torchmetrics_if_its_window_fits():
    expected = structural_similarity_index_measure(Y, X, data_range=1.0, reduction="none")
    assert ssim(x=X, x_mean=Y).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert denoising_ssim(x=X, x_denoised=Y).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_ssim_equals_the_formula():
    """The mean of Wang et al. 2004, eq. 13, over all pixels and channels."""

    def weighted(images: torch.Tensor) -> np.ndarray:
        return gaussian_filter(images.double().numpy(), 1.5, truncate=3.5, mode="mirror", axes=(2, 3))

    m, n = weighted(X), weighted(Y)
    variances = weighted(X.double() ** 2) - m**2 + weighted(Y.double() ** 2) - n**2
    covariance = weighted(X.double() * Y.double()) - m * n
    scores = (2 * m * n + 1e-4) * (2 * covariance + 9e-4) / ((m**2 + n**2 + 1e-4) * (variances + 9e-4))
    assert ssim(x=X, x_mean=Y).tolist() == pytest.approx(scores.mean((1, 2, 3)).tolist(), abs=1e-4)


@pytest.mark.parametrize("side", [3, 4, 5, 7, 8, 9, 10, 11, 28])
def test_ssim_works_for_every_image_size_and_falls_with_noise(side):
    x, noise = torch.rand(30, 1, side, side), torch.randn(30, 1, side, side)
    scores = [summarise(ssim(x=x, x_mean=x + level * noise)).value for level in (0.0, 0.1, 0.3, 1.0)]
    assert scores[0] == pytest.approx(1.0, abs=1e-5)
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.7


def test_ssim_of_two_grey_levels_in_closed_form():
    # Without variance only the luminance term is left, with C1 = 0.01^2 (Wang et al. 2004, eq. 6).
    x, y = torch.full((1, 1, 8, 8), 0.2), torch.full((1, 1, 8, 8), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(x=x, x_mean=y).item() == pytest.approx(expected, rel=1e-3)


def test_ssim_gives_one_number_per_image():
    assert ssim(x=X[:1], x_mean=Y[:1]).shape == (1,)
    many = X.repeat(51, 1, 1, 1)[:1001]  # one more than are compared at once
    assert ssim(x=many, x_mean=many).shape == (1001,)


def test_ssim_needs_three_pixels():
    with pytest.raises(UnavailableError, match="fewer than 3 pixels"):
        ssim(x=torch.rand(4, 1, 2, 8), x_mean=torch.rand(4, 1, 2, 8))


def test_the_order_of_images_does_not_matter():
    order = torch.randperm(len(X))
    for metric in (reconstruction_mse, psnr, ssim):
        original, shuffled = metric(x=X, x_mean=Y), metric(x=X[order], x_mean=Y[order])
        assert torch.allclose(original[order], shuffled, rtol=1e-5)
    for metric in (denoising_psnr, denoising_ssim):
        original, shuffled = metric(x=X, x_denoised=Y), metric(x=X[order], x_denoised=Y[order])
        assert torch.allclose(original[order], shuffled, rtol=1e-5)


def test_the_score_of_an_image_does_not_depend_on_the_others():
    x = torch.rand(2100, 1, 8, 8)  # more than twice as many as are compared at once
    y = x + 0.1 * torch.randn_like(x)
    for metric in (reconstruction_mse, psnr, ssim):
        alone = torch.cat([metric(x=x[i : i + 1], x_mean=y[i : i + 1]) for i in range(0, 2100, 100)])
        torch.testing.assert_close(metric(x=x, x_mean=y)[::100], alone, rtol=1e-4, atol=1e-5)


def test_less_remaining_noise_scores_higher():
    noise = torch.randn_like(X)
    for metric in (denoising_psnr, denoising_ssim):
        scores = [metric(x=X, x_denoised=X + level * noise).mean().item() for level in (0.01, 0.1, 0.3, 1.0)]
        assert scores == sorted(scores, reverse=True)


def test_gain_in_closed_form():
    noise = torch.randn_like(X)
    for fraction, expected in ((1.0, 0.0), (0.5, 20 * math.log10(2)), (2.0, -20 * math.log10(2))):
        gain = denoising_gain_db(x=X, x_corrupted=X + noise, x_denoised=X + fraction * noise)
        assert gain.item() == pytest.approx(expected, abs=1e-4)


def test_gain_is_computed_over_all_pixels_and_is_not_a_mean_of_gains():
    x = torch.zeros(2, 1, 1, 1)
    noisy, denoised = torch.tensor([1.0, 3.0]).view(x.shape), torch.tensor([1.0, 0.0]).view(x.shape)
    assert denoising_gain_db(x=x, x_corrupted=noisy, x_denoised=denoised).item() == pytest.approx(
        10 * math.log10(10 / 1)
    )


def filter_gain(x: torch.Tensor, noise: torch.Tensor) -> float:
    half = len(x) // 2
    noisy = x + noise
    return float(
        denoising_gain_db_filter(
            x=x[:half], x_corrupted=noisy[:half], validation_x=x[half:], validation_x_corrupted=noisy[half:]
        )
    )


def test_the_gain_of_the_filter_on_constant_images_in_closed_form():
    # On constant grey, each axis scales white noise by the mean squared norm of the filter's rows (borders reflect).
    rows = gaussian_filter1d(np.eye(64), 3.0, axis=0)  # 3 pixels is the widest candidate, so the best here
    remaining = (rows**2).sum(axis=1).mean() ** 2
    noise = torch.randn(400, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    gain = filter_gain(torch.full_like(noise, 0.5), 0.5 * noise)
    assert gain == pytest.approx(-10 * math.log10(remaining), abs=0.2)


def test_the_filter_never_makes_digits_worse_and_gains_more_with_more_noise():
    x = digits()[:600]
    noise = torch.randn_like(x)
    gains = [filter_gain(x, level * noise) for level in (0.001, 0.25, 0.5, 1.0)]
    assert gains[0] == pytest.approx(0.0, abs=0.01)
    assert gains == sorted(gains) and gains[-1] > 3


def test_the_filter_mixes_neither_images_nor_channels():
    # Each channel of each image is constant, so a filter within it changes nothing.
    x = torch.rand(20, 3, 1, 1).expand(-1, -1, 8, 8).contiguous()
    offset = 0.1 * torch.rand(20, 3, 1, 1)
    assert filter_gain(x, offset.expand_as(x)) == pytest.approx(0.0, abs=1e-4)
