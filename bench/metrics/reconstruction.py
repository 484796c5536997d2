"""How close is the image that the posterior mean decodes to? x, x_mean: [N, C, *sides] in [0, 1]."""

from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bench.core import UnavailableError
from bench.metrics import metric

_FILTER_SIGMAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)  # pixels


def _squared_error(x: Tensor, y: Tensor) -> Tensor:
    """The mean over an image's pixels, [N]."""
    return (x - y).square().flatten(1).mean(1)


def _gain_db(x: Tensor, before: Tensor, after: Tensor) -> Tensor:
    noise, remaining = _squared_error(x, before).mean(), _squared_error(x, after).mean()
    if noise == 0:
        raise UnavailableError("the corruption changes no test image")
    if remaining == 0:
        raise UnavailableError("every test image is restored exactly: the gain is infinite")
    return 10 * (noise / remaining).log10()


def _psnr(x: Tensor, y: Tensor) -> Tensor:
    error = _squared_error(x, y)
    if exact := int((error == 0).sum()):
        raise UnavailableError(f"{exact} of {len(x)} images are reproduced exactly: their PSNR is infinite")
    return -10 * error.log10()


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

    radius = min(5, (min(x.shape[2:]) - 1) // 2)
    if radius == 0:
        raise UnavailableError("images of fewer than 3 pixels a side have no window to compare in")
    # The library's window depends on sigma only: its radius is int(3.5 sigma + 0.5). Its map has one score per pixel,
    # with images reflected at the border. We average it: older versions ignore the border (torchmetrics #2721).
    maps = (
        structural_similarity_index_measure(b, a, sigma=0.3 * radius, data_range=1.0, return_full_image=True)[1]
        for a, b in zip(x.split(1000), y.split(1000), strict=True)
    )
    return torch.cat([scores.flatten(1).mean(1) for scores in maps])


@metric(better="lower", ideal=0.0)
def reconstruction_mse(x: Tensor, x_mean: Tensor) -> Tensor:
    """Squared error per pixel, [N]."""
    return _squared_error(x, x_mean)


@metric(better="higher", unit="dB", sides={2, 3})
def psnr(x: Tensor, x_mean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, [N], with a peak of 1. n/a if an image is reproduced exactly."""
    return _psnr(x, x_mean)


@metric(better="higher", ideal=1.0, sides={2})
def ssim(x: Tensor, x_mean: Tensor) -> Tensor:
    """Structural similarity, [N] (Wang et al. 2004: Gaussian window of 11 x 11 pixels, sigma = 1.5, data range 1).

    The mean over channels and all pixels; images are reflected at the border, where the paper has no window. If the
    shorter side is below 11 pixels, the window is the largest odd one that fits, with sigma in proportion: 7 x 7 and
    sigma = 0.9 for images of 8 x 8. Such values compare only with one another. n/a below 3 pixels.
    """
    return _ssim(x, x_mean)


@metric(better="higher", unit="dB", sides={2, 3})
def denoising_psnr(x: Tensor, x_denoised: Tensor) -> Tensor:
    """`psnr` between the clean images and the reconstructions of corrupted ones, [N]."""
    return _psnr(x, x_denoised)


@metric(better="higher", ideal=1.0, sides={2})
def denoising_ssim(x: Tensor, x_denoised: Tensor) -> Tensor:
    """`ssim` between the clean images and the reconstructions of corrupted ones, [N]."""
    return _ssim(x, x_denoised)


@metric(better="higher", unit="dB")
def denoising_gain_db(x: Tensor, x_corrupted: Tensor, x_denoised: Tensor) -> Tensor:
    """10 log10 of the corrupted images' squared error over that of their reconstructions, over all pixels; 0-dim."""
    return _gain_db(x, x_corrupted, x_denoised)


@metric(better=None, unit="dB")
def denoising_gain_db_filter(
    x: Tensor, x_corrupted: Tensor, validation_x: Tensor, validation_x_corrupted: Tensor
) -> Tensor:
    """`denoising_gain_db` of a Gaussian filter whose sigma is the best on the validation images; 0-dim.

    A baseline, the same for all models. The candidates include sigma = 0, which filters nothing.
    """

    def filtered(images: Tensor, sigma: float) -> Tensor:
        return torch.from_numpy(gaussian_filter(images.numpy(), sigma, axes=tuple(range(2, images.ndim))))

    errors = [_squared_error(validation_x, filtered(validation_x_corrupted, s)).mean().item() for s in _FILTER_SIGMAS]
    best = _FILTER_SIGMAS[errors.index(min(errors))]
    return _gain_db(x, x_corrupted, filtered(x_corrupted, best))
